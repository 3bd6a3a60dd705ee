//! What is waited for.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// That the document is gone.
    Deleted,
    /// That a condition of its status has this status.
    Status {
        /// Its type, in whichever case.
        kind: String,
        wanted: String,
    },
    /// That the value at a path is this, or is there at all.
    Value { path: Vec<Step>, text: String, wanted: Option<String> },
    /// That its state, as its kind calls that, is this one in whichever case.
    State(String),
}

/// A step on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Condition {
    /// Returns whether a document is as waited for.
    pub(super) fn is_met(&self, document: &Value) -> bool {
        match self {
            Self::Deleted => false,
            Self::Status { wanted, .. } | Self::State(wanted) => {
                self.value(document).is_some_and(|found| found.eq_ignore_ascii_case(wanted))
            }
            Self::Value { wanted: Some(wanted), .. } => {
                self.value(document).as_ref() == Some(wanted)
            }
            Self::Value { wanted: None, .. } => self.value(document).is_some(),
        }
    }

    /// Returns what a document has instead, for people.
    pub(super) fn found(&self, document: &Value) -> String {
        let found = self.value(document).unwrap_or_else(|| "not known".to_owned());
        match message(document) {
            Some(message) => format!("{found} ({message})"),
            None => found,
        }
    }

    fn value(&self, document: &Value) -> Option<String> {
        match self {
            Self::Deleted => None,
            Self::Status { kind, .. } => {
                let mut conditions = document["status"]["conditions"].as_array()?.iter();
                let found = conditions.find(|found| {
                    found["type"].as_str().is_some_and(|text| text.eq_ignore_ascii_case(kind))
                })?;
                text(&found["status"])
            }
            Self::Value { path, .. } => {
                let found = path.iter().try_fold(document, |value, step| match step {
                    Step::Key(key) => value.get(key),
                    Step::Index(index) => value.get(*index),
                });
                found.and_then(text)
            }
            Self::State(_) => {
                let status = &document["status"];
                let per_disk = status["diskFileStatusMap"].as_object();
                let of_disk =
                    per_disk.and_then(|disks| disks.values().next()).map(|disk| &disk["state"]);
                let ready = match status["readyToUse"].as_bool() {
                    Some(true) => return Some("ready".to_owned()),
                    Some(false) => Some(Value::from("pending")),
                    None => None,
                };
                ["state", "currentState", "phase"]
                    .iter()
                    .map(|key| &status[*key])
                    .chain(of_disk)
                    .find_map(text)
                    .or_else(|| ready.as_ref().and_then(text))
            }
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
        if rest.is_empty() {
            return Err(
                "it is delete, state=STATE, condition=TYPE[=STATUS] or jsonpath={PATH}[=VALUE]"
                    .to_owned(),
            );
        }
        match kind {
            "state" => Ok(Self::State(rest.to_owned())),
            "condition" => {
                let (kind, wanted) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Self::Status { kind: kind.to_owned(), wanted: wanted.to_owned() })
            }
            "jsonpath" => value(rest),
            other => Err(format!("nothing is known of {other}=")),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deleted => f.write_str("its deletion"),
            Self::Status { kind, .. } => write!(f, "the condition {kind}"),
            Self::Value { text, .. } => write!(f, "{{{text}}}"),
            Self::State(_) => f.write_str("its state"),
        }
    }
}

/// Reads `{.status.phase}=Bound`; the braces may be left out.
fn value(text: &str) -> Result<Condition, String> {
    let (path, wanted) = match text.strip_prefix('{') {
        Some(rest) => {
            let (path, behind) = rest.rsplit_once('}').ok_or("a brace is not closed")?;
            (path, behind.strip_prefix('='))
        }
        None => match text.split_once('=') {
            Some((path, wanted)) => (path, Some(wanted)),
            None => (text, None),
        },
    };
    let wanted = wanted.map(|wanted| wanted.trim_matches(['\'', '"']).to_owned());
    Ok(Condition::Value { path: steps(path)?, text: path.to_owned(), wanted })
}

/// Reads `.status.conditions[0].type`, `.metadata.annotations['a.b/c']`, `.a\.b`.
fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (step, behind) = inside.split_once(']').ok_or("a bracket is not closed")?;
            let key = step.strip_prefix(['\'', '"']).and_then(|key| key.strip_suffix(['\'', '"']));
            steps.push(match (key, step.parse()) {
                (Some(key), _) => Step::Key(key.to_owned()),
                (None, Ok(index)) => Step::Index(index),
                (None, Err(_)) => return Err(format!("[{step}] is neither a number nor 'a key'")),
            });
            rest = behind;
            continue;
        }
        let name = rest.strip_prefix('.').unwrap_or(rest);
        let mut key = String::new();
        let mut letters = name.char_indices();
        rest = "";
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => key.extend(letters.next().map(|(_, letter)| letter)),
                '.' | '[' => {
                    rest = name.get(at..).unwrap_or_default();
                    break;
                }
                letter => key.push(letter),
            }
        }
        if key.is_empty() {
            return Err(format!("{path} is no path of keys: .status.phase for instance"));
        }
        steps.push(Step::Key(key));
    }
    match steps.is_empty() {
        true => Err("the path is empty".to_owned()),
        false => Ok(steps),
    }
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
    let found = [Some(&status["message"]), disk].into_iter().flatten().find_map(text);
    found.filter(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_met(condition: &str, document: &Value) -> bool {
        condition.parse::<Condition>().unwrap().is_met(document)
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
        for met in [
            "condition=Resizing",
            "condition=resizing=true",
            "condition=Ready=False",
            "state=bound",
            "jsonpath={.status.phase}=Bound",
            "jsonpath='{.status.phase}'=Bound".trim_matches('x'),
            "jsonpath={.status.progress}=7",
            "jsonpath={.status.phase}",
            "jsonpath=.status.phase=Bound",
            "jsonpath={.status.conditions[1].type}=Ready",
            "jsonpath={.metadata.annotations['a.b/c']}=d",
            "jsonpath={.metadata.annotations.a\\.b/c}='d'",
        ] {
            let unquoted = met.replace("'{", "{").replace("}'", "}");
            assert!(is_met(&unquoted, &claim), "{met}");
        }
        for unmet in [
            "condition=Ready",
            "condition=Other=False",
            "jsonpath={.status.phase}=bound",
            "state=ready",
            "jsonpath={.status.none}",
            "jsonpath={.status.empty}",
            "jsonpath={.status.conditions[9].type}",
            "delete",
        ] {
            assert!(!is_met(unmet, &claim), "{unmet}");
        }
    }

    #[test]
    fn the_state_is_where_its_kind_has_it() {
        for status in [
            json!({ "state": "ready" }),
            json!({ "diskFileStatusMap": { "disk": { "state": "ready" } } }),
            json!({ "readyToUse": true }),
            json!({ "phase": "Ready" }),
        ] {
            assert!(is_met("state=ready", &json!({ "status": status })), "{status}");
        }
        let failed = json!({ "status": { "state": "failed", "message": "no room" } });
        assert!(!is_met("state=ready", &failed));
        assert_eq!("state=ready".parse::<Condition>().unwrap().found(&failed), "failed (no room)");
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in [
            "",
            "ready",
            "state=",
            "jsonpath={.a",
            "jsonpath={}",
            "jsonpath={.a[x]}",
            "jsonpath={..a}",
        ] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }
}
