//! The job that makes a volume of an image, of a snapshot or of another volume.

use strongroom::images::Keys;
use strongroom::library::Library;
use strongroom::volumes::{Condition, NewVolume, Source, Volume, VolumeEncryption, Volumes};
use strongroom::{OwnedNewKey, OwnedOpener};
use strongroom_model::EncryptionSettings;
use strongroom_model::dialect::admission::{Known, backing_image_named};
use strongroom_model::dialect::kubernetes::{Claim, SecretReference, StorageClass};
use strongroom_model::dialect::longhorn::{
    BackingImage, CloneEncryption, ImageOrigin, LonghornVolume,
};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::super::key_material::{KeyMaterial, VolumeKeys};
use super::super::turn::Trouble;
use super::super::work::Run;
use super::{Copied, FromImage, Keyslot, Plan, Planner, of_owner};
use crate::store::Store;

/// Does the job that makes a volume.
pub(in super::super) fn make_volume(run: &Run<'_>) -> Result<(), Trouble> {
    let work = run.work;
    let planner = Planner { known: &work.store, library: &work.library, keys: &work.keys };
    let plan = match run.subject.resource {
        Resource::LonghornVolume => {
            planner.of_volume(run.object, &LonghornVolume::try_from(run.object)?)?
        }
        _ => {
            let claim = Claim::try_from(run.object)?;
            planner.of_claim(run.object, &claim, &planner.class_of(&claim)?)?
        }
    };
    let Plan { new, secret, image, copied } = plan;
    let found = of_owner(work.volumes.volume(&new.id), run.object.uid())?;
    if found.as_ref().is_some_and(|volume| volume.condition == Condition::Ready) {
        // It was made, and nobody was told.
        return Ok(());
    }
    clear_outdated(&work.volumes, found.as_ref(), &new)?;
    let Some(image) = image else {
        return match copied {
            Some(copied) if copied.keyslot == Keyslot::Own && new.encryption.is_encrypted() => {
                copy_anew(run, &new, secret.as_ref(), &copied)
            }
            _ => Ok(work.volumes.create(&new, run.copying()).map(drop)?),
        };
    };
    let (keys, settings) = keys_for(&work.keys, &new, secret.as_ref(), &image)?;
    let library = run.library().with_settings(settings);
    run.with(|told| library.make_volume(&image.id, &work.volumes, &new, keys, told))?;
    Ok(())
}

/// Deletes what an interrupted call has left of a volume that is to be another one by now: the size of its
/// document was changed meanwhile. Nobody has used it.
pub(in super::super) fn clear_outdated(
    volumes: &Volumes,
    found: Option<&Volume>,
    new: &NewVolume,
) -> Result<(), Trouble> {
    let half_made = found.filter(|volume| volume.condition == Condition::Creating);
    if half_made.is_some_and(|volume| volume.size != new.size) {
        volumes.delete(&new.id)?;
    }
    Ok(())
}

/// Makes a copy that is encrypted anew, so that nothing but its own key opens it.
fn copy_anew(
    run: &Run<'_>,
    new: &NewVolume,
    secret: Option<&SecretReference>,
    copied: &Copied,
) -> Result<(), Trouble> {
    let Copied { source, secret: of_source, .. } = copied;
    let purpose = format!("make volume {} of {source}", new.id);
    let volumes = &run.work.volumes;
    let encryption = match source {
        Source::Volume(id) => volumes.volume(id)?.encryption,
        Source::Snapshot(id) => match volumes.snapshot_of(id)? {
            Some(snapshot) => snapshot.of.encryption,
            None => VolumeEncryption::None,
        },
    };
    let keys = &run.work.keys;
    let from = keys.volume_keys(&encryption, of_source.as_ref(), &purpose)?;
    let to = keys.volume_keys(&new.encryption, secret, &purpose)?;
    let (Some(from), Some(to)) = (from.opener(), to.opener()) else {
        let message = format!("{source} is not encrypted: leave the keyslot of its own out");
        return Err(Trouble::waiting("EncryptionMismatch", message));
    };
    Ok(volumes.copy_anew(new, from, to, run.watch()).map(drop)?)
}

/// Returns what opens the image, what will open the volume, and how its Secret wants it to be encrypted.
fn keys_for(
    keys: &KeyMaterial,
    new: &NewVolume,
    secret: Option<&SecretReference>,
    image: &FromImage,
) -> Result<(Keys, Option<EncryptionSettings>), Trouble> {
    let purpose = format!("make volume {} of image {}", new.id, image.label);
    let source = match (image.is_encrypted, image.secret.as_ref().or(secret)) {
        (true, Some(secret)) => {
            Some(OwnedOpener::Passphrase(keys.passphrase(secret, &purpose)?.passphrase))
        }
        _ => None,
    };
    // Where no document says what opens the image, it is tried, as for a keyslot of its own.
    let is_proved = image.keyslot == Keyslot::OfOriginal && image.secret.is_some();
    let of_volume = match image.is_encrypted && is_proved {
        true => VolumeKeys::None,
        false => keys.volume_keys(&new.encryption, secret, &purpose)?,
    };
    let (target, settings) = match of_volume {
        VolumeKeys::None => (None, None),
        VolumeKeys::Passphrase(held) => {
            (Some(OwnedNewKey::Passphrase(held.passphrase)), Some(held.settings))
        }
        VolumeKeys::Kms(provider) => {
            (Some(OwnedNewKey::Kms { provider, envelope_file: None }), None)
        }
    };
    Ok((Keys { source, target }, settings))
}

/// Returns how many bytes of memory it takes to open the image that a document decrypts, or begins a volume
/// with; `None` when there is none, or nobody can tell.
pub(in super::super) fn original_memory(
    store: &Store,
    library: &Library,
    object: &Object,
) -> Option<u64> {
    let image = match object.resource()? {
        Resource::BackingImage => match BackingImage::try_from(object).ok()?.origin {
            ImageOrigin::Clone { source, encryption: CloneEncryption::Decrypt { .. } } => {
                store.object(Resource::BackingImage, object.namespace(), &source)
            }
            // Once it is there, all that is left is to open it.
            ImageOrigin::Download { .. } | ImageOrigin::Upload => {
                return library.derivation_memory(&object.uid().parse().ok()?).ok()?;
            }
            _ => None,
        },
        Resource::LonghornVolume => {
            let name = LonghornVolume::try_from(object).ok()?.backing_image?;
            let own = store.object(Resource::BackingImage, object.namespace(), &name);
            own.or_else(|| backing_image_named(&name, None, store))
        }
        Resource::PersistentVolumeClaim => {
            let claim = Claim::try_from(object).ok()?;
            let class = store.object(Resource::StorageClass, None, claim.storage_class.as_deref()?);
            let image = StorageClass::try_from(&*class?).ok()?.backing_image().ok()??;
            backing_image_named(&image.name, object.namespace(), store)
        }
        _ => None,
    };
    library.derivation_memory(&image?.uid().parse().ok()?).ok()?
}
