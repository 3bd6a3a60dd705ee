//! Longhorn's images.

use super::Reason;
use super::keys::{Likeness, Protection, Unusable, check_secret, claim_protection, likeness};
use super::review::Review;
use crate::dialect::kubernetes::{Claim, PersistentVolume, SecretReference};
use crate::dialect::longhorn::{
    BackingImage, CloneEncryption, ImageOrigin, LonghornVolume, VolumeEncryption,
};
use crate::dialect::object::Object;
use crate::dialect::resource::Resource;

pub(super) fn review(review: &mut Review<'_>) {
    fill_in(review);
    let name = review.object.name().to_owned();
    let fixed = |what: &str| format!("changing {what} for BackingImage {name} is not supported");
    // One that came from elsewhere and has failed may have done so for its Secret; nobody uses it.
    let may_be_another = |old: &Object| {
        let kind = old.text(&["spec", "sourceType"]);
        let comes = kind.is_none_or(|kind| matches!(kind, "" | "download" | "upload"));
        comes && old.text(&["status", "state"]) == Some("failed")
    };
    if !review.old.is_some_and(may_be_another) {
        review.fixed_once_set(&["spec", "secret"], &fixed("secret"));
        review.fixed_once_set(&["spec", "secretNamespace"], &fixed("secret namespace"));
    }
    review.fixed(&["spec", "dataEngine"], &fixed("data engine"));
    review.fixed(&["spec", "sourceType"], &fixed("the source type"));
    review.fixed(&["spec", "sourceParameters"], &fixed("the source"));
    review.fixed_once_set(&["spec", "checksum"], &fixed("the checksum"));
    let Some(image) = review.view::<BackingImage>() else { return };
    if image.copies < 1 {
        let message = "the number of copies must be larger than 0";
        review.note(&["spec", "minNumberOfCopies"], Reason::Invalid, message);
    }
    if !review.is_changed() {
        return;
    }
    if review.old.is_none() {
        match &image.origin {
            ImageOrigin::Clone { source, encryption } => clone(review, &image, source, encryption),
            ImageOrigin::Volume { name, encryption, .. } => export(review, name, encryption),
            ImageOrigin::Restore { .. } => {
                review.note(&["spec", "sourceType"], Reason::NotSupported, NO_BACKUPS);
            }
            ImageOrigin::Download { .. } | ImageOrigin::Upload => comes_as_it_is(review),
        }
    }
    if let (Some(secret), None) = (&image.secret, review.old) {
        secret_exists(review, &["spec", "secret"], secret, &image.name);
    }
}

/// Refuses what asks for encryption on the way in, which would be passed over.
fn comes_as_it_is(review: &mut Review<'_>) {
    for key in ["encryption", "secret", "secret-namespace"] {
        let path = ["spec", "sourceParameters", key];
        let value = review.object.text(&path).unwrap_or_default();
        if !value.is_empty() && value != "ignore" {
            let message = "an image is kept as it comes: what opens one that is encrypted already belongs into \
                           spec.secret and spec.secretNamespace, and one that is not is encrypted by a second \
                           image of sourceType clone";
            review.note(&path, Reason::NotSupported, message);
        }
    }
}

/// Fills in what Longhorn's webhook fills in.
fn fill_in(review: &mut Review<'_>) {
    review.default(&["spec", "dataEngine"], "v1");
    if review.old.is_some() {
        // As upstream: what an old manifest leaves out meant this once.
        review.keep(&["spec", "sourceType"]);
        review.keep(&["spec", "minNumberOfCopies"]);
    }
    if review.object.at(&["spec", "minNumberOfCopies"]).is_none_or(|copies| *copies == 0) {
        review.object.set(&["spec", "minNumberOfCopies"], DEFAULT_COPIES);
    }
    if let Some(checksum) = review.object.text(&["spec", "checksum"]).map(str::trim) {
        let checksum = checksum.to_owned();
        review.object.set(&["spec", "checksum"], checksum);
    }
    let parameters = review.object.at(&["spec", "sourceParameters"]).cloned();
    for (key, value) in parameters.as_ref().and_then(|map| map.as_object()).into_iter().flatten() {
        if let Some(text) = value.as_str().filter(|text| text.trim() != *text) {
            review.object.set(&["spec", "sourceParameters", key], text.trim());
        }
    }
    let source_type = review.object.text(&["spec", "sourceType"]);
    if source_type == Some("clone") {
        let path = ["spec", "sourceParameters", "encryption"];
        if review.object.text(&path).is_none_or(str::is_empty)
            && review.object.at(&path[..2]).is_some()
        {
            review.object.set(&path, "ignore");
        }
    }
}

fn clone(review: &mut Review<'_>, image: &BackingImage, source: &str, how: &CloneEncryption) {
    let path = ["spec", "sourceParameters", "backing-image"];
    let namespace = review.object.namespace().map(str::to_owned);
    let found = review.known.object(Resource::BackingImage, namespace.as_deref(), source);
    let Some(found) = found else {
        let message = format!(
            "invalid parameter for source type clone: there is no backing image {source} in the namespace {}",
            namespace.unwrap_or_default()
        );
        return review.note(&path, Reason::NotFound, message);
    };
    let key = BackingImage::try_from(&*found).ok().and_then(|source| source.key().cloned());
    let encryption = ["spec", "sourceParameters", "encryption"];
    match (how, key) {
        (CloneEncryption::Ignore, key) => {
            ignore(review, image, found.text(&["status", "checksum"]), key);
        }
        (CloneEncryption::Encrypt { .. }, Some(_)) => {
            let message =
                format!("cannot re-encrypt the backing image, {source} is already encrypted");
            review.note(&encryption, Reason::Invalid, message);
        }
        (CloneEncryption::Encrypt { .. }, None) if is_encrypted(&found) => {
            let message = format!(
                "cannot re-encrypt the backing image, {source} is already encrypted, though it names no Secret"
            );
            review.note(&encryption, Reason::Invalid, message);
        }
        (CloneEncryption::Decrypt { .. }, None) if is_encrypted(&found) => {
            let message = format!(
                "{source} is encrypted, and does not name the Secret that opens it: set its spec.secret and \
                 spec.secretNamespace first"
            );
            review.note(&path, Reason::Invalid, message);
        }
        (CloneEncryption::Decrypt { .. }, None) => {
            let message = format!(
                "cannot re-decrypt the backing image, {source} is already decrypted, or never was encrypted"
            );
            review.note(&encryption, Reason::Invalid, message);
        }
        (CloneEncryption::Encrypt { secret }, None) => encrypt(review, image, secret),
        (CloneEncryption::Decrypt { secret }, Some(key)) => decrypt(review, source, secret, &key),
    }
}

/// Tells whether what is stored of an image is encrypted, whatever its author said.
fn is_encrypted(image: &Object) -> bool {
    image.at(&["status", "encrypted"]) == Some(&serde_json::Value::Bool(true))
}

/// A clone with the same bytes is opened by the same Secret, and has the same checksum.
fn ignore(
    review: &mut Review<'_>,
    image: &BackingImage,
    checksum: Option<&str>,
    key: Option<SecretReference>,
) {
    match (key, &image.secret) {
        (Some(key), None) => {
            review.object.set(&["spec", "secret"], key.name);
            review.object.set(&["spec", "secretNamespace"], key.namespace);
        }
        (Some(key), Some(secret)) if alike(review, &key, secret) != Likeness::Same => {
            let message = format!(
                "the source is encrypted with the secret {key}, and a clone that ignores encryption stays so: \
                 leave spec.secret out, rather than naming {secret}"
            );
            review.note(&["spec", "secret"], Reason::Invalid, message);
        }
        (None, Some(secret)) => {
            let message = format!(
                "the source is not encrypted, and a clone that ignores encryption stays so: leave the secret \
                 {secret} out, or use encryption: encrypt"
            );
            review.note(&["spec", "secret"], Reason::Invalid, message);
        }
        _ => {}
    }
    let Some(checksum) = checksum.filter(|checksum| !checksum.is_empty()) else { return };
    if review
        .object
        .text(&["spec", "checksum"])
        .is_some_and(|own| !own.is_empty() && own != checksum)
    {
        review.warn(&["spec", "checksum"], "the checksum of the source is taken instead");
    }
    review.object.set(&["spec", "checksum"], checksum);
}

fn encrypt(review: &mut Review<'_>, image: &BackingImage, secret: &SecretReference) {
    no_checksum(review);
    secret_exists(review, &["spec", "sourceParameters", "secret"], secret, &image.name);
    match &image.secret {
        Some(own) if own != secret => {
            let message = format!(
                "the clone is encrypted with the secret {secret} of spec.sourceParameters, and cannot be opened \
                 with {own}: leave spec.secret out"
            );
            review.note(&["spec", "secret"], Reason::Invalid, message);
        }
        // Whoever uses the image from now on sees that it will be encrypted.
        _ => {
            review.object.set(&["spec", "secret"], secret.name.as_str());
            review.object.set(&["spec", "secretNamespace"], secret.namespace.as_str());
        }
    }
}

fn decrypt(review: &mut Review<'_>, source: &str, secret: &SecretReference, key: &SecretReference) {
    no_checksum(review);
    let path = ["spec", "sourceParameters", "secret"];
    if review.object.text(&["spec", "secret"]).is_some_and(|own| !own.is_empty()) {
        let message = "the clone will not be encrypted: leave the secret out here, it belongs into \
                       spec.sourceParameters";
        review.note(&["spec", "secret"], Reason::Invalid, message);
    }
    if review.known.secret(&secret.namespace, &secret.name).is_none() {
        return missing(review, &path, secret);
    }
    match alike(review, key, secret) {
        Likeness::Same => {}
        // The one that encrypted it is gone: whether this one opens it is seen when it is tried.
        Likeness::Missing => {
            let message = format!(
                "{source} was encrypted with the secret {key}, which is not there any more"
            );
            review.warn(&path, &message);
        }
        Likeness::Other => {
            let message = format!(
                "the backing image {source} was encrypted with the secret {key}, which has another passphrase \
                 than the secret {secret}: name {key}"
            );
            review.note(&path, Reason::Invalid, message);
        }
        Likeness::Untold => {
            let message = format!(
                "the backing image {source} was encrypted with the secret {key}: use the same Secret; another \
                 one, {secret}, is taken only if both are in the image's namespace and have the same passphrase"
            );
            review.note(&path, Reason::Invalid, message);
        }
    }
}

/// Compares two Secrets for the author of an image.
fn alike(review: &Review<'_>, one: &SecretReference, other: &SecretReference) -> Likeness {
    likeness(one, other, review.object.namespace(), review.known)
}

/// Takes out a checksum that cannot be known: a header has random bytes in it.
fn no_checksum(review: &mut Review<'_>) {
    if review.object.take(&["spec", "checksum"]).is_some_and(|checksum| checksum != "") {
        let message = "the checksum of an image that is encrypted or decrypted on the way is not known \
                       before: it is left out";
        review.warn(&["spec", "checksum"], message);
    }
}

/// An export of an encrypted volume is opened by what opens the volume.
fn export(review: &mut Review<'_>, volume: &str, how: &CloneEncryption) {
    let path = ["spec", "sourceParameters", "encryption"];
    if matches!(how, CloneEncryption::Encrypt { .. }) {
        let message = "a volume is exported as it is, or decrypted: encrypt a clone of the image";
        return review.note(&path, Reason::NotSupported, message);
    }
    let key = match volume_protection(review, volume) {
        None => {
            let message = format!("there is no volume {volume}");
            let path = ["spec", "sourceParameters", "volume-name"];
            return review.note(&path, Reason::NotFound, message);
        }
        Some(Protection::Kms(credentials)) => {
            return export_from_kms(review, volume, how, credentials.as_ref());
        }
        Some(Protection::Passphrase(secret)) => Some(secret),
        Some(Protection::Plain | Protection::Unknown) => None,
    };
    match (how, key) {
        (CloneEncryption::Ignore, Some(key)) => {
            review.default(&["spec", "secret"], key.name);
            review.default(&["spec", "secretNamespace"], key.namespace);
        }
        (CloneEncryption::Decrypt { .. }, None) => {
            let message = format!("the volume {volume} is not encrypted: leave encryption out");
            review.note(&path, Reason::Invalid, message);
        }
        (CloneEncryption::Decrypt { secret }, Some(key)) => decrypt(review, volume, secret, &key),
        _ => {}
    }
}

/// Refuses an image of a volume whose key a KMS wraps, but for a decrypted one by whoever names the credentials
/// that the volume is opened with.
fn export_from_kms(
    review: &mut Review<'_>,
    volume: &str,
    how: &CloneEncryption,
    credentials: Option<&SecretReference>,
) {
    let wrapped = format!("the key of the volume {volume} is wrapped by a KMS");
    match (how, credentials) {
        (CloneEncryption::Decrypt { secret }, Some(credentials)) if secret == credentials => {
            decrypt(review, volume, secret, credentials);
        }
        (CloneEncryption::Decrypt { secret }, Some(credentials)) => {
            let message =
                format!("{wrapped}, whose credentials are in {credentials}, not in {secret}");
            review.note(&["spec", "sourceParameters", "secret"], Reason::Invalid, message);
        }
        (_, credentials) => {
            let way_out = credentials.map_or_else(
                || "clone the claim instead".to_owned(),
                |secret| {
                    format!("decrypt it, with the secret {secret}, or clone the claim instead")
                },
            );
            let message = format!("{wrapped}, and an image has no place for it: {way_out}");
            let path = ["spec", "sourceParameters", "volume-name"];
            review.note(&path, Reason::NotSupported, message);
        }
    }
}

/// Returns how a volume is protected, `None` when there is none of that name: it has a PersistentVolume, or it is
/// one of Longhorn's.
fn volume_protection(review: &Review<'_>, name: &str) -> Option<Protection> {
    if let Some(volume) = review.known.object(Resource::PersistentVolume, None, name) {
        let volume = PersistentVolume::try_from(&*volume).ok()?;
        return Some(persistent_protection(&volume, review));
    }
    let all = review.known.objects(Resource::LonghornVolume, None);
    let volume = all.iter().find(|volume| volume.name() == name)?;
    Some(match LonghornVolume::try_from(&**volume).ok()?.encryption {
        VolumeEncryption::Encrypted { secret } => Protection::Passphrase(secret),
        VolumeEncryption::Plain => Protection::Plain,
    })
}

fn persistent_protection(volume: &PersistentVolume, review: &Review<'_>) -> Protection {
    let flag = |key: &str| volume.attributes.get(key).is_some_and(|flag| flag == "true");
    match volume.secrets.first() {
        secret if flag("encryptionEnabled") => return Protection::Kms(secret.cloned()),
        Some(secret) if flag("encrypted") => return Protection::Passphrase(secret.clone()),
        _ => {}
    }
    let claim = volume.claim.as_ref().and_then(|(namespace, name)| {
        review.known.object(Resource::PersistentVolumeClaim, Some(namespace), name)
    });
    let claim = claim.and_then(|claim| Claim::try_from(&*claim).ok());
    claim.map_or(Protection::Plain, |claim| claim_protection(&claim, review.known))
}

fn secret_exists(review: &mut Review<'_>, path: &[&str], secret: &SecretReference, image: &str) {
    match check_secret(secret, review.known) {
        Ok(()) => {}
        Err(Unusable::Invalid(problem)) => review.note(path, Reason::Invalid, problem),
        Err(Unusable::Missing) if path == ["spec", "secret"] => {
            let message = format!(
                "failed to get secret {} in namespace {} for the backing image {image}: make it first",
                secret.name, secret.namespace
            );
            review.note(path, Reason::NotFound, message);
        }
        Err(Unusable::Missing) => missing(review, path, secret),
    }
}

fn missing(review: &mut Review<'_>, path: &[&str], secret: &SecretReference) {
    let message = format!(
        "failed to get the secret {} in the namespace {}: make it first",
        secret.name, secret.namespace
    );
    review.note(path, Reason::NotFound, message);
}

/// Why nothing is made of a backup, rather than something that stays empty for ever.
pub(super) const NO_BACKUPS: &str =
    "nothing is restored from backups here: download what is in the backup, or upload it";

/// Longhorn's setting for images that do not say how many copies there shall be.
const DEFAULT_COPIES: u64 = 3;
