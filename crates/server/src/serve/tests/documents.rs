use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom_model::dialect::resource::{Resource, Scope};

use super::server::{
    Answered, CLASSES, IMAGES, SECRETS, Server, VOLUMES, class, image, secret, volume,
};

#[test]
fn a_document_is_made_read_replaced_patched_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let made = server.create(CLASSES, &class("fast"));
    assert_eq!(made["metadata"]["generation"], 1);
    let one = format!("{CLASSES}/fast");
    let again = server.admin_asks(&format!("POST {CLASSES}"), &class("fast"));
    assert_eq!((again.code, again.json()["reason"].as_str()), (409, Some("AlreadyExists")));

    let mut changed = made;
    changed["metadata"]["labels"] = json!({ "tier": "gold" });
    let put = server.admin_asks(&format!("PUT {one}"), &changed);
    assert_eq!(put.code, 200, "{}", put.body);
    let stale = server.admin_asks(&format!("PUT {one}"), &changed);
    let stale = (stale.code, stale.json());
    assert_eq!((stale.0, stale.1["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(stale.1["details"]["kind"], "storageclasses");
    assert_eq!(stale.1["details"]["group"], "storage.k8s.io");

    let patch = |kind: &str, path: &str, body: Value| {
        server.ask(server.admin(), &format!("PATCH {path}"), kind, &body.to_string())
    };
    let merge = "application/merge-patch+json";
    let patched =
        patch(merge, &one, json!({ "metadata": { "labels": { "tier": null, "a": "b" } } }));
    assert_eq!(patched.json()["metadata"]["labels"], json!({ "a": "b" }));
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "lab" } });
    server.create("/api/v1/namespaces", &namespace);
    let status =
        json!({ "status": { "phase": "Terminating" }, "metadata": { "labels": { "a": "b" } } });
    let status = patch(merge, "/api/v1/namespaces/lab/status", status).json();
    assert_eq!(status["status"]["phase"], "Terminating");
    assert_eq!(status["metadata"]["labels"], Value::Null);
    let renamed = patch(merge, &one, json!({ "metadata": { "name": "slow" } }));
    assert_eq!(renamed.code, 400);
    let operations = json!([{ "op": "add", "path": "/metadata/labels/c", "value": "d" }]);
    let operated = patch("application/json-patch+json", &one, operations);
    assert_eq!(operated.json()["metadata"]["labels"], json!({ "a": "b", "c": "d" }));
    let server_side = patch("application/apply-patch+yaml", &one, json!({}));
    assert_eq!(server_side.code, 415);
    assert!(server_side.body.contains("--server-side"));

    let dry = server.admin_asks(&format!("DELETE {one}?dryRun=All"), &Value::Null);
    assert_eq!(dry.code, 200);
    let other = json!({ "preconditions": { "uid": "another" } });
    assert_eq!(server.admin_asks(&format!("DELETE {one}"), &other).code, 409);
    let gone = server.admin_asks(&format!("DELETE {one}"), &Value::Null);
    assert_eq!(gone.json()["status"], "Success", "{}", gone.body);
    let missing = server.get(&one);
    assert_eq!((missing.code, missing.json()["kind"].as_str()), (404, Some("Status")));
}

#[test]
fn what_may_not_be_kept_is_refused_with_its_fields() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut bad = image("ubuntu");
    bad["spec"]["sourceType"] = "magic".into();
    let answer = server.admin_asks(&format!("POST {IMAGES}"), &bad);
    assert_eq!(answer.code, 422, "{}", answer.body);
    let causes = &answer.json()["details"]["causes"];
    assert_eq!(causes[0]["field"], "spec.sourceType", "{causes}");

    let mut strange = image("ubuntu");
    strange["spec"]["colour"] = "red".into();
    let strict = format!("POST {IMAGES}?fieldValidation=Strict");
    let refused = server.admin_asks(&strict, &strange);
    assert_eq!(refused.code, 400);
    assert!(refused.body.contains("spec.colour"), "{}", refused.body);
    let warned = server.admin_asks(&format!("POST {IMAGES}"), &strange);
    assert_eq!(warned.code, 201);
    assert!(warned.head.contains("warning: 299 - \"unknown field"), "{}", warned.head);

    for (head, body, code) in [
        (format!("POST {IMAGES}"), volume("v"), 400),
        (format!("PUT {IMAGES}/debian"), image("ubuntu"), 400),
        (format!("PUT {IMAGES}/debian"), image("debian"), 404),
        (format!("POST {IMAGES}/debian"), image("debian"), 405),
        ("GET /apis/longhorn.io/v1beta2/replicas".to_owned(), Value::Null, 404),
        (format!("GET {IMAGES}?fieldSelector=spec.x=1"), Value::Null, 400),
        (format!("GET {IMAGES}?limit=many"), Value::Null, 400),
        (format!("POST {IMAGES}?dryRun=Some"), image("x"), 400),
    ] {
        let answer = server.admin_asks(&head, &body);
        assert_eq!(answer.code, code, "{head}: {}", answer.body);
        assert_eq!(answer.json()["status"], "Failure");
    }
    let elsewhere = "POST /apis/longhorn.io/v1beta2/namespaces/other/backingimages";
    let mut in_lab = image("x");
    in_lab["metadata"]["namespace"] = "lab".into();
    assert_eq!(server.admin_asks(elsewhere, &in_lab).code, 400);
}

#[test]
fn the_values_of_secrets_are_written_and_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let one = format!("{SECRETS}/key");
    let mut answers = Vec::new();
    answers.push(server.admin_asks(&format!("POST {SECRETS}"), &secret("key", "canary-one")));
    let dry = format!("POST {SECRETS}?dryRun=All");
    answers.push(server.admin_asks(&dry, &secret("dry", "canary-two")));
    assert_eq!(answers[1].code, 201);
    answers.push(server.get(&one));
    answers.push(server.get(SECRETS));
    answers.push(server.get(&format!("{SECRETS}?watch=true&timeoutSeconds=1")));
    let read = answers[2].json();
    assert_eq!(read["data"], json!({ "CRYPTO_KEY_PROVIDER": "", "CRYPTO_KEY_VALUE": "" }));
    // Whoever writes back what he has read changes nothing.
    let put = server.admin_asks(&format!("PUT {one}"), &read);
    assert_eq!(put.json()["metadata"]["resourceVersion"], read["metadata"]["resourceVersion"]);
    answers.push(put);
    let patch = json!({ "stringData": { "CRYPTO_KEY_VALUE": "canary-three" } }).to_string();
    let kind = "application/strategic-merge-patch+json";
    answers.push(server.ask(server.admin(), &format!("PATCH {one}"), kind, &patch));
    let broken = "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"x\"},\
                  \"data\":{\"a\":\"canary four\"}}";
    answers.push(server.ask(server.admin(), &format!("POST {SECRETS}"), "", broken));
    assert_eq!(answers.last().unwrap().code, 422);
    answers.push(server.ask(server.admin(), &format!("POST {SECRETS}"), "", "\"canary five\""));
    answers.push(server.get("/metrics"));
    for answer in &answers {
        assert!(!answer.body.contains("canary") && !answer.body.contains("Y2FuYXJ5"));
        assert!(!answer.head.contains("canary"));
    }
    drop(server);
    let mut files = 0;
    grep(folder.path(), &mut files);
    assert!(files > 3);
}

/// Fails when a file below a folder has the value of a Secret.
fn grep(folder: &std::path::Path, files: &mut u32) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            grep(&path, files);
            continue;
        }
        *files += 1;
        let bytes = std::fs::read(&path).unwrap();
        for canary in ["canary", "Y2FuYXJ5"] {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{} has the value of a Secret", path.display());
        }
    }
}

#[test]
fn a_secret_in_use_goes_only_by_force_and_both_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.create(SECRETS, &secret("key", "canary"));
    let mut encrypted = image("ubuntu");
    encrypted["spec"]["secret"] = "key".into();
    encrypted["spec"]["secretNamespace"] = "lab".into();
    server.create(IMAGES, &encrypted);
    let one = format!("{SECRETS}/key");
    let refused = server.admin_asks(&format!("DELETE {one}"), &Value::Null);
    assert_eq!(refused.code, 409, "{}", refused.body);
    assert!(refused.body.contains("ubuntu"), "{}", refused.body);
    let all = server.admin_asks(&format!("DELETE {SECRETS}"), &Value::Null);
    assert_eq!(all.code, 409);
    let forced = server.admin_asks(&format!("DELETE {one}?force=true"), &Value::Null);
    assert_eq!(forced.code, 200, "{}", forced.body);
    assert!(forced.head.contains("warning: 299"), "{}", forced.head);
    assert_eq!(server.get(&one).code, 404);
    let log = std::fs::read_to_string(server.data().join("audit.log")).unwrap();
    let verbs: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["actor"] == "token admin")
        .map(|line| json!([line["actor"], line["verb"], line["subject"]]))
        .collect();
    let expected = [
        json!(["token admin", "create", "secrets lab/key"]),
        json!(["token admin", "delete", "secrets lab/key"]),
    ];
    assert_eq!(verbs, expected);
    assert!(log.contains("forced"));
}

#[test]
fn lists_are_selected_and_come_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for number in 0..7 {
        let mut document = image(&format!("image-{number}"));
        document["metadata"]["labels"] = json!({ "odd": (number % 2 == 1).to_string() });
        server.create(IMAGES, &document);
    }
    let names = |list: &Value| -> Vec<String> {
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        list["items"].as_array().unwrap().iter().map(name).collect()
    };
    let odd = server.get(&format!("{IMAGES}?labelSelector=odd%3Dtrue")).json();
    assert_eq!(names(&odd), ["image-1", "image-3", "image-5"]);
    let one = server.get(&format!("{IMAGES}?fieldSelector=metadata.name%3Dimage-2")).json();
    assert_eq!(names(&one), ["image-2"]);
    let (mut seen, mut token, mut versions) = (Vec::new(), String::new(), Vec::new());
    loop {
        let path = format!("/apis/longhorn.io/v1beta2/backingimages?limit=3&continue={token}");
        let page = server.get(&path).json();
        seen.extend(names(&page));
        versions.push(page["metadata"]["resourceVersion"].clone());
        // A change in between belongs to no page's version.
        server.create(VOLUMES, &volume(&format!("v{}", seen.len())));
        match page["metadata"]["continue"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    versions.dedup();
    assert_eq!(versions.len(), 1);
    assert_eq!(server.get(&format!("{IMAGES}?continue=nonsense")).code, 400);
}

#[test]
fn every_kind_can_be_discovered_and_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let groups = server.get("/apis").json();
    assert_eq!(groups["groups"].as_array().unwrap().len(), 5);
    let documents = server.get("/openapi/v3").json();
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let headers = format!("Authorization: Bearer {}\r\nAccept: {accept}\r\n", server.admin());
    let at_once = ["/api", "/apis"].map(|path| {
        let answer = Answered::read(server.open(&format!("GET {path}"), &headers, b""));
        assert!(
            answer
                .head
                .to_lowercase()
                .contains(&format!("content-type: {}", accept.to_lowercase()))
        );
        answer.json()["items"].as_array().unwrap().clone()
    });
    let at_once = at_once.concat();
    assert_eq!(at_once.len(), 6);
    for resource in Resource::ALL {
        let root = match resource.group() {
            "" => "api/v1".to_owned(),
            group => format!("apis/{group}/{}", resource.version()),
        };
        let list = server.get(&format!("/{root}")).json();
        let all = list["resources"].as_array().unwrap();
        let found = all.iter().find(|one| one["name"] == resource.plural()).unwrap();
        assert_eq!(found["namespaced"], resource.scope() == Scope::Namespaced);
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let group = at_once.iter().find(|item| name(item) == resource.group()).unwrap();
        let version = &group["versions"][0];
        assert_eq!(version["version"], resource.version());
        let kinds = version["resources"].as_array().unwrap();
        let told = kinds.iter().find(|kind| kind["resource"] == resource.plural()).unwrap();
        assert_eq!((&told["verbs"], &told["shortNames"]), (&found["verbs"], &found["shortNames"]));
        assert_eq!(told["responseKind"]["kind"], resource.kind());
        let status = format!("{}/status", resource.plural());
        let status = all.iter().any(|one| one["name"] == status);
        assert_eq!(told["subresources"][0]["subresource"] == "status", status);
        let url = documents["paths"][&root]["serverRelativeURL"].as_str().unwrap();
        let described = server.get(url).json();
        let patches = described["paths"].as_object().unwrap().values();
        let is = |path: &&Value| {
            path["patch"]["x-kubernetes-group-version-kind"]["kind"] == resource.kind()
        };
        assert!(patches.clone().any(|path| is(&path)), "{resource:?}");
        let listed = server.get(&format!("/{root}/{}", resource.plural())).json();
        assert_eq!(listed["kind"], format!("{}List", resource.kind()));
    }
}

#[test]
fn a_thousand_volumes_and_five_hundred_images_are_listed_soon() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for number in 0..1000 {
        server.create(VOLUMES, &volume(&format!("volume-{number}")));
        if number % 2 == 0 {
            server.create(IMAGES, &image(&format!("image-{number}")));
        }
    }
    // Volumes are still being made meanwhile: the best of some tries counts.
    let tries = (0..5).map(|_| {
        let begun = Instant::now();
        let (volumes, images) = (server.get(VOLUMES), server.get(IMAGES));
        let took = begun.elapsed();
        assert_eq!(volumes.json()["items"].as_array().unwrap().len(), 1000);
        assert_eq!(images.json()["items"].as_array().unwrap().len(), 500);
        took
    });
    let took = tries.min().unwrap();
    println!("1,000 volumes and 500 images are listed in {took:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_bound_persistent_volume_is_marked_and_stays_until_its_claim_goes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": { "name": "plain" },
        "provisioner": "driver.longhorn.io",
    });
    server.create("/apis/storage.k8s.io/v1/storageclasses", &class);
    let claims = "/api/v1/namespaces/lab/persistentvolumeclaims";
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data" },
        "spec": {
            "storageClassName": "plain",
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Block",
            "resources": { "requests": { "storage": "64Mi" } },
        },
    });
    server.create(claims, &claim);
    let until = |path: &str, is: &dyn Fn(u16, &Value) -> bool| {
        let begun = Instant::now();
        loop {
            let answer = server.get(path);
            if is(answer.code, &answer.json()) {
                return answer.json();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", answer.body);
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let bound = until(&format!("{claims}/data"), &|_, claim| claim["status"]["phase"] == "Bound");
    let name = bound["spec"]["volumeName"].as_str().unwrap();
    let path = format!("/api/v1/persistentvolumes/{name}");
    let marked = server.admin_asks(&format!("DELETE {path}"), &Value::Null);
    assert_eq!(marked.code, 200, "{}", marked.body);
    assert_eq!(marked.json()["kind"], "PersistentVolume");
    assert!(marked.json()["metadata"]["deletionTimestamp"].is_string(), "{}", marked.body);
    assert!(marked.head.contains("stays until PersistentVolumeClaim lab/data"), "{}", marked.head);
    assert_eq!(server.get(&path).json()["status"]["phase"], "Bound");
    server.admin_asks(&format!("DELETE {claims}/data"), &Value::Null);
    until(&path, &|code, _| code == 404);
    until("/api/v1/namespaces", &|_, list| {
        let items = list["items"].as_array().into_iter().flatten();
        let names: Vec<&str> = items.filter_map(|item| item["metadata"]["name"].as_str()).collect();
        names == ["default", "lab", "longhorn-system"]
    });
}
