use std::collections::BTreeSet;

use serde_json::Value;
use strongroom_model::Reach;

use super::server::{Answered, IMAGES, Server, image, settings};

/// Returns every document that describes the API.
fn documents(server: &Server) -> Vec<Value> {
    let index = server.get("/openapi/v3").json();
    let parts = index["paths"].as_object().unwrap();
    assert!(parts.contains_key("v1") && parts.contains_key("apis/longhorn.io/v1beta2"));
    let read = |part: &Value| server.get(part["serverRelativeURL"].as_str().unwrap()).json();
    parts.values().map(read).collect()
}

/// Returns the methods of a path of a document.
fn methods(item: &Value) -> impl Iterator<Item = (String, &Value)> {
    let fields = item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters");
    fields.map(|(method, operation)| (method.to_uppercase(), operation))
}

/// Returns everything that is referred to in a value.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_path_that_is_described_is_one_that_the_server_knows() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut asked = 0;
    for document in documents(&server) {
        for (path, item) in document["paths"].as_object().unwrap() {
            // Names of nothing: what is refused is refused for what it is about, not for its path.
            let real = path
                .replace("{group}", "longhorn.io")
                .replace("{version}", "v1beta2")
                .replace("{path}", "api/v1")
                .replace("{namespace}", "lab")
                .replace(['{', '}'], "");
            for (method, operation) in methods(item) {
                let answer =
                    server.admin_asks(&format!("{method} {real}?dryRun=All"), &Value::Null);
                let what = format!("{method} {real}: {} {}", answer.code, answer.body);
                assert!(!matches!(answer.code, 401 | 403 | 405 | 500), "{what}");
                // As nothing is behind a path, so the router says when it knows none.
                assert!(!answer.body.contains("could not find the requested resource"), "{what}");
                let answers = operation["responses"].as_object().unwrap();
                let code = answer.code.to_string();
                assert!(answers.contains_key(&code) || answers.contains_key("default"), "{what}");
                asked += 1;
            }
        }
    }
    assert!(asked > 100, "{asked}");
    for unknown in ["/v1/nothing", "/openapi/v3/nothing", "/v1/images/lab/a"] {
        let answer = server.get(unknown);
        assert_eq!(answer.code, 404, "{unknown}");
        assert!(answer.body.contains("could not find the requested resource"), "{unknown}");
    }
    assert_eq!(server.admin_asks("PUT /v1/jobs", &Value::Null).code, 405);
}

#[test]
fn whatever_is_referred_to_in_a_description_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for document in documents(&server) {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}

/// Fails when a value has what its schema does not, or lacks what its schema requires.
fn assert_fits(document: &Value, schema: &Value, value: &Value) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        return assert_fits(document, schema, value);
    }
    if value.is_null() {
        assert_eq!(schema["nullable"], true, "{schema}");
        return;
    }
    match schema["type"].as_str() {
        Some("string") => assert!(value.is_string(), "{value} is no {schema}"),
        Some("integer") => assert!(value.is_i64() || value.is_u64(), "{value} is no {schema}"),
        Some("boolean") => assert!(value.is_boolean(), "{value} is no {schema}"),
        Some("array") => {
            let items = value.as_array().unwrap();
            items.iter().for_each(|item| assert_fits(document, &schema["items"], item));
        }
        _ => {}
    }
    let (Some(known), Some(fields)) = (schema["properties"].as_object(), value.as_object()) else {
        return;
    };
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(fields.contains_key(required.as_str().unwrap()), "{required} is not in {value}");
    }
    for (name, field) in fields {
        let schema =
            known.get(name).unwrap_or_else(|| panic!("nothing is said of {name}: {value}"));
        assert_fits(document, schema, field);
    }
}

/// Fails when an answer is not what the description of its path says.
fn assert_described(document: &Value, path: &str, method: &str, answer: &Answered) {
    let answers = &document["paths"][path][method]["responses"];
    let is = answers.get(answer.code.to_string()).unwrap_or(&answers["default"]);
    let mut schema = &is["content"]["application/json"]["schema"];
    assert!(!schema.is_null(), "{method} {path} {}", answer.code);
    if let Some(first) = schema["anyOf"].get(0) {
        schema = first;
    }
    assert_fits(document, schema, &answer.json());
}

#[test]
fn answers_are_what_their_descriptions_say() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path(), None);
    settings.downloads.reach = Reach::OtherHosts;
    let server = Server::with(settings);
    let ours = server.get("/openapi/v3/v1").json();
    let wanted = serde_json::json!({ "name": "ci", "role": "viewer", "allNamespaces": true });
    let made = server.admin_asks("POST /v1/tokens", &wanted);
    assert_described(&ours, "/v1/tokens", "post", &made);
    assert_described(&ours, "/v1/tokens", "get", &server.get("/v1/tokens"));
    let gone = server.admin_asks("DELETE /v1/tokens/ci", &Value::Null);
    assert_described(&ours, "/v1/tokens/{name}", "delete", &gone);
    assert_described(&ours, "/version", "get", &server.get("/version"));
    let missing = server.get("/v1/jobs/none");
    assert_eq!(missing.code, 404);
    assert_described(&ours, "/v1/jobs/{id}", "get", &missing);

    // A job that fails at once: nothing on this machine may be fetched.
    let mut fetched = image("fetched");
    fetched["spec"] = serde_json::json!({
        "sourceType": "download", "sourceParameters": { "url": "http://127.0.0.1:1/disk.img" },
    });
    server.create(IMAGES, &fetched);
    let job = server.job_that(|job| job["state"] == "failed");
    let listed = server.get("/v1/jobs");
    assert_eq!(listed.json()["items"][0], job);
    assert_described(&ours, "/v1/jobs", "get", &listed);
    let id = job["id"].as_str().unwrap();
    assert_described(&ours, "/v1/jobs/{id}", "get", &server.get(&format!("/v1/jobs/{id}")));
    let late = server.admin_asks(&format!("DELETE /v1/jobs/{id}"), &Value::Null);
    assert_eq!(late.code, 409);
    assert_described(&ours, "/v1/jobs/{id}", "delete", &late);

    let longhorn = server.get("/openapi/v3/apis/longhorn.io/v1beta2").json();
    let path = "/apis/longhorn.io/v1beta2/namespaces/{namespace}/backingimages";
    assert_described(&longhorn, path, "get", &server.get(IMAGES));
    let one = server.get(&format!("{IMAGES}/fetched"));
    assert_described(&longhorn, &format!("{path}/{{name}}"), "get", &one);
    assert_described(
        &longhorn,
        path,
        "post",
        &server.admin_asks(&format!("POST {IMAGES}"), &fetched),
    );
}
