//! The paths that are not those of documents, as their tables have them.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::{answer, failures, json_body, reference};
use crate::api::endpoint::{About, Content, Door, described};
use crate::api::{house, libvirt};

/// Returns those paths, with what can be done there.
pub(super) fn paths() -> Map<String, Value> {
    let mut paths = Map::new();
    let all = described(house::endpoints())
        .chain(described(crate::transfer::endpoints()))
        .chain(described(libvirt::endpoints()));
    for (path, method, about) in all {
        let path = path.replace("{*", "{");
        let item = paths.entry(path.clone()).or_insert_with(|| {
            let names: Vec<Value> = names(&path).map(in_path).collect();
            json!({ "parameters": names })
        });
        item[method.as_str().to_lowercase()] = operation(&path, &method, &about);
    }
    paths
}

/// Returns the schemas of what comes and goes there.
pub(super) fn schemas() -> Map<String, Value> {
    let text = json!({ "type": "string" });
    let number = json!({ "type": "integer", "format": "int64" });
    let texts = json!({ "type": "array", "items": text });
    let role = json!({ "type": "string", "enum": ["admin", "operator", "viewer"] });
    let seconds = json!({
        "type": "integer",
        "format": "int64",
        "nullable": true,
        "description": "Seconds since 1970.",
    });
    let count = json!({ "type": "integer", "format": "int64", "nullable": true });
    let schemas = json!({
        "Job": object(&["id", "task", "subject", "state", "attempts", "done", "created"], &json!({
            "id": text,
            "task": text,
            "subject": { "type": "string", "description": "What it is about: backingimages lab/ubuntu." },
            "request": { "type": "object", "description": "What else its worker needs to know." },
            "rate_limit": count,
            "state": {
                "type": "string",
                "enum": ["pending", "in-progress", "done", "failed", "cancelled"],
            },
            "attempts": number,
            "done": { "type": "integer", "format": "int64", "description": "Bytes that are done." },
            "of": count,
            "progress": { "type": "integer", "nullable": true, "minimum": 0, "maximum": 100 },
            "message": { "type": "string", "nullable": true, "description": "What went wrong last." },
            "created": seconds,
            "started": seconds,
            "ended": seconds,
        })),
        "JobList": list("Job"),
        "WatchEvent": object(&["type", "object"], &json!({
            "type": { "type": "string", "enum": ["ADDED", "MODIFIED", "DELETED"] },
            "object": reference("Job"),
        })),
        "Token": object(&["name", "role", "namespaces", "created"], &json!({
            "name": text,
            "role": role,
            "namespaces": texts,
            "created": { "type": "string", "format": "date-time" },
        })),
        "TokenList": list("Token"),
        "NewToken": object(&["name", "role"], &json!({
            "name": text,
            "role": role,
            "namespaces": texts,
            "allNamespaces": { "type": "boolean" },
        })),
        "MadeToken": object(&["name", "role", "namespaces", "token"], &json!({
            "name": text,
            "role": role,
            "namespaces": texts,
            "token": { "type": "string", "description": "The token itself, which is nowhere else." },
        })),
        "Version": object(&["major", "minor", "gitVersion", "platform"], &json!({
            "major": text,
            "minor": text,
            "gitVersion": text,
            "platform": text,
        })),
        "WantedAttachment": object(&[], &json!({
            "mount": { "type": "string", "description": "The directory to mount it at." },
            "nbd": { "type": "string", "description": "The path of a unix socket, or host:port." },
            "device": { "type": "boolean", "description": "Whether a block device is wanted." },
            "readOnly": { "type": "boolean" },
        })),
        "Attachment": object(&["attached"], &json!({
            "attached": { "type": "boolean" },
            "volume": text,
            "backend": text,
            "show": {},
            "device": { "type": "string", "nullable": true },
            "readOnly": { "type": "boolean" },
        })),
        "Status": super::schemas::status(),
        "ListMeta": { "type": "object" },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}

fn object(required: &[&str], properties: &Value) -> Value {
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn list(of: &str) -> Value {
    object(&["items"], &json!({ "items": { "type": "array", "items": reference(of) } }))
}

/// Returns the names in braces of a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|word| word.strip_prefix('{')?.strip_suffix('}'))
}

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

fn operation(path: &str, method: &Method, about: &About) -> Value {
    let parameter = |place: &'static str| {
        move |(name, meaning): &(&str, &str)| {
            json!({
                "name": name,
                "in": place,
                "description": meaning,
                "schema": { "type": "string" },
            })
        }
    };
    let query = about.query.iter().map(parameter("query"));
    let parameters: Vec<Value> =
        query.chain(about.headers.iter().map(parameter("header"))).collect();
    let mut responses = match about.open {
        Door::Open => json!({}),
        Door::Guarded => failures(),
    };
    for (code, meaning, content) in &about.answers {
        responses[code.to_string()] = response(meaning, *content);
    }
    let tag = path.split('/').filter(|word| *word != "v1").nth(1).unwrap_or_default();
    let mut operation = json!({
        "operationId": identifier(path, method),
        "summary": about.summary,
        "tags": [tag],
        "parameters": parameters,
        "responses": responses,
    });
    if about.open == Door::Open {
        operation["security"] = json!([]);
    }
    match about.body {
        Some(Content::Json(name)) => operation["requestBody"] = json_body(&reference(name)),
        Some(_) => operation["requestBody"] = json!({ "content": bytes() }),
        None => {}
    }
    operation
}

fn identifier(path: &str, method: &Method) -> String {
    let words = path.split('/').map(|word| word.trim_matches(['{', '}']));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!("{}-{}", method.as_str().to_lowercase(), words.join("-"))
}

fn response(meaning: &str, content: Content) -> Value {
    match content {
        Content::Json(name) => answer(meaning, &reference(name)),
        Content::JsonOrStream(whole, piece) => {
            answer(meaning, &json!({ "anyOf": [reference(whole), reference(piece)] }))
        }
        Content::AnyJson => answer(meaning, &json!({ "type": "object" })),
        Content::Text => json!({
            "description": meaning,
            "content": { "text/plain": { "schema": { "type": "string" } } },
        }),
        Content::Bytes => json!({ "description": meaning, "content": bytes() }),
        Content::Nothing => json!({ "description": meaning }),
    }
}

fn bytes() -> Value {
    json!({ "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } })
}
