//! The values of Secrets: sealed as soon as they come, and never shown.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use strongroom::sealing::Sealer;
use strongroom_model::dialect::admission::{Cause, Reason, Refused, SecretValues};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;
use zeroize::{Zeroize, Zeroizing};

use super::naming::Key;
use crate::{Error, Result};

/// The sealed values of a Secret by key; nothing for any other document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sealed(BTreeMap<String, String>);

impl Sealed {
    /// Takes the values out of a document and seals them; their keys stay in `data`, each with an empty
    /// text. A key with an empty text keeps the value that it has in `old`: so it is read, and so whoever
    /// has read it writes it back. A value that is the same as in `old` keeps its seal.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when a value is no base64; when it cannot be sealed.
    pub(super) fn of(
        object: &mut Object,
        key: &Key,
        old: Option<&Self>,
        sealer: &Sealer,
    ) -> Result<Self> {
        if key.resource != Resource::Secret {
            return Ok(Self::default());
        }
        let given = given(object, key)?;
        redact_last_applied(object);
        let mut sealed = BTreeMap::new();
        for (name, value) in given {
            let place = place(key, &name);
            let kept = old.and_then(|old| old.0.get(&name)).filter(|kept| {
                value.is_empty() || sealer.unseal(&place, kept).is_ok_and(|kept| *kept == *value)
            });
            let text = match kept {
                Some(kept) => kept.clone(),
                None => sealer.seal(&place, &value)?,
            };
            sealed.insert(name, text);
        }
        let sealed = Self(sealed);
        sealed.show_keys(object);
        Ok(sealed)
    }

    /// Takes the sealed values out of a document as the catalog has it.
    pub(super) fn stored(object: &mut Object) -> Self {
        if object.resource() != Some(Resource::Secret) {
            return Self::default();
        }
        let Some(Value::Object(data)) = object.take(&["data"]) else { return Self::default() };
        let text = |(key, value): (String, Value)| match value {
            Value::String(text) => Some((key, text)),
            _ => None,
        };
        let sealed = Self(data.into_iter().filter_map(text).collect());
        sealed.show_keys(object);
        sealed
    }

    /// Returns a document as the catalog has it.
    pub(super) fn text(&self, object: &Object) -> String {
        let text = |object: &Object| {
            serde_json::to_string(object).expect("a JSON value can always be written")
        };
        if self.0.is_empty() {
            return text(object);
        }
        let mut object = object.clone();
        let value = |(key, sealed): (&String, &String)| (key.clone(), sealed.as_str().into());
        object.set(&["data"], Value::Object(self.0.iter().map(value).collect()));
        text(&object)
    }

    /// Returns the values. `None` when one of them does not open, which is as if there were no Secret.
    pub(super) fn open(&self, key: &Key, sealer: &Sealer) -> Option<SecretValues> {
        let opened = self.0.iter().map(|(name, sealed)| {
            sealer.unseal(&place(key, name), sealed).ok().map(|value| (name.clone(), value))
        });
        opened.collect()
    }

    fn show_keys(&self, object: &mut Object) {
        if self.0.is_empty() {
            object.take(&["data"]);
            return;
        }
        let empty = |key: &String| (key.clone(), Value::from(""));
        object.set(&["data"], Value::Object(self.0.keys().map(empty).collect()));
    }
}

/// Takes the values out of a document that nobody keeps.
pub(super) fn redact(object: &mut Object) {
    if object.resource() != Some(Resource::Secret) {
        return;
    }
    let names = [object.take(&["data"]), object.take(&["stringData"])];
    redact_last_applied(object);
    for name in names.into_iter().flat_map(mapping).map(|(name, _)| name) {
        object.set(&["data", &name], "");
    }
}

/// Takes `data` and `stringData` out of a Secret. The latter wins, as it does in Kubernetes.
fn given(object: &mut Object, key: &Key) -> Result<SecretValues> {
    let mut values = SecretValues::new();
    let data = object.take(&["data"]);
    let texts = object.take(&["stringData"]);
    for (name, value) in mapping(data) {
        let text = text_of(value, key, &format!("data.{name}"))?;
        let value = STANDARD.decode(text.as_bytes()).map_err(|_| {
            let problem = "the value is not base64: write plain text below stringData";
            refused(key, &format!("data.{name}"), problem)
        })?;
        values.insert(name, Zeroizing::new(value));
    }
    for (name, value) in mapping(texts) {
        let text = text_of(value, key, &format!("stringData.{name}"))?;
        values.insert(name, Zeroizing::new(text.as_bytes().to_vec()));
    }
    Ok(values)
}

fn mapping(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn text_of(value: Value, key: &Key, field: &str) -> Result<Zeroizing<String>> {
    match value {
        Value::String(text) => Ok(Zeroizing::new(text)),
        Value::Null => Ok(Zeroizing::default()),
        _ => Err(refused(key, field, "the value is no text: put it in quotes")),
    }
}

/// Takes the values out of the copy of the document that `kubectl apply` keeps in an annotation. The keys
/// stay, so that a key which is no longer applied is taken out.
fn redact_last_applied(object: &mut Object) {
    let Some(Value::String(mut text)) = object.take(&LAST_APPLIED) else { return };
    let read = serde_json::from_str::<Object>(&text);
    text.zeroize();
    // One that cannot be read could hold anything.
    let Ok(mut applied) = read else { return };
    applied.take(&["metadata", "annotations", LAST_APPLIED[2]]);
    for part in ["data", "stringData"] {
        if let Some(Value::Object(fields)) = applied.fields_mut().get_mut(part) {
            for value in fields.values_mut() {
                if let Value::String(text) = value {
                    text.zeroize();
                }
                *value = Value::from("");
            }
        } else {
            applied.take(&[part]);
        }
    }
    let text = serde_json::to_string(&applied).expect("a JSON value can always be written");
    object.set(&LAST_APPLIED, text);
}

fn place(key: &Key, name: &str) -> String {
    format!("secrets/{}/{}/{name}", key.namespace, key.name)
}

fn refused(key: &Key, field: &str, problem: &str) -> Error {
    let cause =
        Cause { field: field.to_owned(), message: problem.to_owned(), reason: Reason::Invalid };
    Error::Refused { what: key.to_string(), refused: Refused { causes: vec![cause] } }
}

/// Where `kubectl apply` keeps what was applied last.
pub(super) const LAST_APPLIED: [&str; 3] =
    ["metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"];
