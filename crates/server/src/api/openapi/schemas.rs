//! The schemas of documents, made of the fields that admission knows, and of what else Kubernetes' API has.

use serde_json::{Map, Value, json};
use strongroom_model::dialect::admission::known_fields;
use strongroom_model::dialect::resource::Resource;

use super::kinds::group_version_kind;
use super::reference;
use crate::api::discovery::has_status;

/// Returns the name of the schema of a kind.
pub(super) fn name(resource: Resource) -> String {
    let group = if resource.group().is_empty() { "core" } else { resource.group() };
    let group: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{}.{}", group.join("."), resource.version(), resource.kind())
}

/// Returns the name of the schema of lists of a kind.
pub(super) fn list_name(resource: Resource) -> String {
    format!("{}List", name(resource))
}

/// Returns the schemas of a kind and of its lists.
pub(super) fn of_kind(resource: Resource) -> [(String, Value); 2] {
    [(name(resource), document(resource)), (list_name(resource), list(resource))]
}

/// Returns the schemas that the paths of documents refer to besides those of their kind.
pub(super) fn shared() -> Map<String, Value> {
    let schemas = json!({
        "Status": status(),
        "DeleteOptions": {
            "type": "object",
            "description": "How something is deleted.",
            "properties": {
                "apiVersion": text(),
                "kind": text(),
                "dryRun": { "type": "array", "items": text() },
                "propagationPolicy": text(),
                "gracePeriodSeconds": number(),
                "preconditions": {
                    "type": "object",
                    "properties": { "uid": text(), "resourceVersion": text() },
                },
            },
        },
        "ListMeta": {
            "type": "object",
            "properties": {
                "resourceVersion": text(),
                "continue": text(),
                "remainingItemCount": number(),
            },
        },
        "WatchEvent": {
            "type": "object",
            "description": "A change.",
            "required": ["type", "object"],
            "properties": {
                "type": {
                    "type": "string",
                    "enum": ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"],
                },
                "object": free("The document; after ERROR a Status."),
            },
        },
        "Table": {
            "type": "object",
            "description": "Documents as people look at them.",
            "properties": {
                "apiVersion": text(),
                "kind": text(),
                "metadata": reference("ListMeta"),
                "columnDefinitions": { "type": "array", "items": free("A column.") },
                "rows": { "type": "array", "items": free("A row.") },
            },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}

/// Returns the schema of what says how a request went.
pub(super) fn status() -> Value {
    json!({
        "type": "object",
        "description": "How a request went.",
        "required": ["kind", "apiVersion", "status"],
        "properties": {
            "apiVersion": text(),
            "kind": text(),
            "metadata": reference("ListMeta"),
            "status": { "type": "string", "enum": ["Success", "Failure"] },
            "message": text(),
            "reason": text(),
            "code": number(),
            "details": {
                "type": "object",
                "properties": {
                    "name": text(),
                    "group": text(),
                    "kind": text(),
                    "uid": text(),
                    "retryAfterSeconds": number(),
                    "causes": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": { "reason": text(), "message": text(), "field": text() },
                        },
                    },
                },
            },
        },
    })
}

fn document(resource: Resource) -> Value {
    let paths: Vec<String> = known_fields(resource).collect();
    let mut properties = properties(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    properties.insert("apiVersion".to_owned(), text());
    properties.insert("kind".to_owned(), text());
    if has_status(resource) {
        let status = free("How it stands; the server writes it.");
        properties.insert("status".to_owned(), status);
    }
    json!({
        "type": "object",
        "description": about(resource),
        "properties": properties,
        "x-kubernetes-group-version-kind": [group_version_kind(resource)],
    })
}

fn list(resource: Resource) -> Value {
    let mut kind = group_version_kind(resource);
    kind["kind"] = format!("{}List", resource.kind()).into();
    json!({
        "type": "object",
        "description": format!("Documents of the kind {}.", resource.kind()),
        "required": ["items"],
        "properties": {
            "apiVersion": text(),
            "kind": text(),
            "metadata": reference("ListMeta"),
            "items": { "type": "array", "items": reference(&name(resource)) },
        },
        "x-kubernetes-group-version-kind": [kind],
    })
}

fn about(resource: Resource) -> String {
    let kind = resource.kind();
    match resource {
        Resource::Secret => format!("A {kind}. Its values are written and never read."),
        Resource::Event => format!("An {kind}: what has happened to a document."),
        _ => format!("A {kind}."),
    }
}

/// Returns the properties of a mapping that has these paths in it.
fn properties<'a>(paths: &[&'a str]) -> Map<String, Value> {
    let mut properties = Map::new();
    for path in paths {
        let first = path.split('/').next().unwrap_or_default();
        if properties.contains_key(first) {
            continue;
        }
        let below = |path: &&'a str| path.split_once('/').filter(|(key, _)| *key == first);
        let rest: Vec<&str> = paths.iter().filter_map(below).map(|(_, rest)| rest).collect();
        properties.insert(first.to_owned(), field(first, &rest));
    }
    properties
}

fn field(name: &str, below: &[&str]) -> Value {
    if below.is_empty() {
        return leaf(name);
    }
    let of_any: Vec<&str> = below.iter().filter_map(|path| path.strip_prefix("*/")).collect();
    let mapping = match of_any.is_empty() {
        true => json!({ "type": "object", "properties": properties(below) }),
        false => {
            let each = json!({ "type": "object", "properties": properties(&of_any) });
            json!({ "type": "object", "additionalProperties": each })
        }
    };
    match name {
        "ownerReferences" => json!({ "type": "array", "items": mapping }),
        _ => mapping,
    }
}

/// Returns the schema of a field below which nothing is looked at. Of what type it is, is said where all kinds
/// agree on that; what admission takes in several types, such as numbers written as text, has none.
fn leaf(name: &str) -> Value {
    match name {
        "name"
        | "generateName"
        | "namespace"
        | "uid"
        | "resourceVersion"
        | "creationTimestamp"
        | "deletionTimestamp"
        | "volumeName"
        | "volumeMode"
        | "storageClassName"
        | "provisioner"
        | "reclaimPolicy"
        | "volumeBindingMode"
        | "driver"
        | "deletionPolicy"
        | "sourceType"
        | "secret"
        | "secretNamespace"
        | "checksum"
        | "url"
        | "displayName"
        | "description"
        | "persistentVolumeClaimName"
        | "volumeSnapshotContentName"
        | "volumeSnapshotClassName"
        | "cryptoOperation"
        | "sourceImageName"
        | "sourceImageNamespace"
        | "reason"
        | "message"
        | "volumeHandle"
        | "backingImage" => text(),
        "labels"
        | "annotations"
        | "parameters"
        | "data"
        | "stringData"
        | "volumeAttributes"
        | "storageClassParameters" => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        "accessModes" | "mountOptions" | "finalizers" => {
            json!({ "type": "array", "items": { "type": "string" } })
        }
        "encrypted" | "immutable" | "allowVolumeExpansion" => json!({ "type": "boolean" }),
        "generation" | "deletionGracePeriodSeconds" | "count" => number(),
        _ => json!({ "x-kubernetes-preserve-unknown-fields": true }),
    }
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn number() -> Value {
    json!({ "type": "integer", "format": "int64" })
}

fn free(about: &str) -> Value {
    json!({
        "type": "object",
        "description": about,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_kind_has_the_fields_that_admission_knows() {
        let image = document(Resource::BackingImage);
        let spec = &image["properties"]["spec"]["properties"];
        assert_eq!(spec["sourceType"]["type"], "string");
        assert!(spec["sourceParameters"]["properties"]["backing-image-uuid"].is_object());
        let disks = &spec["diskFileSpecMap"]["additionalProperties"]["properties"];
        assert!(disks["evictionRequested"].is_object());
        let metadata = &image["properties"]["metadata"]["properties"];
        assert_eq!(metadata["labels"]["additionalProperties"]["type"], "string");
        assert_eq!(metadata["ownerReferences"]["items"]["properties"]["uid"]["type"], "string");
        assert!(image["properties"]["status"].is_object());
        assert!(document(Resource::Secret)["properties"].get("status").is_none());
    }
}
