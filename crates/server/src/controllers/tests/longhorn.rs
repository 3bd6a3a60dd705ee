//! Volumes of claims, as whoever lists Longhorn's volumes sees them; PersistentVolumes and namespaces that go.

use std::sync::Arc;

use serde_json::{Value, json};
use strongroom_model::dialect::admission::{self, Change};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::super::stage::{Stage, claim, class, secret};
use crate::store::Part;

const LONGHORN: Option<&str> = Some("longhorn-system");

/// Returns the document of Longhorn's kind for a bound claim, once it is as wanted.
fn shown(stage: &Stage, claim: &Object, wanted: impl Fn(&Object) -> bool) -> Arc<Object> {
    let name = format!("pvc-{}", claim.uid());
    let wanted = |found: Option<&Object>| found.is_some_and(&wanted);
    stage.wait(Resource::LonghornVolume, LONGHORN, &name, wanted).unwrap()
}

#[test]
fn the_volume_of_a_claim_is_shown_as_longhorn_does_and_goes_with_it() {
    let stage = Stage::new();
    stage.apply(secret("key", "canary passphrase"));
    stage.apply(class("locked", Some("key"), json!({})));
    stage.apply(claim("data", "locked", "64Mi"));
    let bound = stage.wait_for_claim("data", "Bound");
    let name = format!("pvc-{}", bound.uid());
    let volume = shown(&stage, &bound, |_| true);
    assert_eq!(volume.text(&["spec", "size"]), Some("67108864"));
    assert_eq!(volume.at(&["spec", "encrypted"]).unwrap(), true);
    assert_eq!(volume.text(&["status", "state"]), Some("detached"));
    assert_eq!(volume.text(&["status", "robustness"]), Some("unknown"));
    assert_eq!(volume.annotation("strongroom.io/secret"), Some("lab/key"));
    let kubernetes = volume.at(&["status", "kubernetesStatus"]).unwrap();
    let expected = json!({
        "pvName": name,
        "pvStatus": "Bound",
        "namespace": "lab",
        "pvcName": "data",
        "lastPVCRefAt": "",
    });
    assert_eq!(*kubernetes, expected);
    // There is one volume, and the document made no other.
    assert_eq!(stage.context().volumes.list(None, 10).unwrap().len(), 1);

    let store = &stage.context().store;
    let refused = admission::refuse_deletion(&volume, store).unwrap_err().to_string();
    assert!(refused.contains(&format!("PersistentVolume {name}")), "{refused}");
    let key = stage.find(Resource::Secret, Some("lab"), "key").unwrap();
    let users = admission::users(&key, store);
    assert!(users.iter().all(|user| !user.starts_with("Volume")), "{users:?}");
    // Its size is the claim's affair, and whose it is nobody's.
    let mut changed = (*volume).clone();
    changed.set(&["spec", "size"], "134217728");
    changed.set(&["metadata", "annotations", "strongroom.io/claim-uid"], "another");
    let refused = admission::admit(changed, Change::Update(&volume), store).unwrap_err();
    assert_eq!(refused.causes.len(), 2, "{refused}");

    let grow = &mut |object: &mut Object| {
        object.set(&["spec", "resources", "requests", "storage"], "96Mi");
    };
    let resource = Resource::PersistentVolumeClaim;
    store.edit(resource, Some("lab"), "data", Part::Document, grow).unwrap();
    shown(&stage, &bound, |volume| volume.text(&["spec", "size"]) == Some("100663296"));
    // Whoever forces its deletion sees it come back, and the data was never touched. A finalizer holds nothing.
    let hold = || {
        let change = &mut |object: &mut Object| {
            object.set(&["metadata", "finalizers"], json!(["example.com/mine"]));
        };
        store.edit(Resource::LonghornVolume, LONGHORN, &name, Part::Document, change).unwrap();
    };
    hold();
    stage.delete(Resource::LonghornVolume, LONGHORN, &name);
    shown(&stage, &bound, |found| found.uid() != volume.uid());
    hold();
    stage.delete(resource, Some("lab"), "data");
    stage.wait_until_gone(resource, Some("lab"), "data");
    stage.wait_until_gone(Resource::LonghornVolume, LONGHORN, &name);
    assert!(stage.context().volumes.list(None, 10).unwrap().is_empty());
}

#[test]
fn only_volumes_of_longhorns_driver_are_shown_and_those_by_hand_stay_what_they_are() {
    let stage = Stage::new();
    let mut other = class("other", None, json!({}));
    other["provisioner"] = "csi.strongroom.io".into();
    stage.apply(other);
    stage.apply(class("kept", None, json!({})));
    stage.apply(json!({
        "apiVersion": "longhorn.io/v1beta2",
        "kind": "Volume",
        "metadata": { "namespace": "longhorn-system", "name": "by-hand" },
        "spec": { "size": "67108864" },
    }));
    // One that says to be a claim's, which there is not, is nobody's.
    stage.apply(json!({
        "apiVersion": "longhorn.io/v1beta2",
        "kind": "Volume",
        "metadata": {
            "namespace": "longhorn-system",
            "name": "pvc-none",
            "annotations": { "strongroom.io/claim-uid": "none" },
        },
        "spec": { "size": "67108864" },
    }));
    stage.wait_until_gone(Resource::LonghornVolume, LONGHORN, "pvc-none");
    let mut retained = claim("kept", "kept", "64Mi");
    retained["spec"]["accessModes"] = json!(["ReadWriteMany"]);
    stage.apply(retained);
    stage.apply(claim("other", "other", "64Mi"));
    let kept = stage.wait_for_claim("kept", "Bound");
    stage.wait_for_claim("other", "Bound");
    let volume = shown(&stage, &kept, |_| true);
    assert_eq!(volume.text(&["spec", "accessMode"]), Some("rwx"));
    let is = |found: Option<&Object>| {
        found.is_some_and(|found| found.text(&["status", "state"]) == Some("detached"))
    };
    let by_hand = stage.wait(Resource::LonghornVolume, LONGHORN, "by-hand", is).unwrap();
    assert_eq!(by_hand.annotation("strongroom.io/claim-uid"), None);
    let all = stage.context().store.list(Resource::LonghornVolume, None).0;
    assert_eq!(all.len(), 2, "{all:?}");
    // What outlives its claim says so.
    let name = format!("pvc-{}", kept.uid());
    let retain = &mut |object: &mut Object| {
        object.set(&["spec", "persistentVolumeReclaimPolicy"], "Retain");
    };
    let (store, resource) = (&stage.context().store, Resource::PersistentVolume);
    store.edit(resource, None, &name, Part::Document, retain).unwrap();
    stage.delete(Resource::PersistentVolumeClaim, Some("lab"), "kept");
    let released = shown(&stage, &kept, |volume| {
        volume.text(&["status", "kubernetesStatus", "pvStatus"]) == Some("Released")
    });
    let since = released.text(&["status", "kubernetesStatus", "lastPVCRefAt"]);
    assert!(since.is_some_and(|since| since.ends_with('Z')), "{since:?}");
}

#[test]
fn a_bound_persistent_volume_that_is_deleted_stays_until_its_claim_goes() {
    let stage = Stage::new();
    stage.apply(class("plain", None, json!({})));
    stage.apply(claim("data", "plain", "64Mi"));
    let bound = stage.wait_for_claim("data", "Bound");
    let (resource, name) = (Resource::PersistentVolume, format!("pvc-{}", bound.uid()));
    let store = &stage.context().store;
    let answer = store.delete(resource, None, &name, None).unwrap();
    assert!(answer.is_being_deleted());
    let event = stage.wait_for_event(&name, "InUse");
    assert!(event.text(&["message"]).unwrap().contains("lab/data is bound to it"), "{event:?}");
    let there = stage.find(resource, None, &name).unwrap();
    assert!(there.is_being_deleted());
    assert_eq!(there.text(&["status", "phase"]), Some("Bound"));
    assert_eq!(stage.wait_for_claim("data", "Bound").uid(), bound.uid());
    stage.delete(Resource::PersistentVolumeClaim, Some("lab"), "data");
    stage.wait_until_gone(Resource::PersistentVolumeClaim, Some("lab"), "data");
    stage.wait_until_gone(resource, None, &name);
    assert!(stage.context().volumes.list(None, 10).unwrap().is_empty());
}

#[test]
fn namespaces_with_documents_are_listed_and_so_is_the_default_one() {
    let stage = Stage::new();
    let names = |stage: &Stage| -> Vec<String> {
        let all = stage.context().store.list(Resource::Namespace, None).0;
        all.iter().map(|object| object.name().to_owned()).collect()
    };
    let is_active = |found: Option<&Object>| {
        found.is_some_and(|found| found.text(&["status", "phase"]) == Some("Active"))
    };
    stage.wait(Resource::Namespace, None, "default", is_active);
    let mut elsewhere = secret("key", "canary");
    elsewhere["metadata"]["namespace"] = Value::from("elsewhere");
    stage.apply(elsewhere);
    stage.wait(Resource::Namespace, None, "elsewhere", is_active);
    assert_eq!(names(&stage), ["default", "elsewhere"]);
    // One that is empty goes when somebody wants it to.
    stage.delete(Resource::Secret, Some("elsewhere"), "key");
    stage.delete(Resource::Namespace, None, "elsewhere");
    stage.apply(secret("key", "canary"));
    stage.wait(Resource::Namespace, None, "lab", is_active);
    assert_eq!(names(&stage), ["default", "lab"]);
}
