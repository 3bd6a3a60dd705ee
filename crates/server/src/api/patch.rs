//! Patches: merge patches (RFC 7386), strategic merge patches as Kubernetes has them for its own kinds, and
//! JSON patches (RFC 6902).

mod operations;

use serde_json::{Map, Value};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::failure::{Answer, Failure};
use crate::store::{LEVELS, is_deeper};

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What is there replaces what was there; null takes away.
    Merge,
    /// The same, but some lists are merged by their elements, and there are directives.
    Strategic,
    /// Operations, one after the other.
    Operations,
}

impl Kind {
    /// Returns what a content type means for a kind of document.
    ///
    /// # Errors
    ///
    /// When it is a patch that nothing here can apply.
    pub(super) fn of(content_type: &str, resource: Resource) -> Answer<Self> {
        match content_type {
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/json-patch+json" => Ok(Self::Operations),
            "application/strategic-merge-patch+json" if is_kubernetes_own(resource) => {
                Ok(Self::Strategic)
            }
            "application/strategic-merge-patch+json" => Err(Failure::unsupported(format!(
                "documents of the kind {} take application/merge-patch+json or \
                 application/json-patch+json",
                resource.kind()
            ))),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
                Err(Failure::unsupported(
                    "there is no server-side apply here: use client-side apply, which is kubectl apply \
                     without --server-side",
                ))
            }
            other => Err(Failure::unsupported(format!("{other:?} is no patch that is known here"))),
        }
    }

    /// Returns what a patch makes of a document.
    ///
    /// # Errors
    ///
    /// When it cannot be read or applied.
    pub(super) fn apply(self, patch: &[u8], old: &Object) -> Answer<Object> {
        // What serde says may quote what it has read.
        let patch: Value = serde_json::from_slice(patch)
            .map_err(|_| Failure::bad_request("the patch is no JSON that can be read"))?;
        // Operations are looked at one by one.
        if self != Self::Operations && is_deeper(&patch, LEVELS) {
            let problem = format!("the patch has more than {LEVELS} levels of mappings and lists");
            return Err(Failure::invalid(problem));
        }
        let mut document = old.clone().into_value();
        match (self, patch) {
            (Self::Operations, patch) => operations::apply(&mut document, patch)?,
            (Self::Merge, patch @ Value::Object(_)) => merge(&mut document, patch),
            (Self::Strategic, Value::Object(patch)) => strategic(mapping(&mut document), patch),
            _ => return Err(Failure::bad_request("the patch is no mapping")),
        }
        Object::of_value(document).ok_or_else(|| Failure::bad_request("the patch leaves nothing"))
    }
}

/// Tells whether Kubernetes itself has a kind. What others have added takes no strategic merge patch.
fn is_kubernetes_own(resource: Resource) -> bool {
    matches!(resource.group(), "" | "storage.k8s.io")
}

fn mapping(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made a mapping")
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    let target = mapping(target);
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn strategic(target: &mut Map<String, Value>, mut patch: Map<String, Value>) {
    let directive = patch.shift_remove("$patch");
    if let Some("replace" | "delete") = directive.as_ref().and_then(Value::as_str) {
        target.clear();
    }
    let retained = patch.shift_remove("$retainKeys");
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (target.get_mut(list), value) {
                items.retain(|item| !gone.contains(item));
            }
        } else if key.starts_with("$setElementOrder/") {
            // The order of the lists that are merged here means nothing.
        } else if value.is_null() {
            target.shift_remove(&key);
        } else {
            let merged = merged_by(&key);
            let slot = target.entry(key).or_insert(Value::Null);
            match (value, merged) {
                (Value::Object(below), _) => strategic(mapping(slot), below),
                (Value::Array(items), Some(by)) => merge_list(slot, items, by),
                (value, _) => *slot = value,
            }
        }
    }
    if let Some(Value::Array(keys)) = retained {
        target.retain(|key, _| keys.iter().any(|kept| kept.as_str() == Some(key)));
    }
}

/// By what the elements of a list are known.
#[derive(Debug, Clone, Copy)]
enum By {
    /// By what they are.
    Value,
    /// By one of their fields.
    Field(&'static str),
}

/// Returns how a list is merged; `None` when it is replaced as a whole.
fn merged_by(key: &str) -> Option<By> {
    match key {
        "finalizers" => Some(By::Value),
        "ownerReferences" => Some(By::Field("uid")),
        "conditions" => Some(By::Field("type")),
        _ => None,
    }
}

fn merge_list(slot: &mut Value, items: Vec<Value>, by: By) {
    let directive =
        |item: &Value, word: &str| item.get("$patch").and_then(Value::as_str) == Some(word);
    if !slot.is_array() || items.iter().any(|item| directive(item, "replace")) {
        *slot = Value::Array(Vec::new());
    }
    let Value::Array(list) = slot else { return };
    for item in items {
        let same = |other: &&mut Value| match by {
            By::Value => **other == item,
            By::Field(field) => other.get(field) == item.get(field),
        };
        let found = list.iter_mut().find(same);
        if directive(&item, "replace") {
            continue;
        }
        if directive(&item, "delete") {
            if let By::Field(field) = by {
                list.retain(|other| other.get(field) != item.get(field));
            }
            continue;
        }
        match (found, item) {
            (Some(found), Value::Object(fields)) => strategic(mapping(found), fields),
            (Some(_), _) => {}
            (None, item) => list.push(item),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(kind: Kind, old: Value, patch: &Value) -> Value {
        let old = Object::of_value(old).unwrap();
        kind.apply(patch.to_string().as_bytes(), &old).unwrap().into_value()
    }

    #[test]
    fn a_merge_patch_does_what_the_rfc_says() {
        let old = json!({ "a": "b", "c": { "d": "e", "f": "g" }, "list": [1, 2] });
        let patch = json!({ "a": "z", "c": { "f": null, "h": { "i": null } }, "list": [3] });
        let new = json!({ "a": "z", "c": { "d": "e", "h": {} }, "list": [3] });
        assert_eq!(patched(Kind::Merge, old, &patch), new);
    }

    #[test]
    fn a_strategic_patch_merges_the_lists_of_metadata() {
        let old = json!({
            "metadata": { "finalizers": ["a", "b"], "ownerReferences": [{ "uid": "1", "name": "x" }] },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        });
        let patch = json!({
            "metadata": {
                "$setElementOrder/finalizers": ["c", "b"],
                "$deleteFromPrimitiveList/finalizers": ["a"],
                "finalizers": ["c"],
                "ownerReferences": [{ "uid": "1", "$patch": "delete" }, { "uid": "2" }],
            },
            "spec": { "accessModes": ["ReadWriteMany"], "resources": { "requests": { "storage": "2Gi" } } },
        });
        let new = json!({
            "metadata": { "finalizers": ["b", "c"], "ownerReferences": [{ "uid": "2" }] },
            "spec": { "accessModes": ["ReadWriteMany"], "resources": { "requests": { "storage": "2Gi" } } },
        });
        assert_eq!(patched(Kind::Strategic, old, &patch), new);
    }

    #[test]
    fn the_directives_of_mappings_are_obeyed() {
        let old = json!({ "spec": { "a": 1, "b": 2 }, "other": { "c": 3, "d": 4 } });
        let patch = json!({
            "spec": { "$patch": "replace", "x": 9 },
            "other": { "$retainKeys": ["c", "e"], "e": 5 },
        });
        let new = json!({ "spec": { "x": 9 }, "other": { "c": 3, "e": 5 } });
        assert_eq!(patched(Kind::Strategic, old, &patch), new);
    }

    #[test]
    fn each_kind_of_document_takes_the_patches_that_it_takes_in_kubernetes() {
        let strategic = "application/strategic-merge-patch+json";
        assert_eq!(Kind::of(strategic, Resource::Secret).unwrap(), Kind::Strategic);
        assert!(Kind::of(strategic, Resource::BackingImage).is_err());
        let server_side = Kind::of("application/apply-patch+yaml", Resource::Secret).unwrap_err();
        assert_eq!(server_side.status()["code"], 415);
    }
}
