//! Longhorn's volumes, and PersistentVolumes.

use super::Reason;
use super::backing_image::NO_BACKUPS;
use super::keys::{Unusable, backing_image_named, check_secret};
use super::review::Review;
use super::storage_class::{Keyslot, Opener, check_image_key};
use crate::dialect::kubernetes::{Claim, PersistentVolume};
use crate::dialect::longhorn::{BackingImage, LonghornVolume, VolumeEncryption};
use crate::dialect::osc::Encryption;
use crate::dialect::resource::Resource;

pub(super) fn review(review: &mut Review<'_>) {
    review.default(&["spec", "encrypted"], false);
    review.default(&["spec", "dataEngine"], "v1");
    let annotation = ["metadata", "annotations", LonghornVolume::SECRET];
    let message =
        "the Secret that a volume was encrypted with is not another one because somebody says so";
    review.fixed(&annotation, message);
    let claim = ["metadata", "annotations", LonghornVolume::CLAIM];
    review.fixed(&claim, "the server says whose volume it is");
    review.fixed(&["spec", "encrypted"], "Encrypted is immutable");
    review.fixed(&["spec", "dataEngine"], "dataEngine is immutable");
    for field in ["backingImage", "fromBackup", "dataSource"] {
        review.fixed(&["spec", field], "what a volume begins with is immutable");
    }
    review.keep(&["spec", "size"]);
    let Some(volume) = review.view::<LonghornVolume>() else { return };
    if !review.is_changed() {
        return;
    }
    match review.old.map(LonghornVolume::try_from) {
        Some(Ok(old)) if volume.stands_for.is_some() && volume.size != old.size => {
            let message =
                "it has the size of its claim: change spec.resources.requests.storage there";
            review.note(&["spec", "size"], Reason::Invalid, message);
        }
        Some(Ok(old)) if volume.size < old.size => {
            let message = "volumes are never made smaller";
            review.note(&["spec", "size"], Reason::Invalid, message);
        }
        Some(_) => {}
        None => created(review, &volume),
    }
}

pub(super) fn review_persistent(review: &mut Review<'_>) {
    review.fixed(&["spec", "csi"], "the volume that a PersistentVolume stands for is immutable");
    review.view::<PersistentVolume>();
}

fn created(review: &mut Review<'_>, volume: &LonghornVolume) {
    if volume.from_backup.is_some() {
        review.note(&["spec", "fromBackup"], Reason::NotSupported, NO_BACKUPS);
    }
    let begins = volume.from_backup.is_some() || volume.data_source.is_some();
    if volume.size == 0 && !begins {
        let message = "say how large the volume shall be, in bytes: \"10737418240\"";
        review.note(&["spec", "size"], Reason::Required, message);
    }
    let (encryption, secret) = match &volume.encryption {
        VolumeEncryption::Plain => (Encryption::None, None),
        VolumeEncryption::Encrypted { secret } => (Encryption::Passphrase, Some(secret)),
    };
    if let Some(secret) = secret {
        let path = ["metadata", "annotations", LonghornVolume::SECRET];
        match check_secret(secret, review.known) {
            Ok(()) => {}
            Err(Unusable::Invalid(problem)) => review.note(&path, Reason::Invalid, problem),
            Err(Unusable::Missing) => {
                let message =
                    format!("secret {secret} not found: the volume waits until it is there");
                review.warn(&path, &message);
            }
        }
    }
    let Some(name) = &volume.backing_image else { return };
    let path = ["spec", "backingImage"];
    let namespace = review.object.namespace().map(str::to_owned);
    let own = review.known.object(Resource::BackingImage, namespace.as_deref(), name);
    let Some(found) = own.or_else(|| backing_image_named(name, None, review.known)) else {
        let message = format!("there is no backing image {name}: make it first");
        return review.note(&path, Reason::NotFound, message);
    };
    let needed = found.at(&["status", "virtualSize"]).and_then(serde_json::Value::as_u64);
    if let Some(needed) = needed.filter(|needed| *needed > volume.size && !begins) {
        let message = format!(
            "volume size should be larger than the backing image size: {needed} bytes are needed"
        );
        review.note(&["spec", "size"], Reason::Invalid, message);
    }
    if let Ok(image) = BackingImage::try_from(&*found) {
        let keyslot = Keyslot::of(review.object.annotation(Claim::OWN_KEYSLOT));
        check_image_key(
            review,
            &path,
            &image,
            &Opener { encryption: &encryption, secret, keyslot },
        );
    }
}
