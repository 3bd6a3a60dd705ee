use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use strongroom_model::dialect::resource::{Resource, Scope};

use super::server::{Answered, IMAGES, SECRETS, Server, image, secret, volume};

/// Returns where the documents of a kind are.
fn path(resource: Resource, namespace: Option<&str>) -> String {
    let root = match resource.group() {
        "" => "/api/v1".to_owned(),
        group => format!("/apis/{group}/{}", resource.version()),
    };
    match (resource.scope(), namespace) {
        (Scope::Namespaced, Some(namespace)) => {
            format!("{root}/namespaces/{namespace}/{}", resource.plural())
        }
        _ => format!("{root}/{}", resource.plural()),
    }
}

/// Returns every way to ask for documents, and whether it only reads and whether it takes away.
fn heads(path: &str) -> [(String, bool, bool); 8] {
    [
        (format!("GET {path}"), true, false),
        // Whoever may watch is told that this cannot be asked for.
        (format!("GET {path}?watch=true&fieldSelector=none%3Dnone"), true, false),
        (format!("GET {path}/nothing"), true, false),
        (format!("POST {path}"), false, false),
        (format!("PUT {path}/nothing"), false, false),
        (format!("PATCH {path}/nothing"), false, false),
        (format!("DELETE {path}/nothing"), false, true),
        (format!("DELETE {path}?labelSelector=none%3Dnone"), false, true),
    ]
}

#[test]
fn each_role_may_do_what_it_may_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let operator = server.token("op", "operator", &[]);
    let scoped = server.token("op-lab", "operator", &["lab"]);
    let viewer = server.token("eyes", "viewer", &[]);
    let viewer_of = server.token("eyes-lab", "viewer", &["lab"]);
    let admin = server.admin().to_owned();
    let mut asked = 0;
    for resource in Resource::ALL {
        let cluster = resource.scope() == Scope::Cluster;
        let secret = resource == Resource::Secret;
        for namespace in [Some("lab"), Some("other"), None] {
            let own = cluster || namespace == Some("lab");
            for (head, reads, takes) in heads(&path(resource, namespace)) {
                if !cluster && namespace.is_none() && head.contains("/nothing") {
                    continue;
                }
                let may = |token: &str| {
                    let answer = server.ask(token, &head, "application/json", "{}");
                    assert_ne!(answer.code, 401, "{head}");
                    assert!(answer.code < 500, "{head}: {}", answer.body);
                    answer.code != 403
                };
                assert!(may(&admin), "admin {head}");
                assert_eq!(may(&operator), !(cluster && takes), "operator {head}");
                let expected = if cluster { reads } else { own };
                assert_eq!(may(&scoped), expected, "operator in lab {head}");
                assert_eq!(may(&viewer), reads && !secret, "viewer {head}");
                assert_eq!(may(&viewer_of), own && reads && !secret, "viewer in lab {head}");
                asked += 1;
            }
        }
    }
    assert!(asked > 200);
    for (head, of) in [
        ("GET /v1/tokens", [false, false]),
        ("DELETE /v1/tokens/nobody", [false, false]),
        ("GET /v1/jobs", [true, true]),
        ("DELETE /v1/jobs/none", [true, false]),
        ("GET /v1/images/lab/ubuntu/data", [true, false]),
        ("GET /v1/images/other/ubuntu/data", [false, false]),
        ("GET /v1/whatever", [false, false]),
        ("GET /metrics", [true, true]),
        ("GET /version", [true, true]),
    ] {
        for (token, may) in [&scoped, &viewer_of].into_iter().zip(of) {
            let answer = server.ask(token, head, "", "");
            assert_eq!(answer.code != 403, may, "{head}: {}", answer.body);
        }
    }
}

#[test]
fn nobody_without_a_token_sees_anything_but_that_the_server_lives() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let ask = |head: &str, headers: &str| Answered::read(server.open(head, headers, b""));
    for open in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(ask(&format!("GET {open}"), "").body, "ok");
    }
    let basic = STANDARD.encode(format!("anybody:{}", server.admin()));
    for (headers, code) in [
        (String::new(), 401),
        ("Authorization: Bearer \r\n".to_owned(), 401),
        ("Authorization: Bearer strongroom_wrong\r\n".to_owned(), 401),
        (format!("Authorization: Negotiate {}\r\n", server.admin()), 401),
        (format!("Authorization: Bearer {}x\r\n", server.admin()), 401),
        (format!("Authorization: bearer {}\r\n", server.admin()), 200),
        (format!("Authorization: Basic {basic}\r\n"), 200),
    ] {
        for path in ["/apis", SECRETS, "/v1/jobs", "/metrics", "/openapi/v3"] {
            let answer = ask(&format!("GET {path}"), &headers);
            assert_eq!(answer.code, code, "{path} {headers}");
            assert!(!answer.body.contains(server.admin()));
        }
    }
}

#[test]
fn tokens_are_shown_once_kept_as_digests_and_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let token = server.token("ci", "operator", &["lab"]);
    let twice = json!({ "name": "ci", "role": "viewer", "allNamespaces": true });
    assert_eq!(server.admin_asks("POST /v1/tokens", &twice).code, 409);
    let admin = json!({ "name": "admin", "role": "viewer", "namespaces": ["lab"] });
    assert_eq!(server.admin_asks("POST /v1/tokens", &admin).code, 409);
    for bad in [json!({ "name": "A b", "role": "viewer" }), json!({ "name": "x", "role": "king" })]
    {
        assert_eq!(server.admin_asks("POST /v1/tokens", &bad).code, 400);
    }
    for vague in [
        json!({ "name": "vague", "role": "viewer" }),
        json!({ "name": "vague", "role": "viewer", "namespaces": [] }),
        json!({ "name": "vague", "role": "viewer", "namespaces": ["lab"], "allNamespaces": true }),
    ] {
        let answer = server.admin_asks("POST /v1/tokens", &vague);
        assert_eq!(answer.code, 400);
        assert!(answer.body.contains("allNamespaces"), "{}", answer.body);
    }
    let listed = server.get("/v1/tokens");
    assert_eq!(listed.json()["items"][0]["name"], "ci");
    assert!(!listed.body.contains(&token) && !listed.body.contains("digest"));
    server.stop();

    let server = Server::start(folder.path());
    assert_eq!(server.ask(&token, &format!("GET {IMAGES}"), "", "").code, 200);
    for entry in std::fs::read_dir(folder.path().join("pool")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()));
        }
    }
    assert_eq!(server.admin_asks("DELETE /v1/tokens/ci", &Value::Null).code, 200);
    assert_eq!(server.ask(&token, &format!("GET {IMAGES}"), "", "").code, 401);
    assert_eq!(server.admin_asks("DELETE /v1/tokens/ci", &Value::Null).code, 404);
}

#[test]
fn a_token_for_a_namespace_sees_nothing_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let volumes = path(Resource::PersistentVolume, None);
    for namespace in ["lab", "other"] {
        let document = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": { "name": format!("of-{namespace}") },
            "spec": {
                "capacity": { "storage": "1Gi" },
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "csi": { "driver": "driver.longhorn.io", "volumeHandle": namespace },
                "claimRef": { "namespace": namespace, "name": "data" },
            },
        });
        server.create(&volumes, &document);
        server.create(&path(Resource::LonghornVolume, Some(namespace)), &volume(namespace));
    }
    let scoped = server.token("eyes-lab", "viewer", &["lab"]);
    let all = server.token("eyes", "viewer", &[]);
    let ask = |token: &str, path: &str| server.ask(token, &format!("GET {path}"), "", "");
    let has = |token: &str, path: &str| ask(token, path).body.contains("of-other");
    let watch = format!("{volumes}?watch=true&timeoutSeconds=1");
    for path in [volumes.as_str(), watch.as_str()] {
        assert!(has(&all, path) && !has(&scoped, path), "{path}");
        assert!(ask(&scoped, path).body.contains("of-lab"), "{path}");
    }
    assert_eq!(ask(&scoped, &format!("{volumes}/of-other")).code, 404);
    assert_eq!(ask(&scoped, &format!("{volumes}/of-lab")).code, 200);
    let named = "longhorn_volume_encrypted{volume=\"other\",pvc_namespace=\"other\",pvc=\"data\"}";
    assert!(ask(&all, "/metrics").body.contains(named));
    let numbers = ask(&scoped, "/metrics").body;
    assert!(numbers.contains("strongroom_documents{") && !numbers.contains("volume=\""));
}

#[test]
fn a_namespace_with_documents_in_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "lab" } });
    server.create("/api/v1/namespaces", &namespace);
    server.create(SECRETS, &secret("key", "canary"));
    let delete = || server.admin_asks("DELETE /api/v1/namespaces/lab?force=true", &Value::Null);
    let refused = delete();
    assert_eq!(refused.code, 409, "{}", refused.body);
    assert!(refused.body.contains("Secret lab/key"), "{}", refused.body);
    server.admin_asks(&format!("DELETE {SECRETS}/key"), &Value::Null);
    assert_eq!(delete().code, 200);
}

#[test]
fn the_watches_of_a_token_that_is_taken_away_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let token = server.token("ci", "viewer", &["lab"]);
    let headers = format!("Authorization: Bearer {token}\r\n");
    let watch = server.open(&format!("GET {IMAGES}?watch=true"), &headers, b"");
    server.create(IMAGES, &image("ubuntu"));
    assert_eq!(server.admin_asks("DELETE /v1/tokens/ci", &Value::Null).code, 200);
    let begun = Instant::now();
    assert_eq!(Answered::read(watch).code, 200);
    assert!(begun.elapsed() < Duration::from_secs(55), "{:?}", begun.elapsed());
}
