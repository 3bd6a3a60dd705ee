//! PersistentVolumeClaims.

use super::keys::{
    Likeness, Protection, backing_image_named, claim_protection, class_protection, likeness,
};
use super::review::Review;
use super::storage_class::{Keyslot, Opener, check_image_key};
use super::{Known, Reason};
use crate::FileSystem;
use crate::dialect::fields::shown;
use crate::dialect::kubernetes::{
    Claim, ClaimSource, Expansion, SnapshotSource, StorageClass, VolumeMode, VolumeSnapshot,
    bytes_of_quantity,
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
    let Some(class) = class else { return no_class(review, claim) };
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

/// Warns that nothing makes a volume for a claim yet. What it asks for may still come.
fn no_class(review: &mut Review<'_>, claim: &Claim) {
    let path = ["spec", "storageClassName"];
    match claim.storage_class.as_deref() {
        // It takes a PersistentVolume.
        _ if claim.volume_name.is_some() => {}
        Some("") => {}
        Some(name) if review.known.object(Resource::StorageClass, None, name).is_some() => {}
        Some(name) => {
            let message = format!(
                "storage class {} not found: the claim waits until it is there",
                shown(name)
            );
            review.warn(&path, &message);
        }
        None => {
            let message = "the claim names no storage class, and none is the default one: it waits \
                           until there is one";
            review.warn(&path, message);
        }
    }
}

fn check_image(
    review: &mut Review<'_>,
    claim: &Claim,
    class: &StorageClass,
    encryption: &Encryption,
) {
    let Ok(Some(wanted)) = class.backing_image() else { return };
    let namespace = review.object.namespace();
    let Some(found) = backing_image_named(&wanted.name, namespace, review.known) else { return };
    let virtual_size = found.at(&["status", "virtualSize"]).and_then(serde_json::Value::as_u64);
    check_room(review, claim, virtual_size, &format!("the backing image {}", wanted.name));
    let Ok(image) = BackingImage::try_from(&*found) else { return };
    let secret = match class_protection(class, claim) {
        Protection::Passphrase(secret) => Some(secret),
        _ => None,
    };
    let keyslot = keyslot(review, Some(class));
    let opener = Opener { encryption, secret: secret.as_ref(), keyslot };
    check_image_key(review, &["spec", "storageClassName"], &image, &opener);
}

/// Returns whether the volume of a claim shall have a keyslot of its own: the claim says it, or else its class.
fn keyslot(review: &Review<'_>, class: Option<&StorageClass>) -> Keyslot {
    let said = review.object.annotation(Claim::OWN_KEYSLOT);
    Keyslot::of(said.or_else(|| class?.parameter(Claim::OWN_KEYSLOT)))
}

/// Refuses a volume that has no room for what it begins with, or a copy that would be opened in another way.
fn check_source(review: &mut Review<'_>, claim: &Claim, source: &ClaimSource) {
    let namespace = review.object.namespace().map(str::to_owned);
    let original = original(source, namespace.as_deref(), review.known);
    check_room(review, claim, original.size, &original.label);
    let Some(of) = original.claim else { return };
    let both = (claim_protection(&of, review.known), claim_protection(claim, review.known));
    let (from, path) = (original.label, ["spec", "dataSource"]);
    match both {
        (Protection::Unknown, _)
        | (_, Protection::Unknown)
        | (Protection::Plain, Protection::Plain)
        | (Protection::Kms(_), Protection::Kms(_)) => {}
        (Protection::Passphrase(_), Protection::Passphrase(_))
            if keyslot(review, class_of(claim, review.known).as_ref()) == Keyslot::Own => {}
        (Protection::Passphrase(one), Protection::Passphrase(other)) => {
            let has = match likeness(&one, &other, namespace.as_deref(), review.known) {
                Likeness::Same | Likeness::Missing => return,
                Likeness::Other => "has another passphrase than",
                Likeness::Untold => "is not",
            };
            let message = format!(
                "{from} is encrypted with the secret {one}, which {has} the secret {other} of this claim's \
                 class: use a class with {one}, or annotate the claim with {}: \"true\" to give the volume a \
                 keyslot of its own",
                Claim::OWN_KEYSLOT
            );
            review.note(&path, Reason::Invalid, message);
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

/// What a claim begins with, as far as it is there already.
struct Original {
    label: String,
    size: Option<u64>,
    claim: Option<Claim>,
}

fn original(source: &ClaimSource, namespace: Option<&str>, known: &dyn Known) -> Original {
    let claim = |name: &str| {
        let found = known.object(Resource::PersistentVolumeClaim, namespace, name)?;
        Claim::try_from(&*found).ok()
    };
    match source {
        ClaimSource::Claim(name) => {
            let claim = claim(name);
            let size = claim.as_ref().map(|claim| claim.size);
            Original { label: format!("the claim {name}"), size, claim }
        }
        ClaimSource::Snapshot(name) => {
            let found = known.object(Resource::VolumeSnapshot, namespace, name);
            let size = found.as_ref().and_then(|found| found.text(&["status", "restoreSize"]));
            let size = size.and_then(|size| bytes_of_quantity(size).ok());
            let view = found.as_ref().and_then(|found| VolumeSnapshot::try_from(&**found).ok());
            let claim = match view.map(|view| view.source) {
                Some(SnapshotSource::Claim(of)) => claim(&of),
                _ => None,
            };
            Original { label: format!("the snapshot {name}"), size, claim }
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
        Protection::Kms(_) => "encrypted with keys that a KMS wraps",
        Protection::Unknown => "of an unknown sort",
    }
}
