//! The API as OpenAPI 3 documents, made of the table of kinds.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};
use strongroom_model::dialect::resource::{Resource, Scope};

use super::discovery::has_status;
use super::failure::{Answer, Failure};
use super::json;

/// Lists the documents.
pub(super) async fn index() -> Response {
    let mut paths = Map::new();
    for resource in Resource::ALL {
        let path = root(resource);
        let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    json(StatusCode::OK, json!({ "paths": paths }).to_string())
}

/// Returns the document of a group and version.
pub(super) async fn document(Path(path): Path<String>) -> Answer<Response> {
    let found: Vec<Resource> =
        Resource::ALL.into_iter().filter(|resource| root(*resource) == path).collect();
    if found.is_empty() {
        return Err(Failure::no_path());
    }
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in found {
        schemas.insert(schema_name(resource), schema(resource));
        add_paths(&mut paths, resource);
    }
    let document = json!({
        "openapi": "3.0.0",
        "info": { "title": "Strongroom", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "BearerToken": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{ "BearerToken": [] }],
    });
    Ok(json(StatusCode::OK, document.to_string()))
}

/// Returns where the paths of a kind begin.
fn root(resource: Resource) -> String {
    match resource.group() {
        "" => format!("api/{}", resource.version()),
        group => format!("apis/{group}/{}", resource.version()),
    }
}

fn schema_name(resource: Resource) -> String {
    let group = if resource.group().is_empty() { "core" } else { resource.group() };
    let group: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{}.{}", group.join("."), resource.version(), resource.kind())
}

fn schema(resource: Resource) -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let free = |about: &str| {
        json!({
            "type": "object",
            "description": about,
            "x-kubernetes-preserve-unknown-fields": true,
        })
    };
    let mut properties = json!({
        "apiVersion": text("The group and version of the kind."),
        "kind": text("The kind."),
        "metadata": free("The name, namespace, labels, annotations and what else all kinds have."),
    });
    for (name, about) in parts(resource) {
        properties[*name] = match *about {
            "" => json!({}),
            about => free(about),
        };
    }
    if has_status(resource) {
        properties["status"] = free("How it stands; the server writes it.");
    }
    json!({
        "type": "object",
        "description": format!("A document of the kind {}.", resource.kind()),
        "properties": properties,
        "x-kubernetes-group-version-kind": [kind(resource)],
    })
}

/// Returns what a kind has besides metadata and status; what is no mapping has no description.
fn parts(resource: Resource) -> &'static [(&'static str, &'static str)] {
    match resource {
        Resource::Secret => &[
            ("data", "Values by key, in base64. They are written and never read."),
            ("stringData", "Values by key, as they are. They are written and never read."),
            ("type", ""),
            ("immutable", ""),
        ],
        Resource::Event => &[
            ("involvedObject", "What it is about."),
            ("source", "Who tells it."),
            ("reason", ""),
            ("message", ""),
            ("type", ""),
            ("count", ""),
            ("firstTimestamp", ""),
            ("lastTimestamp", ""),
            ("eventTime", ""),
            ("reportingComponent", ""),
            ("reportingInstance", ""),
        ],
        Resource::StorageClass => &[
            ("parameters", "What the provisioner is told."),
            ("provisioner", ""),
            ("reclaimPolicy", ""),
            ("volumeBindingMode", ""),
            ("allowVolumeExpansion", ""),
            ("mountOptions", ""),
            ("allowedTopologies", ""),
        ],
        Resource::VolumeSnapshotClass => {
            &[("parameters", "What the driver is told."), ("driver", ""), ("deletionPolicy", "")]
        }
        _ => &[("spec", "What is wanted.")],
    }
}

fn kind(resource: Resource) -> Value {
    json!({
        "group": resource.group(),
        "version": resource.version(),
        "kind": resource.kind(),
    })
}

fn add_paths(paths: &mut Map<String, Value>, resource: Resource) {
    let (root, plural) = (root(resource), resource.plural());
    let all = format!("/{root}/{plural}");
    let (collection, mut parameters) = match resource.scope() {
        Scope::Cluster => (all, Vec::new()),
        Scope::Namespaced => {
            let mut list = json!({});
            list["get"] = operation(resource, "list", &LIST);
            paths.insert(all, list);
            (format!("/{root}/namespaces/{{namespace}}/{plural}"), vec![in_path("namespace")])
        }
    };
    paths.insert(
        collection.clone(),
        json!({
            "parameters": parameters,
            "get": operation(resource, "list", &LIST),
            "post": operation(resource, "post", &WRITE),
            "delete": operation(resource, "deletecollection", &["labelSelector", "fieldSelector", "dryRun"]),
        }),
    );
    parameters.push(in_path("name"));
    let one = json!({
        "parameters": parameters,
        "get": operation(resource, "get", &[]),
        "put": operation(resource, "put", &WRITE),
        "patch": operation(resource, "patch", &WRITE),
        "delete": operation(resource, "delete", &["propagationPolicy", "dryRun", "force"]),
    });
    paths.insert(format!("{collection}/{{name}}"), one);
    if has_status(resource) {
        let status = json!({
            "parameters": parameters,
            "get": operation(resource, "get", &[]),
            "put": operation(resource, "put", &WRITE),
            "patch": operation(resource, "patch", &WRITE),
        });
        paths.insert(format!("{collection}/{{name}}/status"), status);
    }
}

fn operation(resource: Resource, action: &str, parameters: &[&str]) -> Value {
    let parameter = |name: &&str| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } });
    json!({
        "parameters": parameters.iter().map(parameter).collect::<Vec<_>>(),
        "responses": {
            "200": {
                "description": "OK",
                "content": {
                    "application/json": {
                        "schema": {
                            "$ref": format!("#/components/schemas/{}", schema_name(resource)),
                        },
                    },
                },
            },
            "401": { "description": "no known token came with the request" },
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind(resource),
    })
}

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

/// The parameters of lists.
const LIST: [&str; 9] = [
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "watch",
    "resourceVersion",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "timeoutSeconds",
];

/// The parameters of what writes.
const WRITE: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
