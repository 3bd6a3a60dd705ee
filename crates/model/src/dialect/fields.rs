//! The fields of a document, read with everything that is wrong with them collected.

use std::collections::BTreeMap;

use serde_json::Value;

use super::admission::{Cause, Reason, Refused};
use super::object::Object;
use super::resource::Resource;

/// A reader of the fields of one document.
///
/// A field that is not what it has to be counts as missing and is noted; [`finish`](Self::finish) refuses
/// the document then.
pub(super) struct Fields<'a> {
    object: &'a Object,
    causes: Vec<Cause>,
}

impl<'a> Fields<'a> {
    /// Begins with a document, which should be of this kind.
    pub(super) fn of(object: &'a Object, resource: Resource) -> Self {
        let mut fields = Self { object, causes: Vec::new() };
        if object.resource() != Some(resource) {
            let (version, kind) = (resource.api_version(), resource.kind());
            fields.note(&["kind"], Reason::Invalid, format!("wanted is a {version} {kind}"));
        }
        fields
    }

    /// Returns the document.
    pub(super) fn object(&self) -> &'a Object {
        self.object
    }

    /// Returns the value at a path; null counts as nothing.
    pub(super) fn value(&self, path: &[&str]) -> Option<&'a Value> {
        self.object.at(path)
    }

    /// Returns a text, `None` when it is missing or empty.
    pub(super) fn text(&mut self, path: &[&str]) -> Option<&'a str> {
        match self.value(path)? {
            Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            other => {
                self.note(path, Reason::Invalid, not_text(other));
                None
            }
        }
    }

    /// Returns a text, empty when it is missing, which is noted with what to do.
    pub(super) fn required(&mut self, path: &[&str], what: &str) -> &'a str {
        let before = self.causes.len();
        let text = self.text(path);
        if text.is_none() && self.causes.len() == before {
            self.note(path, Reason::Required, what);
        }
        text.unwrap_or_default()
    }

    /// Returns true or false, false when it is missing.
    pub(super) fn flag(&mut self, path: &[&str]) -> bool {
        match self.value(path) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.note(path, Reason::Invalid, "use true or false, without quotes");
                false
            }
        }
    }

    /// Returns a whole number.
    pub(super) fn number(&mut self, path: &[&str]) -> Option<u64> {
        let value = self.value(path)?;
        if value.as_u64().is_none() {
            self.note(path, Reason::Invalid, "use a whole number from 0 up, without quotes");
        }
        value.as_u64()
    }

    /// Returns a mapping of texts.
    pub(super) fn texts(&mut self, path: &[&str]) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        match self.value(path) {
            None => {}
            Some(Value::Object(map)) => {
                for (key, value) in map {
                    match value {
                        Value::String(text) => _ = texts.insert(key.clone(), text.clone()),
                        Value::Null => _ = texts.insert(key.clone(), String::new()),
                        other => {
                            let below: Vec<&str> = path.iter().copied().chain([&**key]).collect();
                            self.note(&below, Reason::Invalid, not_text(other));
                        }
                    }
                }
            }
            Some(_) => self.note(path, Reason::Invalid, "use a mapping of texts"),
        }
        texts
    }

    /// Returns a list of texts.
    pub(super) fn list(&mut self, path: &[&str]) -> Vec<String> {
        let Some(value) = self.value(path) else { return Vec::new() };
        let texts: Option<Vec<String>> = value
            .as_array()
            .and_then(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect());
        if texts.is_none() {
            self.note(path, Reason::Invalid, "use a list of texts");
        }
        texts.unwrap_or_default()
    }

    /// Returns which of some words a text is, `default` when it is missing.
    pub(super) fn choice<T: Copy>(&mut self, path: &[&str], words: &[(&str, T)], default: T) -> T {
        let Some(text) = self.text(path) else { return default };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, chosen)) => *chosen,
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let message = format!("{} is not one of {}", shown(text), words.join(", "));
                self.note(path, Reason::Invalid, message);
                default
            }
        }
    }

    /// Returns what a function makes of the text of a field, and notes what it has against it.
    pub(super) fn parsed<T>(
        &mut self,
        path: &[&str],
        parse: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(self.text(path)?) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.note(path, Reason::Invalid, problem);
                None
            }
        }
    }

    /// Notes what is wrong with a field.
    pub(super) fn note(&mut self, path: &[&str], reason: Reason, message: impl Into<String>) {
        self.causes.push(Cause { field: field(path), message: message.into(), reason });
    }

    /// Returns the value, unless something is wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Refused> {
        if self.causes.is_empty() { Ok(value) } else { Err(Refused { causes: self.causes }) }
    }
}

impl Refused {
    /// Returns a refusal with one reason.
    pub(super) fn one(path: &[&str], reason: Reason, message: impl Into<String>) -> Self {
        Self { causes: vec![Cause { field: field(path), message: message.into(), reason }] }
    }
}

/// Returns how a path of keys is written: `spec.sourceParameters.url`. A key that is no word, as those of
/// annotations, stands in brackets.
pub(super) fn field(path: &[&str]) -> String {
    path.iter().fold(String::new(), |written, key| below(&written, key))
}

/// Returns the path of a key below another path.
pub(super) fn below(path: &str, key: &str) -> String {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if key.is_empty() || !key.bytes().all(word) {
        let key: String = key.chars().take(MAX_KEY).flat_map(char::escape_debug).collect();
        return format!("{path}['{key}']");
    }
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Returns a text of a document as a message shows it: in quotes, escaped, and not all of it when it is long.
pub(super) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(MAX_SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

fn not_text(value: &Value) -> String {
    let found = match value {
        Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Array(_) => return "this is a list, and has to be text".to_owned(),
        _ => return "this is a mapping, and has to be text".to_owned(),
    };
    format!("this is {found}, not text: put it in quotes")
}

/// How much of a key a path shows, in characters: the longest that Kubernetes takes for an annotation.
const MAX_KEY: usize = 317;
/// How much of a text a message shows, in characters.
const MAX_SHOWN: usize = 128;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_that_is_wrong_is_told_with_its_path() {
        let object = Object::of_value(json!({
            "apiVersion": "v1", "kind": "Secret",
            "spec": { "size": 7, "flag": "true", "map": { "a.b/c": false, "ok": "x" }, "list": [1] },
        }))
        .unwrap();
        let mut fields = Fields::of(&object, Resource::StorageClass);
        assert_eq!(fields.text(&["spec", "size"]), None);
        assert!(!fields.flag(&["spec", "flag"]));
        assert_eq!(fields.texts(&["spec", "map"]), BTreeMap::from([("ok".into(), "x".into())]));
        assert!(fields.list(&["spec", "list"]).is_empty());
        assert_eq!(fields.required(&["spec", "name"], "give it a name"), "");
        let refused = fields.finish(()).unwrap_err();
        let paths: Vec<&str> = refused.causes.iter().map(|cause| &*cause.field).collect();
        let wanted =
            ["kind", "spec.size", "spec.flag", "spec.map['a.b/c']", "spec.list", "spec.name"];
        assert_eq!(paths, wanted);
    }

    #[test]
    fn what_a_message_shows_of_a_text_ends_and_has_no_control_characters() {
        let text = shown(&format!("\u{1b}[2J{}", "y".repeat(5000)));
        assert!(!text.contains('\u{1b}') && text.len() < 200, "{text}");
        assert!(field(&["a", &"\u{1b}".repeat(500)]).len() < 3000);
    }
}
