//! Documents that stay as they are: what was waited for does not come any more.

use serde_json::Value;
use strongroom_model::dialect::resource::Resource;

/// Why a document will not become what somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// What it says itself.
    Told(String),
    /// What its last event says, if that has this reason.
    Event(&'static str),
}

/// Returns why a document stays as it is until somebody changes it; `None` while something is still done about
/// it, or may be.
pub(super) fn of(resource: Resource, document: &Value) -> Option<Ending> {
    let status = &document["status"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let retry = text(&document["metadata"]["annotations"][RETRY]);
    match resource {
        // Which try its state is of is written beside it.
        Resource::BackingImage => {
            let has_failed = status["state"].as_str().is_some_and(|state| FAILED.contains(&state));
            (has_failed && text(&status["try"]) == retry)
                .then(|| Ending::Told(text(&status["message"])))
        }
        Resource::VirtualMachineImage => {
            let exceeded = condition(document, "RetryLimitExceeded")?;
            (exceeded["status"] == "True").then(|| Ending::Told(text(&exceeded["message"])))
        }
        Resource::PersistentVolume => {
            (status["phase"] == "Failed").then(|| Ending::Told(text(&status["message"])))
        }
        Resource::PersistentVolumeClaim if status["phase"] == "Lost" => {
            Some(Ending::Event("ClaimLost"))
        }
        // Whether what they say is of this try is not told where somebody wants another one.
        _ if !retry.is_empty() => None,
        Resource::PersistentVolumeClaim if status["phase"] == "Pending" => {
            Some(Ending::Event(PROVISIONING))
        }
        Resource::LonghornVolume => {
            let scheduled = condition(document, "Scheduled")?;
            (scheduled["reason"] == PROVISIONING).then(|| Ending::Told(text(&scheduled["message"])))
        }
        _ => None,
    }
}

/// Returns a condition by its type, in whichever case.
pub(super) fn condition<'a>(document: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut conditions = document["status"]["conditions"].as_array()?.iter();
    conditions.find(|found| found["type"].as_str().is_some_and(|is| is.eq_ignore_ascii_case(kind)))
}

/// The states of images that have failed.
const FAILED: [&str; 2] = ["failed", "failed-and-cleanup"];

/// The reason of a volume that could not be made, after all tries.
const PROVISIONING: &str = "ProvisioningFailed";

/// The annotation by which somebody wants a job to be tried again.
const RETRY: &str = "strongroom.io/retry";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_failed_for_good_has_ended_and_what_is_tried_again_has_not() {
        let told = |text: &str| Some(Ending::Told(text.to_owned()));
        let failed = json!({ "status": { "state": "failed", "message": "no room" } });
        assert_eq!(of(Resource::BackingImage, &failed), told("no room"));
        let mut again = failed.clone();
        again["metadata"] = json!({ "annotations": { RETRY: "1" } });
        assert_eq!(of(Resource::BackingImage, &again), None);
        again["status"]["try"] = json!("1");
        assert_eq!(of(Resource::BackingImage, &again), told("no room"));
        let pending = json!({ "status": { "state": "pending", "message": "waits" } });
        assert_eq!(of(Resource::BackingImage, &pending), None);

        let image = |exceeded: &str| {
            json!({ "status": { "conditions": [
                { "type": "Imported", "status": "False", "message": "404" },
                { "type": "RetryLimitExceeded", "status": exceeded, "message": "404" },
            ] } })
        };
        assert_eq!(of(Resource::VirtualMachineImage, &image("True")), told("404"));
        assert_eq!(of(Resource::VirtualMachineImage, &image("False")), None);

        let claim = |phase: &str| json!({ "status": { "phase": phase } });
        let of_claim = |phase: &str| of(Resource::PersistentVolumeClaim, &claim(phase));
        assert_eq!(of_claim("Lost"), Some(Ending::Event("ClaimLost")));
        assert_eq!(of_claim("Pending"), Some(Ending::Event(PROVISIONING)));
        assert_eq!(of_claim("Bound"), None);
        let mut again = claim("Pending");
        again["metadata"] = json!({ "annotations": { RETRY: "1" } });
        assert_eq!(of(Resource::PersistentVolumeClaim, &again), None);

        let volume = |reason: &str| {
            json!({ "status": { "conditions": [
                { "type": "Scheduled", "status": "False", "reason": reason, "message": "m" },
            ] } })
        };
        assert_eq!(of(Resource::LonghornVolume, &volume(PROVISIONING)), told("m"));
        assert_eq!(of(Resource::LonghornVolume, &volume("Provisioning")), None);
        assert_eq!(of(Resource::StorageClass, &json!({})), None);
    }
}
