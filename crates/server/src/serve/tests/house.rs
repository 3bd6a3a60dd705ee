use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom::catalog::{Catalog, Kind, SqliteCatalog};
use strongroom::volumes::{NewVolume, VolumeEncryption};
use strongroom_model::{Tuning, VolumeId};

use super::super::{runtime, serve_until};
use super::server::{
    Answered, CLASSES, IMAGES, SECRETS, Server, VOLUMES, class, image, secret, settings, volume,
};
use crate::{Error, Settings};

fn refused(settings: &Settings) -> Error {
    let runtime = runtime().unwrap();
    serve_until(settings, &runtime, std::future::ready(()), |_| {}).unwrap_err()
}

#[test]
fn nothing_but_the_loopback_device_is_listened_at_without_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = settings(folder.path(), None);
    open.listen = "0.0.0.0:0".parse().unwrap();
    let error = refused(&open);
    assert!(matches!(error, Error::Settings { .. }), "{error}");
    assert!(!folder.path().join("admin.token").exists());
}

#[test]
fn a_data_directory_has_one_server_and_files_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let error = refused(&settings(&data, None));
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    for (name, mode) in [
        ("", 0o700),
        ("admin.token", 0o600),
        ("kek", 0o600),
        ("kubeconfig", 0o600),
        ("lock", 0o600),
    ] {
        let found = std::fs::metadata(data.join(name)).unwrap().mode() & 0o777;
        assert_eq!(found, mode, "{name} has {found:o}");
    }
    let token = server.admin().to_owned();
    server.stop();
    assert_eq!(Server::start(&data).admin(), token);
    let file = data.join("admin.token");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = refused(&settings(&data, None));
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn what_is_too_large_or_no_document_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut large = image("ubuntu");
    large["metadata"]["annotations"] = serde_json::json!({ "a": "x".repeat(1 << 20) });
    assert_eq!(server.admin_asks(&format!("POST {IMAGES}"), &large).code, 413);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (kind, body, code) in [
        ("application/json", "", 400),
        ("application/json", deep.as_str(), 400),
        ("application/yaml", "kind: BackingImage", 415),
        ("application/vnd.kubernetes.protobuf", "k8s\0\u{1}", 415),
    ] {
        let answer = server.ask(server.admin(), &format!("POST {IMAGES}"), kind, body);
        assert_eq!(answer.code, code, "{kind}: {}", answer.body);
    }
    let headers = format!("X: {}\r\n", "x".repeat(1 << 20));
    let answer = Answered::read(server.open("GET /healthz", &headers, b""));
    assert_eq!(answer.code, 431);
}

#[test]
fn numbers_tell_of_documents_and_requests_and_name_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.create(SECRETS, &secret("hidden-name", "canary"));
    server.create(IMAGES, &image("ubuntu"));
    let text = server.get("/metrics").body;
    for line in [
        "strongroom_http_requests_total{method=\"POST\",code=\"201\"} 2",
        "strongroom_documents{kind=\"Secret\",group=\"\"} 1",
        "strongroom_images{state=\"pending\"} 1",
        "strongroom_jobs{state=\"failed\"} 0",
        "strongroom_http_request_seconds_count 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert!(!text.contains("hidden-name"));
}

#[test]
fn each_volume_is_told_of_once_with_the_claim_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.create(CLASSES, &class("plain"));
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": "disk" },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Block",
            "storageClassName": "plain",
            "resources": { "requests": { "storage": "64Mi" } },
        },
    });
    server.create("/api/v1/namespaces/lab/persistentvolumeclaims", &claim);
    server.create(VOLUMES, &volume("by-hand"));
    // Somebody else's document of the same volume, and one of a volume that is elsewhere.
    for (name, handle) in [("again", "by-hand"), ("elsewhere", "far")] {
        let document = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": { "name": name },
            "spec": {
                "capacity": { "storage": "1Gi" },
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "csi": { "driver": "driver.longhorn.io", "volumeHandle": handle },
                "claimRef": { "namespace": "lab", "name": name },
            },
        });
        server.create("/api/v1/persistentvolumes", &document);
    }
    let told = || {
        let text = server.get("/metrics").body;
        let of = |line: &&str| line.starts_with("longhorn_volume_encrypted{");
        text.lines().filter(of).map(str::to_owned).collect::<Vec<_>>()
    };
    let begun = Instant::now();
    while told().len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", told());
        std::thread::sleep(Duration::from_millis(20));
    }
    let lines = told();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let has = |begins: &str, ends: &str| {
        lines.iter().any(|line| line.contains(begins) && line.ends_with(ends))
    };
    assert!(has("volume=\"pvc-", "pvc_namespace=\"lab\",pvc=\"disk\"} 0"), "{lines:?}");
    assert!(has("volume=\"by-hand\"", "pvc_namespace=\"lab\",pvc=\"again\"} 0"), "{lines:?}");
    assert!(has("volume=\"far\"", "pvc=\"elsewhere\"} 0"), "{lines:?}");
}

#[test]
fn an_act_that_cannot_be_recorded_does_not_happen() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.create(SECRETS, &secret("key", "canary"));
    // Somebody else has written to the log, as far as the catalog tells.
    let catalog = SqliteCatalog::open(&folder.path().join("pool/catalog.sqlite")).unwrap();
    let meddle = || {
        let settings = catalog.list(Kind::Setting, None, 100).unwrap();
        let head = settings.iter().find(|setting| setting.id.contains("audit")).unwrap();
        catalog.replace(Kind::Setting, &head.id, head.version, &head.json).unwrap();
    };
    let delete = format!("DELETE {SECRETS}/key");
    meddle();
    let answer = server.admin_asks(&delete, &Value::Null);
    assert_eq!(answer.code, 503, "{}", answer.body);
    assert_eq!(server.get(&format!("{SECRETS}/key")).code, 200);
    meddle();
    let other = server.admin_asks(&format!("POST {SECRETS}"), &secret("other", "canary"));
    assert_eq!(other.code, 503);
    assert_eq!(server.get(&format!("{SECRETS}/other")).code, 404);
    assert_eq!(server.admin_asks(&delete, &Value::Null).code, 200);
}

#[test]
fn a_connection_that_asks_nothing_is_closed_soon() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut silent = TcpStream::connect(server.address).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
}

#[test]
fn snapshots_of_exports_that_nobody_goes_on_with_are_gone_after_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder.path().join("data"), None);
    let opened = crate::opening::open(&settings).unwrap();
    let id: VolumeId = "disk".parse().unwrap();
    let new = NewVolume {
        id: id.clone(),
        size: 4 << 20,
        encryption: VolumeEncryption::None,
        tuning: Tuning::default(),
        source: None,
        parameters: BTreeMap::new(),
    };
    opened.volumes.create(&new, &()).unwrap();
    for name in ["image-export-lost", "own"] {
        opened.volumes.snapshot(&id, &name.parse().unwrap(), &()).unwrap();
    }
    drop(opened);
    let opened = crate::opening::open(&settings).unwrap();
    let left = opened.volumes.snapshots(None, 10).unwrap();
    let left: Vec<_> = left.iter().map(|snapshot| snapshot.id.as_str()).collect();
    assert_eq!(left, ["own"]);
}
