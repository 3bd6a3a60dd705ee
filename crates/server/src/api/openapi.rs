//! The API as OpenAPI 3 documents, made of what the router is made of: the table of kinds, and those of the
//! other paths.

mod kinds;
mod ours;
mod schemas;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use strongroom::hexadecimal;
use strongroom_model::dialect::resource::Resource;

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
    for (part, document) in DOCUMENTS.iter() {
        let url = format!("/openapi/v3/{part}?hash={}", document.digest);
        paths.insert(part.clone(), json!({ "serverRelativeURL": url }));
    }
    json(StatusCode::OK, json!({ "paths": paths }).to_string())
}

/// Returns the document of a group and version, or of the paths of this house ([`OURS`]).
pub(super) async fn document(Path(path): Path<String>) -> Answer<Response> {
    let document = DOCUMENTS.get(&path).ok_or_else(Failure::no_path)?;
    Ok(json(StatusCode::OK, document.text.as_str()))
}

/// A document as it is sent.
struct Document {
    text: String,
    /// By which clients know whether they have it already.
    digest: String,
}

/// The documents by the part of the API that they are about.
static DOCUMENTS: LazyLock<BTreeMap<String, Document>> = LazyLock::new(|| {
    let mut parts = BTreeMap::from([(OURS.to_owned(), (ours::paths(), ours::schemas()))]);
    for resource in Resource::ALL {
        let part = parts.entry(kinds::root(resource));
        let (paths, schemas) = part.or_insert_with(|| (Map::new(), schemas::shared()));
        paths.extend(kinds::paths(resource));
        schemas.extend(schemas::of_kind(resource));
    }
    let written =
        parts.iter().map(|(part, (paths, schemas))| (part.clone(), Document::of(paths, schemas)));
    written.collect()
});

impl Document {
    fn of(paths: &Map<String, Value>, schemas: &Map<String, Value>) -> Self {
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
        let text = document.to_string();
        let digest = Sha256::digest(&text);
        Self { text, digest: hexadecimal(&digest[..16]) }
    }
}

/// Returns how a schema is referred to.
fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Returns a JSON body that a request must have.
fn json_body(schema: &Value) -> Value {
    json!({ "required": true, "content": { "application/json": { "schema": schema } } })
}

/// Returns an answer in JSON.
fn answer(meaning: &str, schema: &Value) -> Value {
    json!({ "description": meaning, "content": { "application/json": { "schema": schema } } })
}

/// Returns the answers of what is not done.
fn failures() -> Value {
    let status = reference("Status");
    json!({
        "401": answer("no known token came with the request", &status),
        "403": answer("the token does not allow that", &status),
        "default": answer("why it is not done", &status),
    })
}

/// What the API is called.
const TITLE: &str = "Strongroom";

/// The part of the API that is not about documents.
const OURS: &str = "v1";

/// What an answer in protocol buffers is called: older clients cannot read the name by which they ask for it.
const PROTOBUF: &str = "application/octet-stream";
