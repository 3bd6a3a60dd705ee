use std::sync::Arc;

use serde_json::{Value, json};
use strongroom::Opener;
use strongroom::catalog::{Catalog, Kind};
use strongroom::images::{Side, Work};
use strongroom::volumes::{Condition, FormatState, Volume, VolumeEncryption};
use strongroom_crypto::{CostPolicy, Passphrase};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;
use strongroom_model::{ImageFormat, Tuning, VolumeId};

use super::super::bound_volume;
use super::super::provision::{OWNER, original_memory};
use super::super::stage::{Stage, claim, class, clone, image, secret, serve};
use super::super::turn::FINALIZER;
use crate::Context;
use crate::store::Part;

fn volume_id(stage: &Stage, claim: &str) -> VolumeId {
    let claim = stage.find(Resource::PersistentVolumeClaim, Some("lab"), claim).unwrap();
    claim.text(&["spec", "volumeName"]).unwrap().parse().unwrap()
}

#[test]
fn a_claim_waits_for_class_and_secret_and_then_goes_on_by_itself() {
    let stage = Stage::new();
    stage.apply(claim("data", "locked", "64Mi"));
    let message = stage.wait_for_reason("data", "StorageClassMissing");
    assert!(message.contains("StorageClass locked is not there"), "{message}");
    stage.apply(class("locked", Some("key"), json!({})));
    let message = stage.wait_for_reason("data", "SecretMissing");
    assert!(message.contains("Secret lab/key is not there"), "{message}");
    stage.wait_for_event("data", "SecretMissing");
    let mut empty = secret("key", "canary");
    empty["stringData"].as_object_mut().unwrap().remove("CRYPTO_KEY_VALUE");
    stage.apply(empty);
    let message = stage.wait_for_reason("data", "SecretInvalid");
    assert!(message.contains("CRYPTO_KEY_VALUE"), "{message}");
    let store = &stage.context().store;
    let change = &mut |object: &mut Object| {
        object.set(&["stringData", "CRYPTO_KEY_VALUE"], "canary passphrase");
    };
    store.edit(Resource::Secret, Some("lab"), "key", Part::Document, change).unwrap();
    let bound = stage.wait_for_claim("data", "Bound");
    assert_eq!(bound.text(&["status", "capacity", "storage"]), Some("64Mi"));
    let id = volume_id(&stage, "data");
    assert_eq!(id.as_str(), format!("pvc-{}", bound.uid()));
    let volume = stage.context().volumes.volume(&id).unwrap();
    assert_eq!(volume.encryption, VolumeEncryption::Passphrase);
    let document = stage.find(Resource::PersistentVolume, None, id.as_str()).unwrap();
    let csi = |path: &[&str]| document.text(&[&["spec", "csi"], path].concat());
    assert_eq!(csi(&["volumeAttributes", "encrypted"]), Some("true"));
    assert_eq!(csi(&["nodeStageSecretRef", "name"]), Some("key"));
    assert_eq!(document.text(&["spec", "claimRef", "uid"]), Some(bound.uid()));
    assert_eq!(document.text(&["status", "phase"]), Some("Bound"));
}

#[test]
fn an_unforeseen_failure_stands_in_the_claim_and_writing_it_there_causes_no_other_try() {
    let stage = Stage::new();
    let waiting = stage.apply(claim("data", "later", "64Mi"));
    stage.wait_for_reason("data", "StorageClassMissing");
    // Something that is not ours is in the way.
    let pool = stage.directory.path().join("pool");
    let in_the_way = find_folder(&pool, "volumes").join(format!("pvc-{}", waiting.uid()));
    std::fs::write(&in_the_way, b"not a volume").unwrap();
    stage.apply(class("later", None, json!({})));
    let message = stage.wait_for_reason("data", "Failed");
    let data = stage.directory.path().to_str().unwrap();
    assert!(!message.contains(data), "{message}");
    let claim = || stage.find(Resource::PersistentVolumeClaim, Some("lab"), "data").unwrap();
    let first = claim();
    assert_eq!(first.text(&["status", "phase"]), Some("Pending"));
    // It is tried again and again, and the claim stays as it is.
    let tried = |event: &Object| event.at(&["count"]).and_then(Value::as_u64).unwrap_or(0);
    let event = stage.wait_for_event("data", "Failed");
    let (namespace, name) = (event.namespace(), event.name().to_owned());
    let event = stage.wait(Resource::Event, namespace, &name, |found| {
        found.is_some_and(|found| tried(found) >= 4)
    });
    assert_eq!(claim().resource_version(), first.resource_version());
    // At most one look for the write itself, and the others after pauses that double.
    assert!(tried(&event.unwrap()) <= 12);
    std::fs::remove_file(&in_the_way).unwrap();
    stage.wait_for_claim("data", "Bound");
}

/// Returns a folder of that name anywhere below another one.
fn find_folder(root: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                if entry.file_name() == name {
                    return entry.path();
                }
                folders.push(entry.path());
            }
        }
    }
    panic!("no {name} in {}", root.display());
}

#[test]
fn a_volume_for_each_claim_has_the_secret_of_its_own_name() {
    let stage = Stage::new();
    let mut own = class("own", Some("${pvc.name}"), json!({}));
    own["parameters"]["csi.storage.k8s.io/node-stage-secret-namespace"] = "${pvc.namespace}".into();
    stage.apply(own);
    stage.apply(secret("first", "canary one"));
    stage.apply(claim("first", "own", "64Mi"));
    stage.apply(claim("second", "own", "64Mi"));
    stage.wait_for_claim("first", "Bound");
    let message = stage.wait_for_reason("second", "SecretMissing");
    assert!(message.contains("lab/second"), "{message}");
    stage.apply(secret("second", "canary two"));
    stage.wait_for_claim("second", "Bound");
}

#[test]
fn a_claim_grows_and_is_deleted_with_its_data() {
    let stage = Stage::new();
    stage.apply(class("plain", None, json!({})));
    stage.apply(claim("data", "plain", "64Mi"));
    stage.wait_for_claim("data", "Bound");
    let id = volume_id(&stage, "data");
    let path = stage.context().volumes.device_path(&id).unwrap();
    assert!(path.exists());
    let store = &stage.context().store;
    let change = &mut |object: &mut Object| {
        object.set(&["spec", "resources", "requests", "storage"], "96Mi");
    };
    let resource = Resource::PersistentVolumeClaim;
    store.edit(resource, Some("lab"), "data", Part::Document, change).unwrap();
    stage.wait(resource, Some("lab"), "data", |found| {
        found.unwrap().text(&["status", "capacity", "storage"]) == Some("96Mi")
    });
    assert_eq!(stage.context().volumes.volume(&id).unwrap().size, 96 << 20);
    let document = stage.find(Resource::PersistentVolume, None, id.as_str()).unwrap();
    assert_eq!(document.text(&["spec", "capacity", "storage"]), Some("96Mi"));

    stage.delete(resource, Some("lab"), "data");
    stage.wait_until_gone(resource, Some("lab"), "data");
    assert!(stage.find(Resource::PersistentVolume, None, id.as_str()).is_none());
    assert!(!path.exists());
    assert!(stage.context().volumes.volume(&id).is_err());
}

#[test]
fn what_is_to_be_retained_outlives_its_claim_and_can_be_claimed_again() {
    let stage = Stage::new();
    let mut keep = class("keep", None, json!({}));
    keep["reclaimPolicy"] = "Retain".into();
    stage.apply(keep);
    stage.apply(claim("data", "keep", "64Mi"));
    stage.wait_for_claim("data", "Bound");
    let id = volume_id(&stage, "data");
    stage.delete(Resource::PersistentVolumeClaim, Some("lab"), "data");
    stage.wait_until_gone(Resource::PersistentVolumeClaim, Some("lab"), "data");
    let released =
        |found: Option<&Object>| found.unwrap().text(&["status", "phase"]) == Some("Released");
    stage.wait(Resource::PersistentVolume, None, id.as_str(), released);
    assert!(stage.context().volumes.volume(&id).is_ok());
    let store = &stage.context().store;
    let change = &mut |object: &mut Object| {
        object.take(&["spec", "claimRef"]);
    };
    store.edit(Resource::PersistentVolume, None, id.as_str(), Part::Document, change).unwrap();
    let mut again = claim("again", "keep", "64Mi");
    again["spec"]["volumeName"] = id.as_str().into();
    stage.apply(again);
    stage.wait_for_claim("again", "Bound");
    assert_eq!(volume_id(&stage, "again"), id);
    // It is that claim's now, and goes with it when it is to.
    let change = &mut |object: &mut Object| {
        object.set(&["spec", "persistentVolumeReclaimPolicy"], "Delete");
    };
    store.edit(Resource::PersistentVolume, None, id.as_str(), Part::Document, change).unwrap();
    stage.delete(Resource::PersistentVolumeClaim, Some("lab"), "again");
    stage.wait_until_gone(Resource::PersistentVolumeClaim, Some("lab"), "again");
    stage.wait_until_gone(Resource::PersistentVolume, None, id.as_str());
    assert!(stage.context().volumes.volume(&id).is_err());
}

#[test]
fn a_claim_that_says_to_be_bound_does_not_get_the_volume_of_another() {
    let stage = Stage::new();
    stage.apply(class("plain", None, json!({})));
    stage.apply(claim("data", "plain", "64Mi"));
    stage.wait_for_claim("data", "Bound");
    let id = volume_id(&stage, "data");
    let mut forged = claim("forged", "plain", "96Mi");
    forged["spec"]["volumeName"] = id.as_str().into();
    forged["status"] = json!({ "phase": "Bound", "capacity": { "storage": "64Mi" } });
    stage.apply(forged);
    let message = stage.wait_for_reason("forged", "VolumeTaken");
    assert!(message.contains("bound to another claim"), "{message}");
    assert_eq!(stage.context().volumes.volume(&id).unwrap().size, 64 << 20);
    let store = &stage.context().store;
    let set_bound = &mut |object: &mut Object| object.set(&["status", "phase"], "Bound");
    let resource = Resource::PersistentVolumeClaim;
    store.edit(resource, Some("lab"), "forged", Part::Status, set_bound).unwrap();
    assert!(bound_volume(store, "lab", "forged").is_err());
    assert_eq!(bound_volume(store, "lab", "data").unwrap(), id);
    stage.delete(resource, Some("lab"), "forged");
    stage.wait_until_gone(resource, Some("lab"), "forged");
    assert!(stage.context().volumes.volume(&id).is_ok());
}

/// Returns a PersistentVolume that somebody writes down.
fn persistent(name: &str, volume: &VolumeId, claim: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": name, "finalizers": [FINALIZER] },
        "spec": {
            "capacity": { "storage": "64Mi" },
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": { "namespace": "lab", "name": claim, "uid": uid },
            "csi": { "driver": "driver.longhorn.io", "volumeHandle": volume.as_str() },
        },
    })
}

#[test]
fn a_second_document_of_a_volume_does_not_take_its_data_along() {
    let stage = Stage::new();
    stage.apply(class("plain", None, json!({})));
    stage.apply(claim("data", "plain", "64Mi"));
    let bound = stage.wait_for_claim("data", "Bound");
    let id = volume_id(&stage, "data");
    let mut second = persistent("second", &id, "gone", bound.uid());
    second["status"] = json!({ "phase": "Bound" });
    stage.apply(second);
    stage.delete(Resource::PersistentVolume, None, "second");
    let message = stage.wait_for_event("second", "DataKept");
    assert!(message.text(&["message"]).unwrap().contains("another name"));
    assert!(stage.context().volumes.volume(&id).is_ok());
    let keep = &mut |volume: &mut Object| {
        volume.set(&["spec", "persistentVolumeReclaimPolicy"], "Retain");
    };
    let store = &stage.context().store;
    let found = stage.find(Resource::PersistentVolume, None, "second").unwrap();
    assert_eq!(found.text(&["status", "phase"]), Some("Failed"));
    store.edit(Resource::PersistentVolume, None, "second", Part::Document, keep).unwrap();
    stage.wait_until_gone(Resource::PersistentVolume, None, "second");
    assert!(stage.context().volumes.volume(&id).is_ok());
}

#[test]
fn a_document_that_is_put_back_before_its_claim_keeps_the_data() {
    let stage = Stage::new();
    let mut keep = class("keep", None, json!({}));
    keep["reclaimPolicy"] = "Retain".into();
    stage.apply(keep);
    stage.apply(claim("data", "keep", "64Mi"));
    let bound = stage.wait_for_claim("data", "Bound");
    let id = volume_id(&stage, "data");
    let resource = Resource::PersistentVolume;
    stage.delete(Resource::PersistentVolumeClaim, Some("lab"), "data");
    stage.wait_until_gone(Resource::PersistentVolumeClaim, Some("lab"), "data");
    stage.delete(resource, None, id.as_str());
    stage.wait_until_gone(resource, None, id.as_str());
    stage.apply(persistent(id.as_str(), &id, "data", bound.uid()));
    stage.wait(resource, None, id.as_str(), |found| {
        found.unwrap().text(&["status", "phase"]) == Some("Pending")
    });
    stage.wait_for_event(id.as_str(), "ClaimMissing");
    stage.delete(resource, None, id.as_str());
    stage.wait_for_event(id.as_str(), "DataKept");
    assert!(stage.context().volumes.volume(&id).is_ok());
}

#[test]
fn a_snapshot_that_is_to_be_retained_outlives_its_class_and_its_document() {
    let stage = Stage::new();
    stage.apply(class("plain", None, json!({})));
    stage.apply(claim("data", "plain", "64Mi"));
    let snapshots = Resource::VolumeSnapshotClass;
    stage.apply(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": { "name": "keep" },
        "driver": "driver.longhorn.io",
        "deletionPolicy": "Retain",
    }));
    let resource = Resource::VolumeSnapshot;
    for name in ["one", "two"] {
        stage.apply(json!({
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshot",
            "metadata": { "namespace": "lab", "name": name },
            "spec": {
                "volumeSnapshotClassName": "keep",
                "source": { "persistentVolumeClaimName": "data" },
            },
        }));
        let is_ready = |found: Option<&Object>| {
            found.unwrap().at(&["status", "readyToUse"]) == Some(&true.into())
        };
        stage.wait(resource, Some("lab"), name, is_ready);
    }
    stage.delete(snapshots, None, "keep");
    stage.delete(resource, Some("lab"), "one");
    stage.wait_until_gone(resource, Some("lab"), "one");
    // One that was made when nobody wrote the policy down.
    let forget = &mut |object: &mut Object| drop(object.take(&["status", "deletionPolicy"]));
    let store = &stage.context().store;
    store.edit(resource, Some("lab"), "two", Part::Status, forget).unwrap();
    stage.delete(resource, Some("lab"), "two");
    stage.wait_for_event("two", "ClassMissing");
    assert_eq!(stage.context().volumes.snapshots(None, 10).unwrap().len(), 2);
}

#[test]
fn a_copy_that_was_begun_with_another_size_is_begun_anew() {
    let stage = Stage::new();
    stage.apply(class("plain", None, json!({})));
    let mut copied = claim("copied", "plain", "96Mi");
    copied["spec"]["dataSource"] = json!({ "kind": "PersistentVolumeClaim", "name": "data" });
    let copied = stage.apply(copied);
    stage.wait_for_reason("copied", "SourceNotReady");
    // What a killed server leaves.
    let half_made = Volume {
        id: format!("pvc-{}", copied.uid()).parse().unwrap(),
        size: 64 << 20,
        encryption: VolumeEncryption::None,
        format: FormatState::Blank,
        file_system: None,
        tuning: Tuning::default(),
        source: Some("volume data".to_owned()),
        parameters: [(OWNER.to_owned(), copied.uid().to_owned())].into(),
        created: 0,
        grown_to: None,
        condition: Condition::Creating,
    };
    let text = serde_json::to_string(&half_made).unwrap();
    let catalog = stage.context().volumes.catalog();
    catalog.insert(Kind::Volume, half_made.id.as_str(), &text).unwrap();
    stage.apply(claim("data", "plain", "64Mi"));
    let bound = stage.wait_for_claim("copied", "Bound");
    assert_eq!(bound.text(&["status", "capacity", "storage"]), Some("96Mi"));
}

#[test]
fn snapshots_are_made_cloned_and_deleted() {
    let stage = Stage::new();
    stage.apply(class("plain", None, json!({})));
    stage.apply(claim("data", "plain", "64Mi"));
    stage.apply(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": { "namespace": "lab", "name": "before" },
        "spec": { "source": { "persistentVolumeClaimName": "data" } },
    }));
    let is_ready =
        |found: Option<&Object>| found.unwrap().at(&["status", "readyToUse"]) == Some(&true.into());
    let found = stage.wait(Resource::VolumeSnapshot, Some("lab"), "before", is_ready).unwrap();
    assert_eq!(found.text(&["status", "restoreSize"]), Some("64Mi"));
    let mut restored = claim("restored", "plain", "64Mi");
    restored["spec"]["dataSource"] = json!({ "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "before" });
    stage.apply(restored);
    let mut copied = claim("copied", "plain", "64Mi");
    copied["spec"]["dataSource"] = json!({ "kind": "PersistentVolumeClaim", "name": "data" });
    stage.apply(copied);
    stage.wait_for_claim("restored", "Bound");
    stage.wait_for_claim("copied", "Bound");
    stage.delete(Resource::VolumeSnapshot, Some("lab"), "before");
    stage.wait_until_gone(Resource::VolumeSnapshot, Some("lab"), "before");
    assert!(stage.context().volumes.snapshots(None, 10).unwrap().is_empty());
}

#[test]
fn a_copy_of_another_encryption_is_refused_with_words() {
    let stage = Stage::new();
    stage.apply(secret("key", "canary"));
    stage.apply(class("plain", None, json!({})));
    stage.apply(class("locked", Some("key"), json!({})));
    stage.apply(claim("data", "plain", "64Mi"));
    stage.wait_for_claim("data", "Bound");
    let mut copied = claim("copied", "locked", "64Mi");
    copied["spec"]["dataSource"] = json!({ "kind": "PersistentVolumeClaim", "name": "data" });
    stage.apply(copied);
    let message = stage.wait_for_reason("copied", "ProvisioningFailed");
    assert!(message.contains("not encrypted"), "{message}");
}

#[test]
fn volumes_of_images_are_encrypted_with_the_same_key_or_on_the_way() {
    let (stage, server) = (Stage::new(), serve(6 << 20));
    stage.apply(secret("key", "canary passphrase"));
    stage.apply(secret("same", "canary passphrase"));
    stage.apply(secret("other", "canary other"));
    stage.apply(image("plain", "download", &json!({ "url": server.url("/disk.raw") })));
    stage.apply(clone("locked", "plain", "encrypt", "key"));
    let of = |image: &str| json!({ "backingImage": image });
    stage.apply(class("from-plain", None, of("plain")));
    stage.apply(class("on-the-way", Some("other"), of("plain")));
    stage.apply(class("same-key", Some("key"), of("locked")));
    stage.apply(class("same-value", Some("same"), of("locked")));
    stage.apply(class("other-key", Some("other"), of("locked")));
    stage.apply(class("no-key", None, of("locked")));
    for name in ["from-plain", "on-the-way", "same-key", "same-value"] {
        stage.apply(claim(name, name, "64Mi"));
    }
    stage.apply(claim("other-key", "other-key", "64Mi"));
    stage.apply(claim("no-key", "no-key", "64Mi"));
    let mut own = claim("own-key", "other-key", "64Mi");
    own["metadata"]["annotations"] = json!({ "strongroom.io/own-keyslot": "true" });
    stage.apply(own);
    stage.apply(claim("small", "from-plain", "2Mi"));
    for name in ["from-plain", "on-the-way", "same-key", "same-value", "own-key"] {
        stage.wait_for_claim(name, "Bound");
    }
    for (claim, passphrase) in [
        ("on-the-way", "canary other"),
        ("same-key", "canary passphrase"),
        ("same-value", "canary passphrase"),
        ("own-key", "canary other"),
    ] {
        assert!(opens(&stage, claim, passphrase), "{claim}");
    }
    assert!(!opens(&stage, "own-key", "canary passphrase"));
    assert!(!opens(&stage, "on-the-way", "canary passphrase"));
    let message = stage.wait_for_reason("other-key", "SecretMismatch");
    assert!(message.contains("lab/key") && message.contains("lab/other"), "{message}");
    let message = stage.wait_for_reason("no-key", "EncryptionMismatch");
    assert!(message.contains("lab/key"), "{message}");
    let message = stage.wait_for_reason("small", "SizeTooSmall");
    assert!(message.contains("volume size should be larger than the backing image size"));
}

#[test]
fn the_memory_of_a_job_is_what_the_header_of_the_image_says() {
    let (stage, server) = (Stage::new(), serve(6 << 20));
    let mut costly = secret("key", "canary passphrase");
    let values = costly["stringData"].as_object_mut().unwrap();
    values.insert("CRYPTO_PBKDF".to_owned(), "argon2id".into());
    values.insert("CRYPTO_PBKDF_FORCE_ITERATIONS".to_owned(), "4".into());
    values.insert("CRYPTO_PBKDF_MEMORY".to_owned(), "65536".into());
    stage.apply(costly);
    stage.apply(secret("cheap", "canary passphrase"));
    stage.apply(image("plain", "download", &json!({ "url": server.url("/disk.raw") })));
    stage.apply(clone("locked", "plain", "encrypt", "key"));
    stage.wait_for_image("locked", "ready");
    stage.apply(class("of-locked", Some("cheap"), json!({ "backingImage": "locked" })));
    stage.apply(class("of-plain", Some("cheap"), json!({ "backingImage": "plain" })));
    let Context { store, library, .. } = stage.context();
    let memory = |document| original_memory(store, library, &Object::of_value(document).unwrap());
    assert_eq!(memory(clone("open", "locked", "decrypt", "cheap")), Some(64 << 20));
    assert_eq!(memory(claim("data", "of-locked", "64Mi")), Some(64 << 20));
    assert_eq!(memory(claim("data", "of-plain", "64Mi")), None);
    assert_eq!(memory(clone("copy", "locked", "ignore", "cheap")), None);
}

#[test]
fn volumes_with_data_keys_under_the_local_kek_are_made_of_plain_images_alone() {
    let (stage, server) = (Stage::new(), serve(6 << 20));
    stage.apply(secret("key", "canary passphrase"));
    stage.apply(image("plain", "download", &json!({ "url": server.url("/disk.raw") })));
    stage.apply(clone("locked", "plain", "encrypt", "key"));
    let of = |image: &str| {
        json!({
            "encryptionEnabled": "true",
            "encryptionKMSType": "local",
            "backingImage": image,
        })
    };
    stage.apply(class("kms", None, of("plain")));
    stage.apply(class("mixed", None, of("locked")));
    stage.apply(claim("data", "kms", "64Mi"));
    stage.apply(claim("mixed", "mixed", "64Mi"));
    stage.wait_for_claim("data", "Bound");
    let id = volume_id(&stage, "data");
    let document = stage.find(Resource::PersistentVolume, None, id.as_str()).unwrap();
    let attribute = |key| document.text(&["spec", "csi", "volumeAttributes", key]);
    assert_eq!(attribute("encrypted"), Some("true"));
    assert_eq!(attribute("encryptionKMSType"), Some("local"));
    let report = stage.context().volumes.report(&id).unwrap();
    assert_eq!((report.envelopes.len(), report.findings.len()), (1, 0), "{report:?}");
    let message = stage.wait_for_reason("mixed", "SecretMismatch");
    assert!(message.contains("lab/key") && message.contains("KMS"), "{message}");
}

#[test]
fn a_copy_with_another_secret_needs_a_keyslot_of_its_own() {
    let (stage, server) = (Stage::new(), serve(6 << 20));
    stage.apply(secret("key", "canary passphrase"));
    stage.apply(secret("other", "canary other"));
    stage.apply(image("plain", "download", &json!({ "url": server.url("/disk.raw") })));
    stage.apply(class("from-image", Some("key"), json!({ "backingImage": "plain" })));
    stage.apply(class("other", Some("other"), json!({})));
    stage.apply(claim("data", "from-image", "64Mi"));
    stage.apply(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": { "namespace": "lab", "name": "before" },
        "spec": { "source": { "persistentVolumeClaimName": "data" } },
    }));
    let mut copied = claim("copied", "other", "64Mi");
    copied["spec"]["dataSource"] = json!({ "kind": "PersistentVolumeClaim", "name": "data" });
    stage.apply(copied.clone());
    let message = stage.wait_for_reason("copied", "SecretMismatch");
    assert!(message.contains("lab/key") && message.contains("lab/other"), "{message}");
    let own = json!({ "strongroom.io/own-keyslot": "true" });
    copied["metadata"] = json!({ "namespace": "lab", "name": "own", "annotations": own });
    stage.apply(copied);
    let mut restored = claim("restored", "other", "64Mi");
    restored["metadata"]["annotations"] = own;
    restored["spec"]["dataSource"] = json!({ "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "before" });
    stage.apply(restored);
    for claim in ["own", "restored"] {
        stage.wait_for_claim(claim, "Bound");
        assert!(opens(&stage, claim, "canary other"), "{claim}");
        assert!(!opens(&stage, claim, "canary passphrase"), "{claim}");
    }
}

/// Tells whether a passphrase opens a volume, as another tool would.
fn opens(stage: &Stage, claim: &str, passphrase: &str) -> bool {
    let path = stage.context().volumes.device_path(&volume_id(stage, claim)).unwrap();
    let key = Passphrase::new(passphrase.as_bytes().to_vec());
    let work = Work { policy: CostPolicy::default(), observer: &(), cancelled: &Arc::default() };
    let opener = Some(Opener::from(&key));
    let side = Side { path: &path, format: Some(ImageFormat::Luks2), header: None, opener };
    strongroom::images::open(side, &[], &work).is_ok()
}

#[test]
fn the_machine_shows_how_many_of_its_volumes_are_encrypted() {
    let stage = Stage::new();
    stage.apply(secret("key", "canary"));
    stage.apply(class("plain", None, json!({})));
    stage.apply(class("locked", Some("key"), json!({})));
    let volume =
        |name: &str| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } });
    stage.apply(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": { "namespace": "lab", "name": "vm" },
        "spec": { "template": { "spec": { "volumes": [volume("one"), volume("two")] } } },
    }));
    let summary = |wanted: &'static str| {
        stage.wait(Resource::VirtualMachine, Some("lab"), "vm", move |found| {
            found.unwrap().annotation("strongroom.io/encryption") == Some(wanted)
        });
    };
    summary("none");
    stage.apply(claim("one", "locked", "64Mi"));
    stage.apply(claim("two", "plain", "64Mi"));
    summary("some");
    stage.delete(Resource::PersistentVolumeClaim, Some("lab"), "two");
    stage.wait_until_gone(Resource::PersistentVolumeClaim, Some("lab"), "two");
    stage.apply(claim("two", "locked", "64Mi"));
    summary("all");
}

#[test]
fn volumes_applied_by_hand_are_made_and_nobody_deletes_what_is_not_theirs() {
    let stage = Stage::new();
    let volume = |namespace: &str| {
        json!({
            "apiVersion": "longhorn.io/v1beta2",
            "kind": "Volume",
            "metadata": { "namespace": namespace, "name": "disk" },
            "spec": { "size": (64u64 << 20).to_string(), "encrypted": true, "frontend": "blockdev" },
        })
    };
    let mut longhorns = secret("longhorn-crypto", "canary");
    longhorns["metadata"]["namespace"] = "longhorn-system".into();
    stage.apply(volume("lab"));
    stage.apply(longhorns);
    let is_detached =
        |found: Option<&Object>| found.unwrap().text(&["status", "state"]) == Some("detached");
    stage.wait(Resource::LonghornVolume, Some("lab"), "disk", is_detached);
    stage.apply(volume("other"));
    stage.wait_for_event("disk", "NameTaken");
    stage.delete(Resource::LonghornVolume, Some("other"), "disk");
    stage.wait_until_gone(Resource::LonghornVolume, Some("other"), "disk");
    let id: VolumeId = "disk".parse().unwrap();
    assert!(stage.context().volumes.volume(&id).is_ok());
    stage.delete(Resource::LonghornVolume, Some("lab"), "disk");
    stage.wait_until_gone(Resource::LonghornVolume, Some("lab"), "disk");
    assert!(stage.context().volumes.volume(&id).is_err());
}

#[test]
fn an_image_that_a_class_describes_is_made_for_the_first_claim() {
    let stage = Stage::new();
    let served = serve(1 << 20);
    let url = served.url("/disk.raw");
    let parameters = |url: &str| {
        json!({
            "backingImage": "base",
            "backingImageDataSourceType": "download",
            "backingImageDataSourceParameters": json!({ "url": url }).to_string(),
        })
    };
    stage.apply(class("of-base", None, parameters(&url)));
    stage.apply(claim("one", "of-base", "2Mi"));
    stage.apply(claim("two", "of-base", "2Mi"));
    stage.wait_for_claim("one", "Bound");
    stage.wait_for_claim("two", "Bound");
    let image = stage.find(Resource::BackingImage, Some("longhorn-system"), "base").unwrap();
    assert_eq!(image.text(&["spec", "sourceParameters", "url"]), Some(url.as_str()));
    stage.apply(class("of-another", None, parameters("https://example.org/other.raw")));
    stage.apply(claim("three", "of-another", "2Mi"));
    let message = stage.wait_for_reason("three", "ImageDiffers");
    assert!(message.contains("existing backing image base data source is different"), "{message}");
}
