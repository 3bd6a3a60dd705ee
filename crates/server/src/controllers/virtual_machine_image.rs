//! Harvester's images: each is an image of Longhorn's kind, and a class for the volumes that begin with it.
//!
//! The image is `vmi-UID` in `longhorn-system`, where Harvester has it, too, and where whoever resolves the
//! class looks first; the class is `lh-UID`. Both belong to the document, and go with it.

mod class;

use std::collections::BTreeMap;

use serde_json::json;
use strongroom::hexadecimal;
use strongroom_model::dialect::admission::Known;
use strongroom_model::dialect::harvester::{
    CryptoOperation, VirtualMachineImage, VirtualMachineImageOrigin,
};
use strongroom_model::dialect::kubernetes::{SecretReference, StorageClass, TemplateValues};
use strongroom_model::dialect::longhorn::BackingImage;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::osc::Encryption;
use strongroom_model::dialect::resource::Resource;

use super::events::Tone;
use super::moments::{self, Truth};
use super::provision::{self, LONGHORN};
use super::queue::Next;
use super::task::RETRY;
use super::turn::{Obstacle, Trouble, Turn};
use crate::store::Part;

/// Makes or deletes what an image consists of, and shows how it stands.
pub(super) fn reconcile(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if turn.object.is_being_deleted() {
        return delete(turn);
    }
    let done = VirtualMachineImage::try_from(turn.object)
        .map_err(Trouble::from)
        .and_then(|image| make(turn, &image));
    if let Err(Trouble::Waiting(Obstacle { reason, message })) = &done {
        turn.set_status(&mut |object| {
            moments::set_condition(object, INITIALIZED, Truth::False, reason, message);
        })?;
    }
    done
}

fn make(turn: &Turn<'_>, image: &VirtualMachineImage) -> Result<Next, Trouble> {
    turn.hold()?;
    let name = image_name(&image.uid);
    let found = match turn.read(Resource::BackingImage, Some(LONGHORN), &name) {
        Some(found) => found,
        None => {
            let document = backing_image(turn, image, &name)?;
            turn.tell(Tone::Normal, "Initialized", &format!("image {LONGHORN}/{name} is made"));
            turn.context().store.create(document)?
        }
    };
    let class_name = class::name(&image.uid);
    if turn.read(Resource::StorageClass, None, &class_name).is_none() {
        let document = class::document(turn, image, &name, &class_name)?;
        match turn.context().store.create(document) {
            Ok(_) | Err(crate::Error::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    show(turn, image, &found, &class_name)
}

/// Returns the image of Longhorn's kind.
fn backing_image(
    turn: &Turn<'_>,
    image: &VirtualMachineImage,
    name: &str,
) -> Result<Object, Trouble> {
    let mut document = Object::new(Resource::BackingImage, Some(LONGHORN), name);
    let mut parameters = BTreeMap::new();
    let (kind, checksum) = match &image.origin {
        VirtualMachineImageOrigin::Download { url, checksum } => {
            parameters.insert("url", url.clone());
            ("download", checksum.as_ref())
        }
        VirtualMachineImageOrigin::Upload { checksum } => ("upload", checksum.as_ref()),
        VirtualMachineImageOrigin::Claim { namespace, name } => {
            let volume = provision::bound_volume(turn, namespace, name)?;
            parameters.insert("volume-name", volume.to_string());
            parameters.insert("export-type", "raw".to_owned());
            ("export-from-volume", None)
        }
        VirtualMachineImageOrigin::Restore { .. } => {
            let message = "images cannot be restored from backups yet: download it, or upload it";
            return Err(Trouble::waiting("NotSupported", message));
        }
        VirtualMachineImageOrigin::Clone { operation, namespace, name } => {
            let source = source(turn, namespace, name)?;
            let (word, secret) = match operation {
                CryptoOperation::Encrypt => ("encrypt", secret_of_class(turn, image)?),
                CryptoOperation::Decrypt => ("decrypt", secret_of_image(&source)?),
            };
            parameters.insert("encryption", word.to_owned());
            parameters.insert("backing-image", source.name().to_owned());
            parameters.insert("secret", secret.name);
            parameters.insert("secret-namespace", secret.namespace);
            ("clone", None)
        }
    };
    document.set(&["spec", "sourceType"], kind);
    document.set(&["spec", "sourceParameters"], json!(parameters));
    if let Some(checksum) = checksum {
        let digits = hexadecimal(checksum.digest());
        document.set(&["spec", "checksum"], digits);
    }
    document.set(&["spec", "minNumberOfCopies"], 1);
    for (key, value) in [
        (OF_IMAGE, format!("{}/{}", image.namespace, image.name)),
        ("harvesterhci.io/imageDisplayName", image.display_name.clone()),
    ] {
        document.set(&["metadata", "annotations", key], value);
    }
    for key in [BackingImage::FORMAT, "strongroom.io/rate-limit"] {
        if let Some(value) = turn.object.annotation(key) {
            document.set(&["metadata", "annotations", key], value);
        }
    }
    Ok(document)
}

/// Returns the image of Longhorn's kind of another image of Harvester's.
fn source(turn: &Turn<'_>, namespace: &str, name: &str) -> Result<std::sync::Arc<Object>, Trouble> {
    let missing = |problem: &str| {
        let message = format!("source image {namespace}/{name} {problem}");
        Trouble::waiting("SourceNotReady", message)
    };
    let found = turn.read(Resource::VirtualMachineImage, Some(namespace), name);
    let found = found.ok_or_else(|| missing("not found: it goes on once it is there"))?;
    let name = image_name(found.uid());
    let image = turn.read(Resource::BackingImage, Some(LONGHORN), &name);
    let not_ready = || missing("is not ready: it goes on once it is");
    let image = image.ok_or_else(not_ready)?;
    match image.text(&["status", "state"]) {
        Some("ready") => Ok(image),
        Some("failed") => {
            Err(provision::source_failed(&image, &format!("{namespace}/{}", found.name())))
        }
        _ => Err(not_ready()),
    }
}

/// Returns the Secret of the class that an image is encrypted with.
fn secret_of_class(
    turn: &Turn<'_>,
    image: &VirtualMachineImage,
) -> Result<SecretReference, Trouble> {
    let Some(class) = class_of(turn, image)? else {
        let message = format!(
            "storageClassName is required when using security params: annotate the image with {}",
            VirtualMachineImage::STORAGE_CLASS
        );
        return Err(Trouble::waiting("StorageClassMissing", message));
    };
    secret_in(&class, image)?.ok_or_else(|| {
        let message = format!("storage class {} is not for encryption or decryption", class.name);
        Trouble::waiting("StorageClassUnfit", message)
    })
}

/// Returns the Secret that is to open an image of Longhorn's kind which was made for an image here and comes
/// encrypted from elsewhere: that of the class of the image. `None` when it was not, or the class has none.
///
/// # Errors
///
/// [`Trouble::Waiting`] when the class is not there.
pub(super) fn secret_for(
    known: &dyn Known,
    image: &Object,
) -> Result<Option<SecretReference>, Trouble> {
    let of = image.annotation(OF_IMAGE).filter(|_| image.namespace() == Some(LONGHORN));
    let Some((namespace, name)) = of.and_then(|of| of.split_once('/')) else { return Ok(None) };
    let found = known.object(Resource::VirtualMachineImage, Some(namespace), name);
    let Some(found) = found.filter(|found| image_name(found.uid()) == image.name()) else {
        return Ok(None);
    };
    let document = VirtualMachineImage::try_from(&*found)?;
    match class_of(known, &document)? {
        Some(class) if class.volume_parameters()?.encryption == Encryption::Passphrase => {
            secret_in(&class, &document)
        }
        _ => Ok(None),
    }
}

/// Returns the namespace of whoever wants an image: that of the virtual machine image that it was made for, or its
/// own.
pub(super) fn namespace_of(image: &Object) -> &str {
    let of = image.annotation(OF_IMAGE).filter(|_| image.namespace() == Some(LONGHORN));
    let wanted = of.and_then(|of| of.split_once('/')).map(|(namespace, _)| namespace);
    wanted.or(image.namespace()).unwrap_or_default()
}

/// Returns the Secret of a class for an image.
fn secret_in(
    class: &StorageClass,
    image: &VirtualMachineImage,
) -> Result<Option<SecretReference>, Trouble> {
    let annotations = BTreeMap::new();
    let values = TemplateValues {
        claim: &image.name,
        namespace: &image.namespace,
        annotations: &annotations,
        volume: &image.name,
    };
    Ok(class.volume_secret(&values)?)
}

/// Returns the class that an image names.
fn class_of(
    known: &dyn Known,
    image: &VirtualMachineImage,
) -> Result<Option<StorageClass>, Trouble> {
    let Some(name) = &image.storage_class else { return Ok(None) };
    let found = known.object(Resource::StorageClass, None, name).ok_or_else(|| {
        let message = format!("storage class {name} not found: it goes on once it is there");
        Trouble::waiting("StorageClassMissing", message)
    })?;
    Ok(Some(StorageClass::try_from(&*found)?))
}

/// Returns the Secret that an image was encrypted with.
fn secret_of_image(image: &Object) -> Result<SecretReference, Trouble> {
    BackingImage::try_from(image)?.key().cloned().ok_or_else(|| {
        let message =
            format!("can not re-decrypt, {image:?} names no Secret that it is encrypted with");
        Trouble::waiting("NotEncrypted", message)
    })
}

/// Shows how an image stands, and has one that failed made again as often as it says.
fn show(
    turn: &Turn<'_>,
    image: &VirtualMachineImage,
    found: &Object,
    class_name: &str,
) -> Result<Next, Trouble> {
    let text = |field| found.text(&["status", field]).unwrap_or_default();
    let number = |field| found.at(&["status", field]).and_then(serde_json::Value::as_u64);
    let (state, message) = (text("state"), text("message"));
    let failed = turn.object.at(&["status", "failed"]).and_then(serde_json::Value::as_u64);
    let failed = failed.unwrap_or(0);
    let tries_again = failed < u64::from(image.retries);
    // The image says which try its state is of.
    let try_number = if failed == 0 { String::new() } else { failed.to_string() };
    let is_new_failure = state == "failed" && text("try") == try_number;
    turn.set_status(&mut |object| {
        object.set(&["status", "progress"], number("progress").unwrap_or(0));
        for field in ["size", "virtualSize"] {
            if let Some(value) = number(field) {
                object.set(&["status", field], value);
            }
        }
        object.set(&["status", "storageClassName"], class_name);
        object.set(&["status", "backingImageName"], found.name());
        object.set(
            &["status", "encrypted"],
            found.at(&["status", "encrypted"]).cloned().unwrap_or(false.into()),
        );
        moments::set_condition(object, INITIALIZED, Truth::True, "", "");
        let (truth, reason) = match state {
            "ready" => (Truth::True, "Imported"),
            "failed" => (Truth::False, "ImportFailed"),
            _ => (Truth::Unknown, "Importing"),
        };
        moments::set_condition(object, "Imported", truth, reason, message);
        if is_new_failure {
            object.set(&["status", "failed"], failed + 1);
            object.set(&["status", "lastFailedTime"], moments::now());
            let truth = if tries_again { Truth::False } else { Truth::True };
            moments::set_condition(object, "RetryLimitExceeded", truth, "", message);
        }
    })?;
    if is_new_failure && tries_again {
        // Another value of this is another try.
        turn.context().store.edit(
            Resource::BackingImage,
            Some(LONGHORN),
            found.name(),
            Part::Document,
            &mut |object| {
                let tries = (failed + 1).to_string();
                object.set(&["metadata", "annotations", RETRY], tries);
            },
        )?;
    }
    Ok(Next::Settled)
}

fn delete(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if !turn.is_held() {
        return Ok(Next::Settled);
    }
    let store = &turn.context().store;
    let uid = turn.object.uid();
    let name = image_name(uid);
    for (resource, namespace, name) in [
        (Resource::StorageClass, None, class::name(uid)),
        (Resource::BackingImage, Some(LONGHORN), name.clone()),
    ] {
        match store.delete(resource, namespace, &name, None) {
            Ok(_) | Err(crate::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Its end is the next turn of this one.
    if turn.read(Resource::BackingImage, Some(LONGHORN), &name).is_none() {
        turn.release()?;
    }
    Ok(Next::Settled)
}

/// Returns the namespace and the name of the image of Longhorn's kind that belongs to the document with this UID.
pub(crate) fn image_of(uid: &str) -> (&'static str, String) {
    (LONGHORN, image_name(uid))
}

fn image_name(uid: &str) -> String {
    format!("vmi-{uid}")
}

/// The annotation of an image of Longhorn's kind that names the one that it was made for.
const OF_IMAGE: &str = "harvesterhci.io/imageId";

/// The condition that tells whether an image is being made.
const INITIALIZED: &str = "Initialized";
