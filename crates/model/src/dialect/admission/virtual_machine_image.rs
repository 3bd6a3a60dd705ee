//! Harvester's images of virtual machines.

use super::Reason;
use super::backing_image::NO_BACKUPS;
use super::keys::{Unusable, check_secret};
use super::review::Review;
use crate::dialect::fields::shown;
use crate::dialect::harvester::{CryptoOperation, VirtualMachineImage, VirtualMachineImageOrigin};
use crate::dialect::kubernetes::{SecretUse, StorageClass};
use crate::dialect::osc::Encryption;
use crate::dialect::resource::Resource;

pub(super) fn review(review: &mut Review<'_>) {
    review.default(&["spec", "backend"], "backingimage");
    review.default(&["spec", "retry"], 3);
    for field in [
        "backend",
        "sourceType",
        "url",
        "pvcName",
        "pvcNamespace",
        "securityParameters",
        "storageClassParameters",
        "displayName",
        "targetStorageClassName",
    ] {
        review.fixed(&["spec", field], &format!("{field} cannot be modified"));
    }
    let annotation = ["metadata", "annotations", VirtualMachineImage::STORAGE_CLASS];
    review.fixed(&annotation, "the storage class of an image cannot be modified");
    let Some(image) = review.view::<VirtualMachineImage>() else { return };
    if review.old.is_some() || !review.is_good() {
        return;
    }
    check_display_name(review, &image);
    check_class_secrets(review, &image);
    match &image.origin {
        VirtualMachineImageOrigin::Clone { operation, namespace, name } => {
            check_source(review, *operation, namespace, name);
            match operation {
                CryptoOperation::Encrypt => check_class_to_encrypt(review, &image),
                CryptoOperation::Decrypt => check_class_to_decrypt(review, &image),
            }
        }
        VirtualMachineImageOrigin::Claim { namespace, name } => {
            let claim = review.known.object(Resource::PersistentVolumeClaim, Some(namespace), name);
            if claim.is_none() {
                let message = format!("claim {namespace}/{name} not found");
                review.note(&["spec", "pvcName"], Reason::NotFound, message);
            }
        }
        VirtualMachineImageOrigin::Restore { .. } => {
            review.note(&["spec", "sourceType"], Reason::NotSupported, NO_BACKUPS);
        }
        VirtualMachineImageOrigin::Download { .. } | VirtualMachineImageOrigin::Upload { .. } => {}
    }
}

/// Refuses a class that would open Secrets of other namespaces: who makes an image need not be who makes classes.
fn check_class_secrets(review: &mut Review<'_>, image: &VirtualMachineImage) {
    for [_, key] in SecretUse::ALL.map(SecretUse::parameters) {
        let Some(namespace) = image.class_parameters.get(&key) else { continue };
        // Each claim's own is nobody else's either.
        if *namespace != image.namespace && namespace != "${pvc.namespace}" {
            let message = format!(
                "an image names Secrets of its own namespace alone: use {}, or let a StorageClass name it",
                shown(&image.namespace)
            );
            review.note(&["spec", "storageClassParameters", &key], Reason::Invalid, message);
        }
    }
}

fn check_display_name(review: &mut Review<'_>, image: &VirtualMachineImage) {
    let path = ["spec", "displayName"];
    let name = &image.display_name;
    if !is_label_value(name) {
        let message = format!(
            "invalid display name {}: use at most 63 letters, digits, '-', '_' and '.', and begin and end \
             with a letter or digit",
            shown(name)
        );
        review.note(&path, Reason::Invalid, message);
    }
    let others = review.known.objects(Resource::VirtualMachineImage, review.object.namespace());
    let is_other = |other: &&std::sync::Arc<crate::dialect::object::Object>| {
        other.name() != image.name && other.text(&path) == Some(name.as_str())
    };
    if let Some(other) = others.iter().find(is_other) {
        let message = format!("A resource with the same name exists: image {}", other.name());
        review.note(&path, Reason::Invalid, message);
    }
}

fn check_source(review: &mut Review<'_>, operation: CryptoOperation, namespace: &str, name: &str) {
    let path = ["spec", "securityParameters", "sourceImageName"];
    let found = review.known.object(Resource::VirtualMachineImage, Some(namespace), name);
    let Some(found) = found else {
        let message = format!(
            "source image {namespace}/{name} not found: use the name in its metadata, not its display name"
        );
        return review.note(&path, Reason::NotFound, message);
    };
    let Ok(source) = VirtualMachineImage::try_from(&*found) else { return };
    let path = ["spec", "securityParameters", "cryptoOperation"];
    let display = &source.display_name;
    match (operation, source.is_encrypted()) {
        (CryptoOperation::Encrypt, true) => {
            let message = format!(
                "can not re-encrypt, source image {namespace}/{name} ({display}) is already encrypted"
            );
            review.note(&path, Reason::Invalid, message);
        }
        (CryptoOperation::Decrypt, false) => {
            let message = format!(
                "can not re-decrypt, source image {namespace}/{name} ({display}) is not encrypted"
            );
            review.note(&path, Reason::Invalid, message);
        }
        _ => {}
    }
}

/// Refuses a class that names no Secret to encrypt with.
fn check_class_to_encrypt(review: &mut Review<'_>, image: &VirtualMachineImage) {
    let path = ["metadata", "annotations", VirtualMachineImage::STORAGE_CLASS];
    let Some(name) = &image.storage_class else {
        let message =
            "storageClassName is required when using security params: name an encrypted class";
        return review.note(&path, Reason::Required, message);
    };
    let found = review.known.object(Resource::StorageClass, None, name);
    let Some(class) = found.and_then(|class| StorageClass::try_from(&*class).ok()) else {
        let message = format!("storage class {name} not found");
        return review.note(&path, Reason::NotFound, message);
    };
    let encryption = class.volume_parameters().map(|parameters| parameters.encryption);
    if encryption != Ok(Encryption::Passphrase) {
        let message = format!(
            "storage class {name} is not for encryption or decryption: name one with encrypted: \"true\""
        );
        return review.note(&path, Reason::Invalid, message);
    }
    if class.parameter("backingImage").is_some() {
        let message = format!(
            "storage class {name} is tied to a specific backing image and cannot be used as target for \
             clone/encrypt"
        );
        return review.note(&path, Reason::Invalid, message);
    }
    let secrets = class.fixed_secrets();
    let Some(secret) = secrets.first() else {
        let message = format!(
            "storage class {name} names a Secret for each claim: an image needs a class whose Secret has no \
             ${{…}} in its name"
        );
        return review.note(&path, Reason::Invalid, message);
    };
    match check_secret(secret, review.known) {
        Ok(()) => {}
        Err(Unusable::Missing) => {
            let message =
                format!("secret {secret} of storage class {name} not found: make it first");
            review.note(&path, Reason::NotFound, message);
        }
        Err(Unusable::Invalid(problem)) => review.note(&path, Reason::Invalid, problem),
    }
}

/// Refuses a class that would make encrypted volumes of the decrypted image, which Harvester lets through.
fn check_class_to_decrypt(review: &mut Review<'_>, image: &VirtualMachineImage) {
    let Some(name) = &image.storage_class else { return };
    let path = ["metadata", "annotations", VirtualMachineImage::STORAGE_CLASS];
    let found = review.known.object(Resource::StorageClass, None, name);
    let Some(class) = found.and_then(|class| StorageClass::try_from(&*class).ok()) else {
        let message = format!("storage class {name} not found");
        return review.note(&path, Reason::NotFound, message);
    };
    let encryption = class.volume_parameters().map(|parameters| parameters.encryption);
    if encryption.is_ok_and(|encryption| encryption != Encryption::None) {
        let message = format!(
            "storage class {name} is an encrypted one, and the image will not be encrypted any more: name one \
             that is not"
        );
        review.note(&path, Reason::Invalid, message);
    }
}

/// Returns whether a label can have it as its value.
fn is_label_value(text: &str) -> bool {
    let ends = |byte: u8| byte.is_ascii_alphanumeric();
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| ends(byte) || matches!(byte, b'-' | b'_' | b'.'))
        && text.bytes().next().is_some_and(ends)
        && text.bytes().next_back().is_some_and(ends)
}
