//! A document in the shape that Kubernetes' API gives to all of them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::resource::Resource;

/// A document: `apiVersion`, `kind`, `metadata`, and whatever its kind has besides.
///
/// `Debug` prints what it is and how it is called, and no more: it may be a Secret.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object(Map<String, Value>);

impl Object {
    /// Returns a document of a kind, with a name.
    pub fn new(resource: Resource, namespace: Option<&str>, name: &str) -> Self {
        let mut object = Self::default();
        object.set(&["apiVersion"], resource.api_version());
        object.set(&["kind"], resource.kind());
        object.set(&["metadata", "name"], name);
        if let Some(namespace) = namespace {
            object.set(&["metadata", "namespace"], namespace);
        }
        object
    }

    /// Returns a JSON value as a document, `None` when it is no mapping.
    pub fn of_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self(fields)),
            _ => None,
        }
    }

    /// Returns the fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns the fields, to be changed.
    pub fn fields_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.0
    }

    /// Returns it as a JSON value.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// Returns what its `apiVersion` and `kind` name, `None` when nobody here knows it.
    pub fn resource(&self) -> Option<Resource> {
        Resource::of_document(self.text(&["apiVersion"])?, self.text(&["kind"])?)
    }

    /// Returns its name, empty when it has none.
    pub fn name(&self) -> &str {
        self.text(&["metadata", "name"]).unwrap_or_default()
    }

    /// Returns its namespace.
    pub fn namespace(&self) -> Option<&str> {
        self.text(&["metadata", "namespace"]).filter(|namespace| !namespace.is_empty())
    }

    /// Returns the UID that the server gave it, empty when it did not yet.
    pub fn uid(&self) -> &str {
        self.text(&["metadata", "uid"]).unwrap_or_default()
    }

    /// Returns the version of the store in which it was changed last, empty when it never was there.
    pub fn resource_version(&self) -> &str {
        self.text(&["metadata", "resourceVersion"]).unwrap_or_default()
    }

    /// Returns whether somebody has deleted it, and it waits for its finalizers.
    pub fn is_being_deleted(&self) -> bool {
        self.at(&["metadata", "deletionTimestamp"]).is_some()
    }

    /// Returns an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.text(&["metadata", "annotations", key])
    }

    /// Returns the names of those that must have done their part before it may go.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        let listed = self.at(&["metadata", "finalizers"]).and_then(Value::as_array);
        listed.into_iter().flatten().filter_map(Value::as_str)
    }

    /// Returns the value at a path of keys; null counts as nothing.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let first = self.0.get(*first)?;
        let found = rest.iter().try_fold(first, |value, key| value.get(*key))?;
        (!found.is_null()).then_some(found)
    }

    /// Returns the text at a path of keys.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        self.at(path).and_then(Value::as_str)
    }

    /// Puts a value at a path of keys, with the mappings on the way where there are none.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut fields = &mut self.0;
        for key in parents {
            let entry = fields.entry(*key).or_insert_with(|| Value::Object(Map::new()));
            if !entry.is_object() {
                *entry = Value::Object(Map::new());
            }
            let Value::Object(below) = entry else { return };
            fields = below;
        }
        fields.insert((*last).to_owned(), value.into());
    }

    /// Takes out the value at a path of keys.
    pub fn take(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let mut fields = &mut self.0;
        for key in parents {
            fields = fields.get_mut(*key)?.as_object_mut()?;
        }
        fields.shift_remove(*last)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.text(&["kind"]).unwrap_or("document");
        match self.namespace() {
            Some(namespace) => write!(f, "{kind} {namespace}/{}", self.name()),
            None => write!(f, "{kind} {}", self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_and_taken_by_their_paths() {
        let mut object = Object::new(Resource::Secret, Some("lab"), "key");
        object.set(&["status", "progress"], 7);
        object.set(&["stringData", "CRYPTO_KEY_VALUE"], "canary");
        assert_eq!(object.at(&["status", "progress"]), Some(&Value::from(7)));
        assert_eq!(object.resource(), Some(Resource::Secret));
        assert_eq!(format!("{object:?}"), "Secret lab/key");
        assert_eq!(object.take(&["status", "progress"]), Some(Value::from(7)));
        assert_eq!(object.take(&["status", "progress"]), None);
        object.set(&["status", "progress", "deep"], true);
        assert_eq!(object.at(&["status", "progress", "deep"]), Some(&Value::from(true)));
        let read: Object = serde_json::from_str(&serde_json::to_string(&object).unwrap()).unwrap();
        assert!(read == object);
    }
}
