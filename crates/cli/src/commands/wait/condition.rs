//! What is waited for.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use strongroom_model::dialect::resource::Resource;

use super::ending;
use crate::commands::json_path::Path;

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    /// That the document is gone.
    Deleted,
    /// That a condition of its status has this status.
    Status {
        /// Its type, in whichever case.
        kind: String,
        wanted: String,
    },
    /// That all values at a path are this, or that there are any at all.
    Value { path: Path, wanted: Option<String> },
    /// That its state, as its kind calls that, is this one in whichever case.
    State(String),
}

impl Condition {
    /// Returns whether a document is as waited for.
    pub(super) fn is_met(&self, resource: Resource, document: &Value) -> bool {
        let found = self.values(resource, document);
        match self {
            Self::Deleted => false,
            Self::Status { wanted, .. } | Self::State(wanted) => {
                found.iter().any(|found| found.eq_ignore_ascii_case(wanted))
            }
            Self::Value { wanted: Some(wanted), .. } => {
                !found.is_empty() && found.iter().all(|found| found == wanted)
            }
            Self::Value { wanted: None, .. } => !found.is_empty(),
        }
    }

    /// Returns what a document has instead, for people.
    pub(super) fn found(&self, resource: Resource, document: &Value) -> String {
        let found = match &self.values(resource, document)[..] {
            [] => "not known".to_owned(),
            found => found.join(" "),
        };
        match message(document) {
            Some(message) => format!("{found} ({message})"),
            None => found,
        }
    }

    /// Returns whether it is about what the server says of a document: nobody else changes that.
    pub(super) fn is_of_status(&self) -> bool {
        match self {
            Self::Deleted => false,
            Self::Status { .. } | Self::State(_) => true,
            Self::Value { path, .. } => path.begins_with("status"),
        }
    }

    /// Tells what is wrong with waiting for this of a kind.
    ///
    /// # Errors
    ///
    /// The states that the kind has, when it has no such state.
    pub(super) fn check(&self, resource: Resource) -> Result<(), String> {
        let Self::State(wanted) = self else { return Ok(()) };
        let kind = resource.kind();
        match states(resource) {
            [] => Err(format!(
                "a {kind} has no state: wait for jsonpath={{PATH}}=VALUE, or for delete"
            )),
            known if known.iter().any(|known| known.eq_ignore_ascii_case(wanted)) => Ok(()),
            known => {
                Err(format!("a {kind} is never {wanted}: its states are {}", known.join(", ")))
            }
        }
    }

    fn values(&self, resource: Resource, document: &Value) -> Vec<String> {
        match self {
            Self::Deleted => Vec::new(),
            Self::Status { kind, .. } => {
                let found = ending::condition(document, kind);
                found.and_then(|found| text(&found["status"])).into_iter().collect()
            }
            Self::Value { path, .. } => path.find(document).into_iter().filter_map(text).collect(),
            Self::State(_) => state(resource, document).into_iter().collect(),
        }
    }
}

/// Returns the states that documents of a kind may have; none where they have no state.
fn states(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::BackingImage => &[
            "pending",
            "starting",
            "in-progress",
            "ready-for-transfer",
            "ready",
            "failed",
            "failed-and-cleanup",
            "unknown",
        ],
        Resource::VirtualMachineImage => &["pending", "in-progress", "ready", "failed"],
        Resource::PersistentVolumeClaim => &["Pending", "Bound", "Lost"],
        Resource::PersistentVolume => &["Pending", "Available", "Bound", "Released", "Failed"],
        Resource::LonghornVolume => {
            &["creating", "attached", "detached", "attaching", "detaching", "deleting"]
        }
        Resource::VolumeSnapshot => &["pending", "ready"],
        Resource::Namespace => &["Active", "Terminating"],
        Resource::Secret
        | Resource::Event
        | Resource::StorageClass
        | Resource::VolumeSnapshotClass
        | Resource::VirtualMachine => &[],
    }
}

/// Returns the state of a document, as its kind calls that.
fn state(resource: Resource, document: &Value) -> Option<String> {
    let status = &document["status"];
    let is_true = |kind: &str| {
        ending::condition(document, kind).is_some_and(|found| found["status"] == "True")
    };
    match resource {
        // It has conditions in place of a state.
        Resource::VirtualMachineImage => Some(
            match () {
                () if is_true("Imported") => "ready",
                () if is_true("RetryLimitExceeded") => "failed",
                () if is_true("Initialized") => "in-progress",
                () => "pending",
            }
            .to_owned(),
        ),
        Resource::VolumeSnapshot => {
            let is_ready = status["readyToUse"] == true;
            Some(if is_ready { "ready" } else { "pending" }.to_owned())
        }
        _ => {
            let disks = status["diskFileStatusMap"].as_object();
            let disk = disks.and_then(|disks| disks.values().next()).map(|disk| &disk["state"]);
            ["state", "currentState", "phase"]
                .iter()
                .map(|key| &status[*key])
                .chain(disk)
                .find_map(text)
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "delete" {
            return Ok(Self::Deleted);
        }
        let (kind, rest) = text.split_once('=').unwrap_or((text, ""));
        match (kind, rest) {
            ("state", state) if !state.is_empty() => Ok(Self::State(state.to_owned())),
            ("condition", rest) if !rest.is_empty() => {
                let (kind, wanted) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Self::Status { kind: kind.to_owned(), wanted: wanted.to_owned() })
            }
            ("jsonpath", rest) if !rest.is_empty() => value(rest),
            _ => {
                Err("there are state=STATE, condition=TYPE[=STATUS], jsonpath={PATH}[=VALUE] and \
                      delete"
                    .to_owned())
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deleted => f.write_str("its deletion"),
            Self::Status { kind, .. } => write!(f, "the condition {kind}"),
            Self::Value { path, .. } => write!(f, "{{{}}}", path.text()),
            Self::State(_) => f.write_str("its state"),
        }
    }
}

/// Reads `{.status.phase}=Bound`; the braces may be left out where no filter is in between.
fn value(text: &str) -> Result<Condition, String> {
    // Some shells leave the quotes that the manual shows.
    let text = text
        .strip_prefix("'{")
        .map_or(text.to_owned(), |rest| format!("{{{}", rest.replacen("}'", "}", 1)));
    let (path, wanted) = match text.starts_with('{') {
        true => {
            let end = Path::end_of_braces(&text).ok_or("a brace is not closed")?;
            let (path, behind) = text.split_at(end);
            match behind.strip_prefix('=') {
                Some(wanted) => (path, Some(wanted)),
                None if behind.is_empty() => (path, None),
                None => return Err(format!("{behind} stands behind the path: =VALUE may")),
            }
        }
        false => match text.split_once('=') {
            Some((path, wanted)) => (path, Some(wanted)),
            None => (text.as_str(), None),
        },
    };
    let wanted = wanted.map(|wanted| wanted.trim_matches(['\'', '"']).to_owned());
    Ok(Condition::Value { path: path.parse()?, wanted })
}

/// Returns a value that is no mapping and no sequence as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Object(_) | Value::Array(_) => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Returns what a document says of how it stands.
fn message(document: &Value) -> Option<String> {
    let status = &document["status"];
    let disk = status["diskFileStatusMap"].as_object().and_then(|disks| disks.values().next());
    let disk = disk.map(|disk| &disk["message"]);
    let unmet = |found: &&Value| found["status"] != "True";
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let of_condition = conditions.filter(unmet).map(|found| &found["message"]);
    let found = std::iter::once(&status["message"]).chain(disk).chain(of_condition);
    found.filter_map(text).find(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_met(condition: &str, resource: Resource, document: &Value) -> bool {
        condition.parse::<Condition>().unwrap().is_met(resource, document)
    }

    #[test]
    fn conditions_values_and_states_are_looked_at() {
        let claim = json!({
            "metadata": { "annotations": { "a.b/c": "d" } },
            "status": {
                "phase": "Bound", "progress": 7, "empty": {},
                "conditions": [{ "type": "Resizing", "status": "True" }, { "type": "Ready", "status": "False" }]
            }
        });
        let is_met = |condition: &str| is_met(condition, Resource::PersistentVolumeClaim, &claim);
        for met in [
            "condition=Resizing",
            "condition=resizing=true",
            "condition=Ready=False",
            "state=bound",
            "jsonpath={.status.phase}=Bound",
            "jsonpath='{.status.phase}'=Bound",
            "jsonpath={.status.progress}=7",
            "jsonpath={.status.phase}",
            "jsonpath=.status.phase=Bound",
            "jsonpath={.status.conditions[1].type}=Ready",
            "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=False",
            "jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'=False",
            "jsonpath={.metadata.annotations['a.b/c']}=d",
            "jsonpath={.metadata.annotations.a\\.b/c}='d'",
        ] {
            assert!(is_met(met), "{met}");
        }
        for unmet in [
            "condition=Ready",
            "condition=Other=False",
            "jsonpath={.status.phase}=bound",
            "state=pending",
            "jsonpath={.status.none}",
            "jsonpath={.status.empty}",
            "jsonpath={.status.conditions[*].status}=True",
            "jsonpath={.status.conditions[9].type}",
            "jsonpath={.status.conditions[?(@.type=='}')].status}",
            "delete",
        ] {
            assert!(!is_met(unmet), "{unmet}");
        }
    }

    #[test]
    fn the_state_is_where_its_kind_has_it() {
        let conditions = |kind: &str| json!([{ "type": kind, "status": "True" }]);
        for (resource, status) in [
            (Resource::BackingImage, json!({ "state": "ready" })),
            (
                Resource::BackingImage,
                json!({ "diskFileStatusMap": { "disk": { "state": "ready" } } }),
            ),
            (Resource::VolumeSnapshot, json!({ "readyToUse": true })),
            (Resource::VirtualMachineImage, json!({ "conditions": conditions("Imported") })),
        ] {
            assert!(is_met("state=ready", resource, &json!({ "status": status })), "{status}");
        }
        let tried = json!({ "status": { "conditions": conditions("RetryLimitExceeded") } });
        assert!(is_met("state=failed", Resource::VirtualMachineImage, &tried));
        let failed = json!({ "status": { "state": "failed", "message": "no room" } });
        assert!(!is_met("state=ready", Resource::BackingImage, &failed));
        let ready: Condition = "state=ready".parse().unwrap();
        assert_eq!(ready.found(Resource::BackingImage, &failed), "failed (no room)");
    }

    #[test]
    fn a_state_that_a_kind_never_has_is_told_with_those_that_it_has() {
        let check = |state: &str, resource| {
            Condition::State(state.to_owned()).check(resource).err().unwrap_or_default()
        };
        assert_eq!(check("ready", Resource::BackingImage), "");
        assert_eq!(check("READY", Resource::VirtualMachineImage), "");
        let told = check("ready", Resource::PersistentVolumeClaim);
        assert!(told.contains("Pending, Bound, Lost"), "{told}");
        assert!(check("ready", Resource::StorageClass).contains("jsonpath"));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for (text, told) in [
            ("", "there are state="),
            ("ready", "there are state="),
            ("state=", "there are state="),
            ("phase=Bound", "there are state="),
            ("jsonpath={.a", "brace"),
            ("jsonpath={}", "empty"),
            ("jsonpath={.a[x]}", "none of a number"),
            ("jsonpath={..a}", "`..`"),
            ("jsonpath={.a}Bound", "=VALUE may"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
