//! StorageClasses.

use super::Reason;
use super::annotations::check_flag;
use super::keys::{Likeness, Unusable, backing_image_named, check_secret, likeness};
use super::review::Review;
use crate::dialect::fields::shown;
use crate::dialect::kubernetes::{
    BackingImageUse, Claim, SecretReference, SecretUse, StorageClass,
};
use crate::dialect::longhorn::BackingImage;
use crate::dialect::object::Object;
use crate::dialect::osc::Encryption;
use crate::dialect::resource::Resource;

pub(super) fn review(review: &mut Review<'_>) {
    review.default(&["reclaimPolicy"], "Delete");
    review.default(&["volumeBindingMode"], "Immediate");
    for field in ["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"] {
        let message =
            format!("updates to {field} are forbidden: delete the class and make it anew");
        review.fixed(&[field], &message);
    }
    let Some(class) = review.view::<StorageClass>() else { return };
    if let Err(refused) = class.check_secrets() {
        review.add(refused);
    }
    let image = class.backing_image().unwrap_or_else(|refused| {
        review.add(refused);
        None
    });
    if let Some(Err(problem)) = class.parameter(Claim::OWN_KEYSLOT).map(check_flag)
        && review.old.is_none()
    {
        review.note(&["parameters", Claim::OWN_KEYSLOT], Reason::Invalid, problem);
    }
    let encryption = match class.volume_parameters() {
        Ok(parameters) => parameters.encryption,
        Err(refused) => return review.add(refused),
    };
    if !review.is_good() || !review.is_changed() {
        return;
    }
    if encryption == Encryption::Passphrase {
        check_secret_names(review, &class);
    }
    if let Some(image) = image {
        check_image(review, &class, &image, &encryption);
    }
    if !class.is_default {
        return;
    }
    let is_other =
        |other: &Object| other.name() != class.name && StorageClass::is_marked_default(other);
    let classes = review.known.objects(Resource::StorageClass, None);
    if let Some(other) = classes.iter().find(|other| is_other(other)) {
        let message = format!("{} is the default class too", other.name());
        review.warn(&["metadata", "annotations"], &message);
    }
}

/// Refuses a class whose volumes nobody could open, or with two Secrets where there can only be one.
fn check_secret_names(review: &mut Review<'_>, class: &StorageClass) {
    let pair = |of: SecretUse| {
        let [name, namespace] = of.parameters();
        Some((class.parameter(&name)?, class.parameter(&namespace)?))
    };
    let given: Vec<_> = SecretUse::ALL.into_iter().filter(|of| pair(*of).is_some()).collect();
    if ![SecretUse::NodeStage, SecretUse::NodePublish, SecretUse::Provisioner]
        .iter()
        .any(|of| given.contains(of))
    {
        let [name, namespace] = SecretUse::NodeStage.parameters();
        let message = format!(
            "storage class must contain {name}, {namespace}, and the same for node-publish: an encrypted \
             volume needs a Secret that opens it"
        );
        review.note(&["parameters", &name], Reason::Required, message);
    }
    if let Some(of) = given.iter().find(|of| pair(**of) != given.first().and_then(|of| pair(*of))) {
        let [name, _] = of.parameters();
        let message = "secret names and namespaces in the parameters are different from others: a \
                       volume is opened by one Secret, name the same everywhere";
        review.note(&["parameters", &name], Reason::Invalid, message);
        return;
    }
    for secret in class.fixed_secrets() {
        match check_secret(&secret, review.known) {
            Ok(()) => {}
            Err(Unusable::Missing) => {
                let message = format!("secret {secret} not found: claims wait until it is there");
                review.warn(&["parameters"], &message);
            }
            Err(Unusable::Invalid(problem)) => {
                review.note(&["parameters"], Reason::Invalid, problem);
            }
        }
    }
}

/// Refuses an image that is not the one that the class says, or that its volumes cannot begin with.
fn check_image(
    review: &mut Review<'_>,
    class: &StorageClass,
    image: &BackingImageUse,
    encryption: &Encryption,
) {
    let path = ["parameters", "backingImage"];
    let found = backing_image_named(&image.name, None, review.known);
    let Some(found) = found else {
        let message = match image.source_type.as_deref() {
            Some("download" | "export-from-volume") => return,
            _ => format!("there is no backing image {} yet: claims wait for it", image.name),
        };
        return review.warn(&path, &message);
    };
    let source_type = found.text(&["spec", "sourceType"]).unwrap_or_default();
    if image.source_type.as_deref().is_some_and(|wanted| wanted != source_type) {
        let message = format!(
            "existing backing image {} data source is different from the parameters: it is of the \
             source type {}",
            image.name,
            shown(source_type)
        );
        review.note(&["parameters", "backingImageDataSourceType"], Reason::Invalid, message);
    }
    let Ok(found) = BackingImage::try_from(&*found) else { return };
    if image.checksum.is_some() && found.checksum.is_some() && image.checksum != found.checksum {
        let message = format!("existing backing image {} has another checksum", image.name);
        review.note(&["parameters", "backingImageChecksum"], Reason::Invalid, message);
    }
    // A claim of the class may still ask for a keyslot of its own.
    let keyslot = Keyslot::Unsaid;
    let secret = class.fixed_secrets().pop();
    let opener = Opener { encryption, secret: secret.as_ref(), keyslot };
    check_image_key(review, &path, &found, &opener);
}

/// What shall open a volume that begins with an image.
pub(super) struct Opener<'a> {
    pub(super) encryption: &'a Encryption,
    /// With which Secret, if that is known.
    pub(super) secret: Option<&'a SecretReference>,
    pub(super) keyslot: Keyslot,
}

/// Whether a volume shall have a keyslot that its image has not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyslot {
    /// It shall.
    Own,
    /// It shall not.
    OfImage,
    /// Each claim says it for itself.
    Unsaid,
}

impl Keyslot {
    /// Returns what the annotation or the parameter says.
    pub(super) fn of(said: Option<&str>) -> Self {
        match said {
            Some("true") => Self::Own,
            _ => Self::OfImage,
        }
    }
}

/// Refuses to make a volume of an encrypted image that nobody could open then.
pub(super) fn check_image_key(
    review: &mut Review<'_>,
    path: &[&str],
    image: &BackingImage,
    opener: &Opener<'_>,
) {
    let Some(key) = image.key() else { return };
    let name = &image.name;
    let alike = match (opener.encryption, opener.secret) {
        (Encryption::None, _) => {
            let message = format!(
                "backing image {name} is encrypted with the secret {key}, and a volume that is not encrypted \
                 cannot begin with it: say encrypted, and name that secret, or decrypt the image into another \
                 one"
            );
            return review.note(path, Reason::Invalid, message);
        }
        (Encryption::Kms(_), _) => Likeness::Other,
        (Encryption::Passphrase, None) => return,
        (Encryption::Passphrase, Some(secret)) => {
            likeness(key, secret, review.object.namespace(), review.known)
        }
    };
    let other = match opener.secret {
        Some(secret) if *opener.encryption == Encryption::Passphrase => {
            format!("the secret {secret}")
        }
        _ => "the key that a KMS wraps".to_owned(),
    };
    match (alike, opener.keyslot) {
        (Likeness::Same, _) | (_, Keyslot::Own) => {}
        (Likeness::Missing, _) => {
            let message = format!(
                "backing image {name} is encrypted with the secret {key}: {other} must have the same \
                 passphrase"
            );
            review.warn(path, &message);
        }
        (Likeness::Other | Likeness::Untold, keyslot) => {
            let own = Claim::OWN_KEYSLOT;
            let than = match alike {
                Likeness::Untold => "which may be another key than",
                _ => "which is another key than",
            };
            let message = format!(
                "backing image {name} is encrypted with the secret {key}, {than} {other}: \
                 name {key}, or annotate the claim with {own}: \"true\" to give the volume a keyslot of its own"
            );
            match keyslot {
                Keyslot::Unsaid => review.warn(path, &message),
                _ => review.note(path, Reason::Invalid, message),
            }
        }
    }
}
