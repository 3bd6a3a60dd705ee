//! The API as OpenAPI 3 documents, made of the table of kinds.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value, json};
use strongroom_model::dialect::resource::{Resource, Scope};

use super::discovery::has_status;
use super::failure::{Answer, Failure};
use super::json;

/// Returns an OpenAPI 2 document that says nothing: older clients insist on there being one before they apply
/// anything, and check what is in it.
pub(super) async fn older(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if !accept.is_some_and(|accept| accept.contains("protobuf")) {
        let info = json!({ "title": TITLE, "version": env!("CARGO_PKG_VERSION") });
        let document = json!({ "swagger": "2.0", "info": info, "paths": {}, "definitions": {} });
        return json(StatusCode::OK, document.to_string());
    }
    // The message `openapi.v2.Document`: its version (field 1), and its title and version (1 and 2 of field 2).
    let info =
        [field(1, TITLE.as_bytes()), field(2, env!("CARGO_PKG_VERSION").as_bytes())].concat();
    let document = [field(1, b"2.0"), field(2, &info)].concat();
    let mut response = json(StatusCode::OK, document);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    response
}

/// Encodes a short text or message as a field of a message in protocol buffers.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).ok().filter(|len| *len < 128).unwrap_or(0);
    let bytes = bytes.get(..usize::from(len)).unwrap_or_default();
    [&[number << 3 | 2, len], bytes].concat()
}

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
        "info": { "title": TITLE, "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "BearerToken": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{ "BearerToken": [] }],
    });
    Ok(json(StatusCode::OK, document.to_string()))
}

/// What the API is called.
const TITLE: &str = "Strongroom";

/// What an answer in protocol buffers is called: older clients cannot read the name by which they ask for it.
const PROTOBUF: &str = "application/octet-stream";

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
