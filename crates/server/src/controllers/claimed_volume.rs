//! Volumes of claims as Longhorn shows them: a document beside the PersistentVolume, of the same name, for
//! whoever lists Longhorn's volumes. Nothing is made of it; it goes when the PersistentVolume goes.

use serde_json::json;
use strongroom::volumes::{Volume, VolumeEncryption};
use strongroom_model::dialect::longhorn::LonghornVolume;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::moments::{self, Truth};
use super::persistent_volume;
use super::provision;
use super::queue::Next;
use super::turn::{Trouble, Turn};
use crate::store::Part;

/// Keeps the document of Longhorn's kind for the PersistentVolume of a turn, where Longhorn would have one.
pub(super) fn keep(turn: &Turn<'_>, phase: &str) -> Result<(), Trouble> {
    let (persistent, name) = (turn.object, turn.object.name());
    let text = |path: &[&str]| persistent.text(path);
    let is_longhorns = text(&["spec", "csi", "driver"]) == Some(DRIVER);
    let uid = text(&["spec", "claimRef", "uid"]).unwrap_or_default();
    if !is_longhorns || text(&["spec", "csi", "volumeHandle"]) != Some(name) || uid.is_empty() {
        return Ok(());
    }
    let volumes = &turn.context().volumes;
    let volume = match provision::of_owner(volumes.volume(&provision::identifier(name)?), uid) {
        Ok(Some(volume)) => volume,
        // It was applied by hand, and has a document of its own.
        Ok(None) | Err(Trouble::Waiting(_)) => return Ok(()),
        Err(trouble) => return Err(trouble),
    };
    let is_attached = volumes.attachment(&volume.id)?.is_some();
    let found = turn.read(Resource::LonghornVolume, Some(LonghornVolume::NAMESPACE), name);
    let change = |object: &mut Object| {
        describe(object, persistent, &volume, uid);
        show(object, persistent, &volume, (phase, is_attached));
    };
    let store = &turn.context().store;
    let Some(found) = found else {
        let namespace = Some(LonghornVolume::NAMESPACE);
        let mut object = Object::new(Resource::LonghornVolume, namespace, name);
        change(&mut object);
        return match store.create(object) {
            Ok(_) | Err(crate::Error::Exists { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        };
    };
    if LonghornVolume::stands_for(&found).is_none() {
        // Somebody has applied one of this name, which tells that the name is taken.
        return Ok(());
    }
    for part in [Part::Document, Part::Status] {
        store.edit(
            Resource::LonghornVolume,
            Some(LonghornVolume::NAMESPACE),
            name,
            part,
            &mut |object| {
                if LonghornVolume::stands_for(object).is_some() {
                    change(object);
                }
            },
        )?;
    }
    Ok(())
}

/// Takes the document of a turn away when its PersistentVolume is gone.
pub(super) fn reconcile(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if turn.read(Resource::PersistentVolume, None, turn.object.name()).is_some() {
        // Its turn keeps this one as it should be.
        return Ok(Next::Settled);
    }
    // Whatever else would hold it holds nothing: no data belongs to it.
    if turn.object.finalizers().next().is_some() {
        turn.edit(Part::Document, &mut |object| {
            if LonghornVolume::stands_for(object).is_some() {
                object.take(&["metadata", "finalizers"]);
            }
        })?;
    }
    let (namespace, name) = (turn.object.namespace(), turn.object.name());
    let store = &turn.context().store;
    match store.delete(Resource::LonghornVolume, namespace, name, Some(turn.object.uid())) {
        Ok(_) | Err(crate::Error::NotFound { .. }) => Ok(Next::Settled),
        Err(error) => Err(error.into()),
    }
}

/// Writes down what the volume is.
fn describe(object: &mut Object, persistent: &Object, volume: &Volume, uid: &str) {
    // It goes when the PersistentVolume goes, and nobody else holds it.
    object.take(&["metadata", "finalizers"]);
    object.set(&["metadata", "annotations", LonghornVolume::CLAIM], uid);
    object.set(&["metadata", "labels", "longhornvolume"], persistent.name());
    let reference = |field| persistent.text(&["spec", "csi", "nodeStageSecretRef", field]);
    if let (VolumeEncryption::Passphrase, Some(namespace), Some(name)) =
        (&volume.encryption, reference("namespace"), reference("name"))
    {
        let secret = format!("{namespace}/{name}");
        object.set(&["metadata", "annotations", LonghornVolume::SECRET], secret);
    }
    object.set(&["spec", "size"], volume.size.to_string());
    object.set(&["spec", "encrypted"], volume.encryption.is_encrypted());
    object.set(&["spec", "dataEngine"], "v1");
    object.set(&["spec", "frontend"], "blockdev");
    let modes = persistent.at(&["spec", "accessModes"]).and_then(serde_json::Value::as_array);
    let is_shared = modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteMany"));
    object.set(&["spec", "accessMode"], if is_shared { "rwx" } else { "rwo" });
    if let Some(image) = persistent.text(&["spec", "csi", "volumeAttributes", "backingImage"]) {
        object.set(&["spec", "backingImage"], image);
    }
}

/// Writes down how the volume stands.
fn show(
    object: &mut Object,
    persistent: &Object,
    volume: &Volume,
    (phase, is_attached): (&str, bool),
) {
    let (state, robustness) = match is_attached {
        true => ("attached", "healthy"),
        false => ("detached", "unknown"),
    };
    object.set(&["status", "state"], state);
    object.set(&["status", "robustness"], robustness);
    object.set(&["status", "currentSize"], volume.size.to_string());
    object.set(&["status", "encrypted"], volume.encryption.is_encrypted());
    let claim = |field| persistent.text(&["spec", "claimRef", field]).unwrap_or_default();
    let since = object.text(&["status", "kubernetesStatus", "lastPVCRefAt"]).unwrap_or_default();
    let since = match phase {
        persistent_volume::RELEASED if since.is_empty() => moments::now(),
        persistent_volume::RELEASED => since.to_owned(),
        _ => String::new(),
    };
    object.set(
        &["status", "kubernetesStatus"],
        json!({
            "pvName": persistent.name(),
            "pvStatus": phase,
            "namespace": claim("namespace"),
            "pvcName": claim("name"),
            "lastPVCRefAt": since,
        }),
    );
    moments::set_condition(object, "Scheduled", Truth::True, "", "");
}

/// Whose volumes Longhorn shows.
const DRIVER: &str = "driver.longhorn.io";
