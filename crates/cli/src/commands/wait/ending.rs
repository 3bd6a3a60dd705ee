//! Documents that stay as they are: what was waited for does not come any more.

use serde_json::Value;
use strongroom_model::dialect::resource::Resource;

/// Returns why a document stays as it is until somebody changes it; `None` while something is still done about
/// it, or may be.
pub(super) fn of(resource: Resource, document: &Value) -> Option<String> {
    let status = &document["status"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let retry = text(&document["metadata"]["annotations"][RETRY]);
    match resource {
        // Which try its state is of is written beside it.
        Resource::BackingImage => {
            let has_failed = status["state"].as_str().is_some_and(|state| FAILED.contains(&state));
            (has_failed && text(&status["try"]) == retry).then(|| text(&status["message"]))
        }
        Resource::VirtualMachineImage => {
            let exceeded = condition(document, "RetryLimitExceeded")?;
            (exceeded["status"] == "True").then(|| text(&exceeded["message"]))
        }
        Resource::PersistentVolume => {
            (status["phase"] == "Failed").then(|| text(&status["message"]))
        }
        Resource::PersistentVolumeClaim if status["phase"] == "Lost" => {
            let provisioned = condition(document, "Provisioned");
            Some(provisioned.map(|found| text(&found["message"])).unwrap_or_default())
        }
        // Whether what they say is of this try is not told where somebody wants another one.
        Resource::PersistentVolumeClaim | Resource::LonghornVolume if retry.is_empty() => {
            let kinds = ["Provisioned", "Scheduled"];
            let mut found = kinds.iter().filter_map(|kind| condition(document, kind));
            let failed = found.find(|found| found["reason"] == "ProvisioningFailed")?;
            Some(text(&failed["message"]))
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

/// The annotation by which somebody wants a job to be tried again.
const RETRY: &str = "strongroom.io/retry";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_failed_for_good_has_ended_and_what_is_tried_again_has_not() {
        let told = |text: &str| Some(text.to_owned());
        let failed = json!({ "status": { "state": "failed", "message": "no room" } });
        assert_eq!(of(Resource::BackingImage, &failed), told("no room"));
        let mut again = failed;
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

        for (resource, kind) in [
            (Resource::PersistentVolumeClaim, "Provisioned"),
            (Resource::LonghornVolume, "Scheduled"),
        ] {
            let made = |phase: &str, reason: &str| {
                let found =
                    json!({ "type": kind, "status": "False", "reason": reason, "message": "m" });
                json!({ "status": { "phase": phase, "conditions": [found] } })
            };
            assert_eq!(of(resource, &made("Pending", "ProvisioningFailed")), told("m"));
            assert_eq!(of(resource, &made("Pending", "Provisioning")), None);
            let mut again = made("Pending", "ProvisioningFailed");
            again["metadata"] = json!({ "annotations": { RETRY: "1" } });
            assert_eq!(of(resource, &again), None);
        }
        let lost = json!({ "status": { "phase": "Lost", "conditions": [
            { "type": "Provisioned", "status": "False", "reason": "ClaimLost", "message": "gone" },
        ] } });
        assert_eq!(of(Resource::PersistentVolumeClaim, &lost), told("gone"));
        assert_eq!(of(Resource::StorageClass, &json!({})), None);
    }
}
