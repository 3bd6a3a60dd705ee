use serde_json::json;
use strongroom::jobs::JobState;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::super::stage::{Stage, class, clone, image, secret, serve};

const LEN: u64 = 6 << 20;

/// Returns a stage with a Secret and a downloaded image.
fn with_image(name: &str) -> (Stage, strongroom_testkit::Server) {
    let (stage, server) = (Stage::new(), serve(LEN));
    stage.apply(secret("key", "canary passphrase"));
    stage.apply(image(name, "download", &json!({ "url": server.url("/disk.raw") })));
    stage.wait_for_image(name, "ready");
    (stage, server)
}

#[test]
fn an_image_is_fetched_encrypted_and_decrypted_to_the_same_checksum() {
    let (stage, _server) = with_image("plain");
    let plain = stage.find(Resource::BackingImage, Some("lab"), "plain").unwrap();
    assert_eq!(plain.at(&["status", "size"]).unwrap(), LEN);
    assert_eq!(plain.at(&["status", "virtualSize"]).unwrap(), LEN);
    assert_eq!(plain.at(&["status", "progress"]).unwrap(), 100);
    assert_eq!(plain.text(&["status", "diskFileStatusMap", "pool", "state"]), Some("ready"));
    assert_eq!(plain.text(&["spec", "secret"]), None);

    stage.apply(clone("locked", "plain", "encrypt", "key"));
    let locked = stage.wait_for_image("locked", "ready");
    assert_eq!(locked.text(&["spec", "secret"]), Some("key"));
    assert_eq!(locked.text(&["spec", "secretNamespace"]), Some("lab"));
    assert_eq!(locked.at(&["status", "size"]).unwrap(), LEN + (16 << 20));
    assert_eq!(locked.at(&["status", "encrypted"]).unwrap(), true);
    assert_ne!(stage.checksum("locked"), stage.checksum("plain"));

    stage.apply(clone("unlocked", "locked", "decrypt", "key"));
    stage.wait_for_image("unlocked", "ready");
    assert_eq!(stage.checksum("unlocked"), stage.checksum("plain"));
    let unlocked = stage.find(Resource::BackingImage, Some("lab"), "unlocked").unwrap();
    assert_eq!(unlocked.text(&["spec", "secret"]), None);

    stage.apply(clone("copy", "locked", "ignore", "key"));
    let copy = stage.wait_for_image("copy", "ready");
    assert_eq!(copy.text(&["status", "checksum"]), locked.text(&["status", "checksum"]));
    assert_eq!(copy.text(&["spec", "secret"]), Some("key"));
    stage.wait_for_event("locked", "ImageReady");
    assert_no_canary(&stage);
}

/// Searches everything that is kept but the images themselves for the passphrase.
fn assert_no_canary(stage: &Stage) {
    let is_canary = |bytes: &[u8]| bytes.windows(6).any(|six| six == b"canary");
    for resource in Resource::ALL {
        for object in stage.context().store.list(resource, None).0 {
            let text = serde_json::to_string(&*object).unwrap();
            assert!(!is_canary(text.as_bytes()), "{object:?} has a passphrase in it");
        }
    }
    for job in stage.context().jobs.list(None, 1000).unwrap() {
        assert!(!is_canary(serde_json::to_string(&job).unwrap().as_bytes()), "{}", job.id);
    }
    let root = stage.directory.path();
    let log = std::fs::read(root.join("audit.log")).unwrap();
    assert!(!is_canary(&log) && log.windows(8).any(|eight| eight == b"open-key"));
    for file in ["catalog.sqlite", "catalog.sqlite-wal"] {
        assert!(!is_canary(&std::fs::read(root.join("pool").join(file)).unwrap()), "{file}");
    }
}

#[test]
fn a_clone_waits_for_its_source_and_then_goes_on_by_itself() {
    let (stage, server) = (Stage::new(), serve(LEN));
    stage.apply(secret("key", "canary passphrase"));
    stage.apply(clone("locked", "later", "encrypt", "key"));
    let waiting = stage.wait_for_image("locked", "pending");
    assert!(waiting.text(&["status", "message"]).unwrap().contains("lab/later is not there"));
    stage.apply(image("later", "download", &json!({ "url": server.url("/disk.raw") })));
    stage.wait_for_image("locked", "ready");
}

#[test]
fn thirty_encryptions_of_one_source_at_once_all_succeed() {
    let (stage, _server) = with_image("plain");
    let names: Vec<String> = (0..30).map(|number| format!("locked-{number}")).collect();
    for name in &names {
        stage.apply(clone(name, "plain", "encrypt", "key"));
    }
    let mut checksums = std::collections::BTreeSet::new();
    for name in &names {
        stage.wait_for_image(name, "ready");
        checksums.insert(stage.checksum(name));
    }
    // Each has a volume key of its own.
    assert_eq!(checksums.len(), 30);
}

#[test]
fn what_is_deleted_is_deleted_with_its_bytes_and_the_log_knew_before() {
    let (stage, _server) = with_image("plain");
    let uid = stage.find(Resource::BackingImage, Some("lab"), "plain").unwrap().uid().to_owned();
    let folder = stage.directory.path().join("images").join(&uid);
    assert!(folder.exists());
    stage.delete(Resource::BackingImage, Some("lab"), "plain");
    stage.wait_until_gone(Resource::BackingImage, Some("lab"), "plain");
    assert!(!folder.exists());
    let log = std::fs::read_to_string(stage.directory.path().join("audit.log")).unwrap();
    let is_entry = |line: &&str| line.contains("\"delete\"") && line.contains("lab/plain");
    assert_eq!(log.lines().filter(is_entry).count(), 1, "{log}");
}

#[test]
fn a_wrong_checksum_fails_and_another_try_is_made_when_somebody_asks_for_it() {
    let (stage, server) = (Stage::new(), serve(LEN));
    let mut document = image("odd", "download", &json!({ "url": server.url("/disk.raw") }));
    document["spec"]["checksum"] = "0".repeat(128).into();
    stage.apply(document);
    let failed = stage.wait_for_image("odd", "failed");
    assert!(failed.text(&["status", "message"]).unwrap().contains("checksum"));
    stage.wait_for_event("odd", "JobFailed");
    let before = server.requests().len();
    let store = &stage.context().store;
    let part = crate::store::Part::Document;
    let edited = store.edit(Resource::BackingImage, Some("lab"), "odd", part, &mut |object| {
        object.take(&["spec", "checksum"]);
        object.set(&["metadata", "annotations", "strongroom.io/retry"], "1");
    });
    edited.unwrap();
    stage.wait_for_image("odd", "ready");
    assert!(server.requests().len() > before);
}

#[test]
fn a_download_that_is_deleted_half_way_leaves_nothing() {
    let stage = Stage::new();
    let server = strongroom_testkit::Server::start(|request| {
        let reply = strongroom_testkit::Reply::ranged(request, 256 << 20, "\"one\"");
        strongroom_testkit::Reply {
            pace: (64 << 10, std::time::Duration::from_millis(20)),
            ..reply
        }
    });
    stage.apply(image("slow", "download", &json!({ "url": server.url("/disk.raw") })));
    let running = stage.wait_for_image("slow", "in-progress");
    stage.delete(Resource::BackingImage, Some("lab"), "slow");
    stage.wait_until_gone(Resource::BackingImage, Some("lab"), "slow");
    assert!(!stage.directory.path().join("images").join(running.uid()).exists());
    let jobs = stage.context().jobs.list(None, 10).unwrap();
    assert!(jobs.iter().all(|job| job.state != JobState::InProgress), "{jobs:?}");
}

#[test]
fn harvesters_images_are_encrypted_decrypted_and_made_into_classes() {
    let (stage, server) = (Stage::new(), serve(LEN));
    stage.apply(secret("key", "canary passphrase"));
    stage.apply(class("locked-class", Some("key"), json!({})));
    let vm_image = |name: &str, spec: serde_json::Value| {
        let mut document = json!({
            "apiVersion": "harvesterhci.io/v1beta1",
            "kind": "VirtualMachineImage",
            "metadata": { "namespace": "lab", "name": name },
            "spec": spec,
        });
        document["spec"]["displayName"] = name.into();
        document
    };
    let imported = |name: &str| {
        let is = |found: Option<&Object>| {
            let conditions = found.and_then(|found| found.at(&["status", "conditions"]));
            conditions.and_then(serde_json::Value::as_array).is_some_and(|all| {
                all.iter().any(|one| one["type"] == "Imported" && one["status"] == "True")
            })
        };
        stage.wait(Resource::VirtualMachineImage, Some("lab"), name, is).unwrap()
    };
    let url = server.url("/disk.raw");
    stage.apply(vm_image("base", json!({ "sourceType": "download", "url": url })));
    let base = imported("base");
    assert_eq!(base.text(&["status", "storageClassName"]), Some(&*format!("lh-{}", base.uid())));

    let security = |operation: &str, source: &str| {
        json!({
            "sourceType": "clone",
            "securityParameters": {
                "cryptoOperation": operation,
                "sourceImageName": source,
                "sourceImageNamespace": "lab",
            },
        })
    };
    let mut document = vm_image("locked", security("encrypt", "base"));
    document["metadata"]["annotations"] =
        json!({ "harvesterhci.io/storageClassName": "locked-class" });
    stage.apply(document);
    let locked = imported("locked");
    assert_eq!(locked.at(&["status", "encrypted"]).unwrap(), true);
    let name = format!("lh-{}", locked.uid());
    let class = stage.find(Resource::StorageClass, None, &name).unwrap();
    let parameter = |key| class.text(&["parameters", key]);
    assert_eq!(parameter("encrypted"), Some("true"));
    assert_eq!(parameter("csi.storage.k8s.io/node-expand-secret-name"), Some("key"));
    assert_eq!(parameter("backingImage"), Some(&*format!("vmi-{}", locked.uid())));

    stage.apply(vm_image("unlocked", security("decrypt", "locked")));
    let unlocked = imported("unlocked");
    let name = format!("lh-{}", unlocked.uid());
    let class = stage.find(Resource::StorageClass, None, &name).unwrap();
    assert_eq!(class.text(&["parameters", "encrypted"]), None);
    let checksum = |image: &Object| {
        let name = format!("vmi-{}", image.uid());
        let found = stage.find(Resource::BackingImage, Some("longhorn-system"), &name).unwrap();
        found.text(&["status", "checksum"]).unwrap().to_owned()
    };
    assert_eq!(checksum(&unlocked), checksum(&base));

    stage.delete(Resource::VirtualMachineImage, Some("lab"), "unlocked");
    stage.wait_until_gone(Resource::VirtualMachineImage, Some("lab"), "unlocked");
    assert!(stage.find(Resource::StorageClass, None, &name).is_none());
}
