//! PersistentVolumeClaims.

use super::keys::{
    Protection, backing_image_named, claim_protection, class_protection, is_same_key,
};
use super::review::Review;
use super::storage_class::check_image_key;
use super::{Known, Reason};
use crate::FileSystem;
use crate::dialect::kubernetes::{
    Claim, ClaimSource, Expansion, SnapshotSource, StorageClass, VolumeMode, VolumeSnapshot,
};
use crate::dialect::longhorn::BackingImage;
use crate::dialect::osc::Encryption;
use crate::dialect::resource::Resource;

pub(super) fn review(review: &mut Review<'_>) {
    if review.old.is_none() {
        fill_in_class(review);
    }
    review.default(&["spec", "volumeMode"], "Filesystem");
    for field in
        ["accessModes", "selector", "storageClassName", "volumeMode", "dataSource", "dataSourceRef"]
    {
        let message = "spec is immutable after creation except resources.requests";
        review.fixed(&["spec", field], message);
    }
    let message = "the claim is bound: delete it, and make one with another volume";
    review.fixed_once_set(&["spec", "volumeName"], message);
    let Some(claim) = review.view::<Claim>() else { return };
    if !review.is_changed() || !review.is_good() {
        return;
    }
    let class = class_of(&claim, review.known);
    match review.old.map(Claim::try_from) {
        Some(Ok(old)) => resized(review, &claim, &old, class.as_ref()),
        Some(Err(_)) => {}
        None => created(review, &claim, class.as_ref()),
    }
}

/// Names the default class in a claim that names none, so that it keeps it when another one becomes the default.
fn fill_in_class(review: &mut Review<'_>) {
    let beta = ["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"];
    if review.object.at(&["spec", "storageClassName"]).is_some()
        || review.object.at(&beta).is_some()
    {
        return;
    }
    let mut classes: Vec<_> = review.known.objects(Resource::StorageClass, None);
    classes.retain(|class| StorageClass::is_marked_default(class));
    // Kubernetes takes the newest of several.
    let created = |class: &crate::dialect::object::Object| {
        class.text(&["metadata", "creationTimestamp"]).unwrap_or_default().to_owned()
    };
    let newest = classes.iter().max_by_key(|class| (created(class), class.name().to_owned()));
    if let Some(class) = newest {
        review.object.set(&["spec", "storageClassName"], class.name());
    }
}

fn class_of(claim: &Claim, known: &dyn Known) -> Option<StorageClass> {
    let name = claim.storage_class.as_deref().filter(|name| !name.is_empty())?;
    StorageClass::try_from(&*known.object(Resource::StorageClass, None, name)?).ok()
}

fn resized(review: &mut Review<'_>, claim: &Claim, old: &Claim, class: Option<&StorageClass>) {
    let path = ["spec", "resources", "requests", "storage"];
    if claim.size < old.size {
        let message = "field can not be less than it was: volumes are never made smaller";
        review.note(&path, Reason::Invalid, message);
    }
    let refuses = class.is_none_or(|class| class.expansion == Expansion::Refused);
    if claim.size > old.size && refuses {
        let message = "only dynamically provisioned pvc can be resized and the storageclass that \
                       provisions the pvc must support resize: the class must be there and say \
                       allowVolumeExpansion: true";
        review.note(&path, Reason::Immutable, message);
    }
}

fn created(review: &mut Review<'_>, claim: &Claim, class: Option<&StorageClass>) {
    if let Some(source) = &claim.source {
        check_source(review, claim, source);
    }
    let Some(class) = class else { return };
    let class_path = ["spec", "storageClassName"];
    if let Err(refused) = class.volume_secret(&claim.template_values(&claim.provisioned_name())) {
        let message = format!("the class {} does not fit this claim: {refused}", class.name);
        review.note(&class_path, Reason::Invalid, message);
    }
    let Ok(parameters) = class.volume_parameters() else { return };
    let least = match (claim.mode, parameters.file_system.unwrap_or_default()) {
        (VolumeMode::Block, _) => 1,
        (VolumeMode::Filesystem, FileSystem::Ext4) => 8 << 20,
        (VolumeMode::Filesystem, FileSystem::Xfs) => 300 << 20,
    };
    if claim.size < least {
        let message =
            format!("a volume with a file system of this class has at least {least} bytes");
        review.note(&["spec", "resources", "requests", "storage"], Reason::Invalid, message);
    }
    // What a claim begins with wins over what its class says.
    if claim.source.is_none() {
        check_image(review, claim, class, &parameters.encryption);
    }
}

fn check_image(
    review: &mut Review<'_>,
    claim: &Claim,
    class: &StorageClass,
    encryption: &Encryption,
) {
    let Ok(Some(wanted)) = class.backing_image() else { return };
    let Some(found) = backing_image_named(&wanted.name, review.known) else { return };
    let virtual_size = found.at(&["status", "virtualSize"]).and_then(serde_json::Value::as_u64);
    check_room(review, claim, virtual_size, &format!("the backing image {}", wanted.name));
    let Ok(image) = BackingImage::try_from(&*found) else { return };
    if has_own_keyslot(review) {
        return;
    }
    let secret = match class_protection(class, claim) {
        Protection::Passphrase(secret) => Some(secret),
        _ => None,
    };
    check_image_key(review, &["spec", "storageClassName"], &image, encryption, secret.as_ref());
}

/// Refuses a volume that has no room for what it begins with, or a copy that would be opened in another way.
fn check_source(review: &mut Review<'_>, claim: &Claim, source: &ClaimSource) {
    let namespace = review.object.namespace().map(str::to_owned);
    let (name, size) = match source {
        ClaimSource::Claim(name) => (Some(name.clone()), None),
        ClaimSource::Snapshot(name) => {
            let found = review.known.object(Resource::VolumeSnapshot, namespace.as_deref(), name);
            let Some(found) = found else { return };
            let size = found.text(&["status", "restoreSize"]).map(str::to_owned);
            let size =
                size.and_then(|size| crate::dialect::kubernetes::bytes_of_quantity(&size).ok());
            let snapshot = VolumeSnapshot::try_from(&*found);
            match snapshot.map(|snapshot| snapshot.source) {
                Ok(SnapshotSource::Claim(claim)) => (Some(claim), size),
                _ => (None, size),
            }
        }
    };
    let from = match source {
        ClaimSource::Claim(name) => format!("the claim {name}"),
        ClaimSource::Snapshot(name) => format!("the snapshot {name}"),
    };
    let original = name.and_then(|name| {
        let found =
            review.known.object(Resource::PersistentVolumeClaim, namespace.as_deref(), &name)?;
        Claim::try_from(&*found).ok()
    });
    let original_size = match source {
        ClaimSource::Claim(_) => original.as_ref().map(|original| original.size),
        ClaimSource::Snapshot(_) => size,
    };
    check_room(review, claim, original_size, &from);
    let Some(original) = original else { return };
    let path = ["spec", "dataSource"];
    let both = (claim_protection(&original, review.known), claim_protection(claim, review.known));
    match both {
        (Protection::Unknown, _) | (_, Protection::Unknown) => {}
        (Protection::Plain, Protection::Plain) | (Protection::Kms, Protection::Kms) => {}
        (Protection::Passphrase(one), Protection::Passphrase(other)) => {
            let is_same = is_same_key(&one, &other, review.known);
            if is_same == Some(false) && !has_own_keyslot(review) {
                let message = format!(
                    "{from} is encrypted with the secret {one}, which has another passphrase than the secret \
                     {other} of this claim's class: use a class with {one}"
                );
                review.note(&path, Reason::Invalid, message);
            }
        }
        (one, other) => {
            let message = format!(
                "{from} is {}, and this claim's class makes volumes that are {}: a copy has the bytes of the \
                 original, use a class of the same sort",
                described(&one),
                described(&other)
            );
            review.note(&path, Reason::Invalid, message);
        }
    }
}

fn check_room(review: &mut Review<'_>, claim: &Claim, needed: Option<u64>, from: &str) {
    let Some(needed) = needed.filter(|needed| *needed > claim.size) else { return };
    let path = ["spec", "resources", "requests", "storage"];
    let message =
        format!("volume size should be larger than that of {from}: {needed} bytes are needed");
    review.note(&path, Reason::Invalid, message);
}

fn described(protection: &Protection) -> &'static str {
    match protection {
        Protection::Plain => "not encrypted",
        Protection::Passphrase(_) => "encrypted with a passphrase",
        Protection::Kms => "encrypted with keys that a KMS wraps",
        Protection::Unknown => "of an unknown sort",
    }
}

fn has_own_keyslot(review: &Review<'_>) -> bool {
    review.object.annotation(Claim::OWN_KEYSLOT) == Some("true")
}
