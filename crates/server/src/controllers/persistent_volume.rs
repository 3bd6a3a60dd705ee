//! PersistentVolumes: what a claim is bound to, and what keeps its data until nobody wants it any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use strongroom::volumes::{Volume, VolumeEncryption};
use strongroom_model::VolumeId;
use strongroom_model::dialect::kubernetes::{
    Claim, PersistentVolume, ReclaimPolicy, SecretUse, StorageClass, VolumeMode,
};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::claim::{claim_reference, quantity};
use super::claimed_volume;
use super::events::Tone;
use super::provision::{self, OWNER};
use super::queue::Next;
use super::turn::{FINALIZER, Trouble, Turn};
use crate::store::{Part, Store};

/// Follows what becomes of the claim of a PersistentVolume, and deletes its data.
pub(super) fn reconcile(turn: &Turn<'_>) -> Result<Next, Trouble> {
    let volume = PersistentVolume::try_from(turn.object)?;
    let claim = volume.claim.as_ref().and_then(|(namespace, name)| {
        turn.read(Resource::PersistentVolumeClaim, Some(namespace), name)
    });
    let uid = turn.object.text(&["spec", "claimRef", "uid"]);
    let claim = claim.filter(|claim| uid.is_none_or(|uid| uid == claim.uid()));
    if turn.object.is_being_deleted() {
        return match claim.filter(|claim| !claim.is_being_deleted()) {
            Some(claim) if turn.is_held() => {
                let message = format!("{claim:?} is bound to it: delete that first");
                Err(Trouble::waiting("InUse", message))
            }
            _ => delete(turn, &volume, uid),
        };
    }
    let phase = match (&volume.claim, &claim) {
        // Somebody may apply the claim after the volume that names it.
        (None, _) => "Available",
        (Some(_), _) if uid.is_none() => "Available",
        (Some(_), Some(claim)) if is_named_by(turn.object, claim) => "Bound",
        (Some(_), None) if was_bound(turn.object) => RELEASED,
        // It comes from elsewhere: what it says of its claim was never so here.
        (Some(_), _) => "Pending",
    };
    turn.set_status(&mut |object| object.set(&["status", "phase"], phase))?;
    if phase == "Pending" {
        let message = "the claim of spec.claimRef.uid is not bound to it: take spec.claimRef out, and \
                       name it in spec.volumeName of the claim that is to have it";
        turn.tell(Tone::Warning, "ClaimMissing", message);
    }
    if phase == RELEASED && volume.reclaim == ReclaimPolicy::Delete && turn.is_held() {
        let store = &turn.context().store;
        store.delete(
            Resource::PersistentVolume,
            None,
            turn.object.name(),
            Some(turn.object.uid()),
        )?;
        return Ok(Next::Settled);
    }
    // Nothing depends on it.
    if matches!(phase, "Bound" | RELEASED) {
        claimed_volume::keep(turn, phase)?;
    }
    Ok(Next::Settled)
}

/// Returns whether a claim names a PersistentVolume that names the claim.
fn is_named_by(volume: &Object, claim: &Object) -> bool {
    match claim.text(&["spec", "volumeName"]) {
        Some(name) => name == volume.name(),
        // It is about to, if the volume was made for it.
        None => volume.name() == format!("pvc-{}", claim.uid()),
    }
}

/// Returns whether it was bound to its claim at some time. Nobody but the controllers writes that.
fn was_bound(volume: &Object) -> bool {
    matches!(volume.text(&["status", "phase"]), Some("Bound" | RELEASED | FAILED))
}

fn delete(
    turn: &Turn<'_>,
    volume: &PersistentVolume,
    claim_uid: Option<&str>,
) -> Result<Next, Trouble> {
    if !turn.is_held() {
        return Ok(Next::Settled);
    }
    if volume.reclaim == ReclaimPolicy::Delete {
        let id = provision::identifier(&volume.volume)?;
        let uid = claim_uid.unwrap_or_default();
        if let Some(reason) = why_kept(turn, &id, uid)? {
            let message = format!(
                "the data of volume {id} stays, since {reason}: set \
                 spec.persistentVolumeReclaimPolicy to Retain to delete this document alone"
            );
            if was_bound(turn.object) {
                turn.set_status(&mut |object| {
                    object.set(&["status", "phase"], FAILED);
                    object.set(&["status", "message"], message.as_str());
                })?;
            }
            return Err(Trouble::waiting("DataKept", message));
        }
        delete_data(turn, &id, uid)?;
    }
    turn.release()?;
    Ok(Next::Settled)
}

/// Returns why the data must not go with a PersistentVolume, `None` when it must, or is not there.
fn why_kept(turn: &Turn<'_>, id: &VolumeId, uid: &str) -> Result<Option<String>, Trouble> {
    match provision::of_owner(turn.context().volumes.volume(id), uid) {
        Ok(Some(_)) => {}
        Ok(None) => return Ok(None),
        Err(Trouble::Waiting(_)) => {
            return Ok(Some("it was not made for the claim of spec.claimRef.uid".to_owned()));
        }
        Err(trouble) => return Err(trouble),
    }
    if turn.object.name() != id.as_str() {
        return Ok(Some("the document bears another name than the volume".to_owned()));
    }
    if let Some(other) = others_of(turn, id).first() {
        return Ok(Some(format!("{other:?} stands for it, too")));
    }
    if let Some(claim) = living(turn, Resource::PersistentVolumeClaim, uid) {
        return Ok(Some(format!("{claim:?} is still there")));
    }
    let never = "the document was never bound here".to_owned();
    Ok((!was_bound(turn.object)).then_some(never))
}

/// Makes the claim of this turn the owner of the volume for which a PersistentVolume stands, so that it can be
/// deleted with it; but only where the owner is gone, and no other document stands for it.
pub(super) fn take_over(turn: &Turn<'_>, document: &Object) -> Result<(), Trouble> {
    let handle = document.text(&["spec", "csi", "volumeHandle"]).unwrap_or_default();
    let id = provision::identifier(handle)?;
    if document.name() != handle || others_of(turn, &id).len() > 1 {
        return Ok(());
    }
    let volumes = &turn.context().volumes;
    let found = match volumes.volume(&id) {
        Ok(volume) => volume,
        Err(error) if error.kind() == strongroom::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let owner = found.parameters.get(OWNER).map(String::as_str);
    let uid = turn.object.uid();
    let owners = [Resource::PersistentVolumeClaim, Resource::LonghornVolume];
    let is_there = |of: &str| owners.into_iter().any(|resource| is_there(turn, resource, of));
    if owner == Some(uid) || owner.is_none_or(is_there) {
        return Ok(());
    }
    turn.audit(
        "take-over",
        &format!("volume {id}: its owner is gone, and it is this claim's now"),
    )?;
    volumes.change_parameter(&id, OWNER, owner, uid)?;
    Ok(())
}

fn is_there(turn: &Turn<'_>, resource: Resource, uid: &str) -> bool {
    let all = turn.context().store.list(resource, None).0;
    all.iter().any(|object| object.uid() == uid)
}

/// Returns the PersistentVolumes that stand for a volume, but for the one of this turn.
pub(super) fn others_of(turn: &Turn<'_>, id: &VolumeId) -> Vec<Arc<Object>> {
    let mut found = turn.list(Resource::PersistentVolume, None);
    found.retain(|volume| {
        volume.uid() != turn.object.uid()
            && volume.text(&["spec", "csi", "volumeHandle"]) == Some(id.as_str())
    });
    found
}

/// Returns the document of a kind that has this UID and stays.
fn living(turn: &Turn<'_>, resource: Resource, uid: &str) -> Option<Arc<Object>> {
    let all = turn.context().store.list(resource, None).0;
    all.into_iter().find(|object| object.uid() == uid && !object.is_being_deleted())
}

/// Deletes a volume that was made for the document with this UID. Any other one stays.
///
/// # Errors
///
/// [`Trouble::Failed`] when it is in use: it is tried again.
pub(super) fn delete_data(turn: &Turn<'_>, id: &VolumeId, owner: &str) -> Result<(), Trouble> {
    let volumes = &turn.context().volumes;
    match provision::of_owner(volumes.volume(id), owner) {
        Ok(Some(_)) => {}
        Ok(None) => return Ok(()),
        Err(Trouble::Waiting(_)) => {
            let message = format!("the data of volume {id} stays: it was not made for this");
            turn.tell(Tone::Warning, "DataKept", &message);
            return Ok(());
        }
        Err(trouble) => return Err(trouble),
    }
    turn.audit("delete", &format!("volume {id}: its data, then its keys"))?;
    volumes.delete(id)?;
    turn.tell(Tone::Normal, "Deleted", &format!("volume {id} was deleted with its data"));
    Ok(())
}

/// Returns the document for a volume that was made for a claim.
///
/// # Errors
///
/// What is wrong with the Secrets that the class names.
pub(super) fn document(
    object: &Object,
    claim: &Claim,
    class: &StorageClass,
    volume: &Volume,
) -> Result<Object, Trouble> {
    let name = volume.id.as_str();
    let mut document = Object::new(Resource::PersistentVolume, None, name);
    document.set(&["metadata", "finalizers"], vec![FINALIZER]);
    let annotation = "pv.kubernetes.io/provisioned-by";
    document.set(&["metadata", "annotations", annotation], class.provisioner.as_str());
    document.set(&["spec", "capacity", "storage"], quantity(volume.size));
    document.set(&["spec", "accessModes"], claim.access_modes.clone());
    document.set(&["spec", "persistentVolumeReclaimPolicy"], class.reclaim.name());
    document.set(&["spec", "storageClassName"], class.name.as_str());
    document.set(&["spec", "claimRef"], claim_reference(object));
    let mode = match claim.mode {
        VolumeMode::Filesystem => "Filesystem",
        VolumeMode::Block => "Block",
    };
    document.set(&["spec", "volumeMode"], mode);
    document.set(&["spec", "csi", "driver"], class.provisioner.as_str());
    document.set(&["spec", "csi", "volumeHandle"], name);
    if let Some(file_system) = volume.parameters.get("fsType") {
        document.set(&["spec", "csi", "fsType"], file_system.as_str());
    }
    for (key, value) in attributes(volume) {
        document.set(&["spec", "csi", "volumeAttributes", &key], value);
    }
    let values = claim.template_values(name);
    let uses = [
        (SecretUse::NodeStage, "nodeStageSecretRef"),
        (SecretUse::NodePublish, "nodePublishSecretRef"),
        (SecretUse::NodeExpand, "nodeExpandSecretRef"),
    ];
    for (of, field) in uses {
        if let Some(secret) = class.secret(of, &values)? {
            document.set(&["spec", "csi", field, "name"], secret.name);
            document.set(&["spec", "csi", field, "namespace"], secret.namespace);
        }
    }
    document.set(&["status", "phase"], "Bound");
    Ok(document)
}

/// Returns what is shown of a volume for ever: that it is encrypted, by which key, and of which image it is.
fn attributes(volume: &Volume) -> BTreeMap<String, String> {
    let encrypted = volume.encryption.is_encrypted().to_string();
    let mut attributes = BTreeMap::from([("encrypted".to_owned(), encrypted)]);
    let mut put = |key: &str, value: &str| attributes.insert(key.to_owned(), value.to_owned());
    if let Some(image) = volume.parameters.get("backingImage") {
        put("backingImage", image);
    }
    if let VolumeEncryption::Kms(request) = &volume.encryption {
        put("encryptionEnabled", "true");
        put("encryptionKMSType", request.kind.name());
        if let Some(endpoint) = request.endpoints.first() {
            put("encryptionKMSEndpoint", endpoint);
        }
        if let Some(key_id) = &request.key_id {
            put("encryptionKMSKeyID", key_id);
        }
    }
    attributes
}

/// Writes down how much room a PersistentVolume has.
pub(super) fn set_capacity(store: &Store, name: &str, size: u64) -> crate::Result<()> {
    store
        .edit(Resource::PersistentVolume, None, name, Part::Document, &mut |volume| {
            volume.set(&["spec", "capacity", "storage"], quantity(size));
        })
        .map(drop)
}

/// Writes down how a PersistentVolume stands.
pub(super) fn set_phase(store: &Store, name: &str, phase: &str) -> crate::Result<()> {
    store
        .edit(Resource::PersistentVolume, None, name, Part::Status, &mut |volume| {
            volume.set(&["status", "phase"], phase);
        })
        .map(drop)
}

/// The phase of one whose claim is gone.
pub(super) const RELEASED: &str = "Released";

/// The phase of one that is to be deleted with its data, which cannot be.
pub(super) const FAILED: &str = "Failed";
