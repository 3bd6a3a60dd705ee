//! Moments as Kubernetes writes them, and what is noted with one: conditions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use strongroom_model::dialect::object::Object;

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Truth {
    /// It is.
    True,
    /// It is not.
    False,
    /// Nobody knows yet.
    Unknown,
}

impl Truth {
    /// Returns it as conditions say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Returns a moment as Kubernetes writes it: `2026-11-21T22:10:05Z`.
pub(crate) fn text(moment: SystemTime) -> String {
    humantime::format_rfc3339_seconds(moment).to_string()
}

/// Returns the present as Kubernetes writes it.
pub(crate) fn now() -> String {
    text(SystemTime::now())
}

/// Returns seconds since 1970 as Kubernetes writes a moment.
pub(crate) fn of_seconds(seconds: u64) -> String {
    text(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Puts a condition into the status of a document, in the place of the one of its type. The time of its last
/// transition stays unless it is another truth.
pub(crate) fn set_condition(
    object: &mut Object,
    kind: &str,
    truth: Truth,
    reason: &str,
    message: &str,
) {
    let mut conditions = match object.at(&["status", "conditions"]) {
        Some(Value::Array(conditions)) => conditions.clone(),
        _ => Vec::new(),
    };
    let is_same = |found: &&mut Value| found.get("type").and_then(Value::as_str) == Some(kind);
    let found = conditions.iter_mut().find(is_same);
    let stays = found.as_ref().and_then(|found| {
        let same = found.get("status").and_then(Value::as_str) == Some(truth.name());
        found.get("lastTransitionTime").filter(|_| same).cloned()
    });
    let condition = json!({
        "type": kind,
        "status": truth.name(),
        "reason": reason,
        "message": message,
        "lastTransitionTime": stays.unwrap_or_else(|| now().into()),
    });
    match found {
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
    object.set(&["status", "conditions"], conditions);
}

/// Puts the condition of something that has failed, and is tried again, into the status of a document. Whoever
/// writes into a document has it looked at again, at once; a failure that tells of itself in other words each
/// time would be tried without a pause. Its words are therefore new once in a while only.
pub(crate) fn set_failure(
    object: &mut Object,
    kind: &str,
    reason: &str,
    message: &str,
    now: SystemTime,
) {
    let told = |object: &Object| {
        let conditions = object.at(&["status", "conditions"])?.as_array()?.iter();
        let found = conditions.into_iter().find(|found| found["type"] == kind)?;
        (found["reason"] == reason).then(|| found.clone())
    };
    if let Some(told) = told(object) {
        let since = told["lastProbeTime"].as_str();
        let since = since.and_then(|text| humantime::parse_rfc3339(text).ok());
        let is_recent = since.is_some_and(|since| {
            now.duration_since(since).is_ok_and(|elapsed| elapsed < BETWEEN_WORDS)
        });
        if is_recent || told["message"] == message {
            return;
        }
    }
    set_condition(object, kind, Truth::False, reason, message);
    let Some(Value::Array(mut conditions)) = object.take(&["status", "conditions"]) else { return };
    if let Some(found) = conditions.iter_mut().find(|found| found["type"] == kind) {
        found["lastProbeTime"] = text(now).into();
    }
    object.set(&["status", "conditions"], conditions);
}

/// How long a failure keeps its words.
const BETWEEN_WORDS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use strongroom_model::dialect::resource::Resource;

    use super::*;

    #[test]
    fn the_time_of_a_condition_changes_with_its_truth_alone() {
        let mut object = Object::new(Resource::BackingImage, Some("lab"), "ubuntu");
        set_condition(&mut object, "Ready", Truth::False, "Waiting", "for its source");
        let path = ["status", "conditions"];
        let first = |object: &Object| object.at(&path).unwrap().get(0).unwrap().clone();
        let mut old = first(&object);
        old["lastTransitionTime"] = "2000-01-01T00:00:00Z".into();
        object.set(&path, vec![old]);
        set_condition(&mut object, "Ready", Truth::False, "Waiting", "for its Secret");
        assert_eq!(first(&object)["lastTransitionTime"], "2000-01-01T00:00:00Z");
        assert_eq!(first(&object)["message"], "for its Secret");
        set_condition(&mut object, "Ready", Truth::True, "Done", "");
        assert_ne!(first(&object)["lastTransitionTime"], "2000-01-01T00:00:00Z");
        assert_eq!(object.at(&path).unwrap().as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_failure_that_changes_its_words_each_time_is_written_down_once_in_a_while() {
        let mut object = Object::new(Resource::PersistentVolumeClaim, Some("lab"), "data");
        let begun = UNIX_EPOCH + Duration::from_secs(1_795_300_000);
        let mut told = Vec::new();
        for second in 0..180 {
            let before = object.clone();
            let message = format!("attempt {second}");
            let now = begun + Duration::from_secs(second);
            set_failure(&mut object, "Provisioned", "Failed", &message, now);
            if object != before {
                told.push(second);
            }
        }
        assert_eq!(told, [0, 60, 120]);
        // The same again is no news, however late.
        let before = object.clone();
        let late = begun + Duration::from_secs(10_000);
        set_failure(&mut object, "Provisioned", "Failed", "attempt 120", late);
        assert_eq!(object, before);
        // What it waits for meanwhile is told at once, and so is the next failure.
        set_condition(&mut object, "Provisioned", Truth::False, "SecretMissing", "");
        set_failure(&mut object, "Provisioned", "Failed", "again", late);
        assert_eq!(object.at(&["status", "conditions"]).unwrap()[0]["message"], "again");
    }

    #[test]
    fn moments_are_written_as_kubernetes_does() {
        assert_eq!(of_seconds(0), "1970-01-01T00:00:00Z");
        assert_eq!(of_seconds(1_795_300_000), "2026-11-21T22:26:40Z");
    }
}
