//! Images from elsewhere that are encrypted already, odd, or do not come at all; and who waits for them.

use std::io::Read;
use std::ops::Range;

use serde_json::{Value, json};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;
use strongroom_testkit::{Reply, Server};

use super::super::stage::{Stage, claim, class, clone, image, secret, serve};
use crate::store::Part;

const LEN: u64 = 4 << 20;

/// Returns a stage with the Secrets `key` and `other`, and a server that has an image encrypted with `key`.
fn with_encrypted() -> (Stage, Server) {
    let (stage, server) = (Stage::new(), serve(LEN));
    stage.apply(secret("key", "canary passphrase"));
    stage.apply(secret("other", "another passphrase"));
    stage.apply(image("plain", "download", &json!({ "url": server.url("/disk.raw") })));
    stage.wait_for_image("plain", "ready");
    stage.apply(clone("locked", "plain", "encrypt", "key"));
    let locked = stage.wait_for_image("locked", "ready");
    let mut bytes = Vec::new();
    let mut file = stage.context().library.file(&locked.uid().parse().unwrap()).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    (stage, serving(bytes))
}

fn serving(bytes: Vec<u8>) -> Server {
    let len = bytes.len() as u64;
    let content = move |range: Range<u64>| {
        bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec()
    };
    Server::serving(content, move |request| Reply::ranged(request, len, "\"one\""))
}

/// Returns the document of an image from a URL that is opened by a Secret.
fn named(name: &str, server: &Server, key: Option<&str>) -> Value {
    let mut document = image(name, "download", &json!({ "url": server.url("/disk.luks") }));
    if let Some(key) = key {
        document["spec"]["secret"] = key.into();
        document["spec"]["secretNamespace"] = "lab".into();
    }
    document
}

fn message(image: &Object) -> String {
    image.text(&["status", "message"]).unwrap().to_owned()
}

#[test]
fn the_secret_that_an_encrypted_image_names_is_tried_when_it_comes() {
    let (stage, server) = with_encrypted();
    stage.apply(named("right", &server, Some("key")));
    let right = stage.wait_for_image("right", "ready");
    assert_eq!(right.text(&["status", "openedBy"]), Some("lab/key"));
    assert_eq!(message(&right), "");
    stage.apply(named("wrong", &server, Some("other")));
    let wrong = stage.wait_for_image("wrong", "failed");
    assert_eq!(
        message(&wrong),
        "the passphrase of Secret lab/other opens none of the keyslots of image lab/wrong"
    );
    stage.wait_for_event("wrong", "SecretMismatch");
    let log = std::fs::read_to_string(stage.directory.path().join("audit.log")).unwrap();
    assert!(log.contains("prove the key of image lab/wrong"), "{log}");
    assert!(log.contains("it opens none of the keyslots of image lab/wrong"), "{log}");
    assert!(log.contains("it opens one of the keyslots of image lab/right"), "{log}");

    // Whoever would use it is told why nothing comes of that, and goes on once it can.
    let mut parameters = json!({ "backingImage": "wrong" });
    parameters["encrypted"] = "true".into();
    stage.apply(class("of-wrong", Some("key"), parameters));
    stage.apply(claim("data", "of-wrong", "64Mi"));
    let waits = stage.wait_for_reason("data", "SourceFailed");
    assert!(waits.contains("lab/wrong failed: the passphrase of Secret lab/other"), "{waits}");
    let store = &stage.context().store;
    let change = &mut |object: &mut Object| object.set(&["spec", "secret"], "key");
    store.edit(Resource::BackingImage, Some("lab"), "wrong", Part::Document, change).unwrap();
    stage.wait_for_image("wrong", "ready");
    stage.wait_for_claim("data", "Bound");
}

#[test]
fn a_secret_is_not_tried_on_one_image_after_another_without_end() {
    let (stage, server) = with_encrypted();
    for name in ["one", "two", "three", "four", "five"] {
        stage.apply(named(name, &server, Some("other")));
        stage.wait_for_image(name, "failed");
    }
    stage.apply(named("six", &server, Some("other")));
    let is = |found: Option<&Object>| {
        found.is_some_and(|found| {
            let told = found.text(&["status", "message"]).unwrap_or_default();
            told.contains("Secret lab/other opened none of the last images of namespace lab")
        })
    };
    stage.wait(Resource::BackingImage, Some("lab"), "six", is);
    let log = std::fs::read_to_string(stage.directory.path().join("audit.log")).unwrap();
    assert!(!log.contains("prove the key of image lab/six"), "{log}");
    stage.apply(named("right", &server, Some("key")));
    stage.wait_for_image("right", "ready");
}

#[test]
fn an_encrypted_image_without_a_secret_says_which_key_will_be_wanted() {
    let (stage, server) = with_encrypted();
    stage.apply(named("open", &server, None));
    let open = stage.wait_for_image("open", "ready");
    let told = message(&open);
    assert!(told.contains("it is encrypted (aes-xts-plain64, LUKS UUID "), "{told}");
    assert!(told.contains("names no Secret"), "{told}");
    stage.wait_for_event("open", "KeyUnknown");
    assert_eq!(open.text(&["status", "openedBy"]), None);
    // One that is named later is tried then.
    let store = &stage.context().store;
    let change = &mut |object: &mut Object| {
        object.set(&["spec", "secret"], "other");
        object.set(&["spec", "secretNamespace"], "lab");
    };
    store.edit(Resource::BackingImage, Some("lab"), "open", Part::Document, change).unwrap();
    let failed = stage.wait_for_image("open", "failed");
    assert!(message(&failed).contains("Secret lab/other opens none"), "{}", message(&failed));
    // A plain image that names one is not taken for an encrypted one.
    let plain = serve(LEN);
    let mut document = image("plain-too", "download", &json!({ "url": plain.url("/disk.raw") }));
    document["spec"]["secret"] = "key".into();
    document["spec"]["secretNamespace"] = "lab".into();
    stage.apply(document);
    let plain = stage.wait_for_image("plain-too", "failed");
    let told = message(&plain);
    assert!(told.contains("not encrypted, although the image names Secret lab/key"), "{told}");
    assert!(told.contains("sourceType clone"), "{told}");
    stage.wait_for_event("plain-too", "NotEncrypted");
}

#[test]
fn an_encrypted_image_of_harvester_is_tried_with_the_secret_of_its_class() {
    let (stage, server) = with_encrypted();
    stage.apply(class("with-key", Some("key"), json!({})));
    stage.apply(class("with-other", Some("other"), json!({})));
    for (name, class, state) in [("fits", "with-key", "ready"), ("odd", "with-other", "failed")] {
        let vm_image = stage.apply(json!({
            "apiVersion": "harvesterhci.io/v1beta1",
            "kind": "VirtualMachineImage",
            "metadata": {
                "namespace": "lab",
                "name": name,
                "annotations": { "harvesterhci.io/storageClassName": class },
            },
            "spec": {
                "displayName": name,
                "sourceType": "download",
                "url": server.url("/disk.luks"),
                "retry": 0,
            },
        }));
        let name = format!("vmi-{}", vm_image.uid());
        let is = |found: Option<&Object>| {
            found.is_some_and(|found| found.text(&["status", "state"]) == Some(state))
        };
        let (resource, namespace) = (Resource::BackingImage, Some("longhorn-system"));
        let found = stage.wait(resource, namespace, &name, is).unwrap();
        let secret = (state == "ready").then_some("key");
        assert_eq!(found.text(&["spec", "secret"]), secret, "{}", message(&found));
    }
}

#[test]
fn who_waits_for_an_image_that_failed_is_told_so_and_goes_on_when_there_is_another() {
    let (stage, server) = (Stage::new(), serve(LEN));
    stage.apply(secret("key", "canary passphrase"));
    let mut document = image("base", "download", &json!({ "url": server.url("/disk.raw") }));
    document["spec"]["checksum"] = "0".repeat(128).into();
    stage.apply(document);
    stage.wait_for_image("base", "failed");
    stage.apply(clone("locked", "base", "encrypt", "key"));
    stage.apply(class("of-base", None, json!({ "backingImage": "base" })));
    stage.apply(claim("data", "of-base", "64Mi"));
    let waits = stage.wait_for_reason("data", "SourceFailed");
    assert!(waits.contains("source image lab/base failed: "), "{waits}");
    assert!(waits.contains("checksum"), "{waits}");
    stage.wait_for_event("data", "SourceFailed");
    let is = |found: Option<&Object>| {
        found.is_some_and(|found| {
            let message = found.text(&["status", "message"]).unwrap_or_default();
            found.text(&["status", "state"]) == Some("pending")
                && message.contains("lab/base failed")
        })
    };
    stage.wait(Resource::BackingImage, Some("lab"), "locked", is);
    stage.wait_for_event("locked", "SourceFailed");
    stage.delete(Resource::BackingImage, Some("lab"), "base");
    stage.wait_until_gone(Resource::BackingImage, Some("lab"), "base");
    stage.apply(image("base", "download", &json!({ "url": server.url("/disk.raw") })));
    stage.wait_for_image("locked", "ready");
    stage.wait_for_claim("data", "Bound");
}

#[test]
fn an_image_that_ends_within_a_sector_fails_without_a_path_of_the_server_in_its_message() {
    let stage = Stage::new();
    let server = serving(vec![7; 1000]);
    stage.apply(image("odd", "download", &json!({ "url": server.url("/disk.raw") })));
    let odd = stage.wait_for_image("odd", "failed");
    assert!(message(&odd).contains("has 1000 bytes"), "{}", message(&odd));
    assert!(message(&odd).contains("make it 512 or 1024 bytes long"), "{}", message(&odd));
    let event = stage.wait_for_event("odd", "JobFailed");
    let data = stage.directory.path().to_str().unwrap();
    for told in [&odd, &event] {
        assert!(!serde_json::to_string(&**told).unwrap().contains(data), "{told:?}");
    }
}
