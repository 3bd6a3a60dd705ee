//! What a server does with a document before it keeps it: the defaults that upstream's webhooks fill in,
//! and everything that is refused, with the reason.

mod annotations;
mod backing_image;
mod claim;
mod encryption_settings;
mod keys;
mod review;
mod secret;
mod snapshot;
mod storage_class;
mod unknown_fields;
mod users;
mod virtual_machine_image;
mod volume;

pub use keys::{Protection, backing_image_named, claim_protection};
pub use unknown_fields::{known_fields, unknown_fields};
pub use users::{refuse_deletion, users};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use self::review::Review;
use super::kubevirt::VirtualMachine;
use super::object::Object;
use super::resource::Resource;

/// The values of a Secret, decoded.
pub type SecretValues = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// What else there is.
pub trait Known {
    /// Returns a document.
    fn object(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Arc<Object>>;

    /// Returns all documents of a kind, of one namespace or of all.
    fn objects(&self, resource: Resource, namespace: Option<&str>) -> Vec<Arc<Object>>;

    /// Returns the values of a Secret, `None` when there is no such Secret. A document of the kind
    /// [`Resource::Secret`] has its keys, and no values.
    fn secret(&self, namespace: &str, name: &str) -> Option<SecretValues>;
}

/// What somebody wants to do with a document.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Put it in.
    Create,
    /// Put it in the place of this one.
    Update(&'a Object),
}

/// A document that may be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// The document, with its defaults.
    pub object: Object,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// A document that may not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why, the most important reason first; there is at least one.
    pub causes: Vec<Cause>,
}

/// One reason for a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Where: `spec.sourceParameters.url`. Empty when it is about the document as a whole.
    pub field: String,
    /// What is wrong and what to do, without a full stop. No value of a Secret is in it.
    pub message: String,
    /// Of which sort it is.
    pub reason: Reason,
}

/// Of which sort a reason is, as Kubernetes tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The value is not what the field takes.
    Invalid,
    /// It is missing.
    Required,
    /// What it names is not there.
    NotFound,
    /// It cannot be changed.
    Immutable,
    /// Somebody uses it.
    InUse,
    /// Nothing here does that.
    NotSupported,
}

/// Looks at a document before it is kept: fills in what upstream's webhooks fill in, and refuses what they
/// refuse, and what they let through and that breaks later. Fields that nobody knows are not looked at:
/// [`unknown_fields`] tells them.
///
/// # Guarantees
///
/// - No input panics, and no message holds a value of a Secret.
/// - A change that leaves everything but `metadata` and `status` as it is is not refused because of something
///   that has happened to other documents in the meantime.
/// - The order in which documents come does not matter where they only name each other and nothing is begun yet:
///   a class may come before its Secret.
///
/// # Errors
///
/// Every reason that there is.
pub fn admit(object: Object, change: Change<'_>, known: &dyn Known) -> Result<Admitted, Refused> {
    let Some(resource) = object.resource() else {
        let message = "no such kind of document is kept here: see apiVersion and kind";
        return Err(Refused::one(&["kind"], Reason::NotSupported, message));
    };
    let mut review = Review::new(object, change, known);
    review.check_metadata(resource);
    annotations::review(&mut review);
    match resource {
        Resource::Secret => secret::review(&mut review),
        Resource::PersistentVolumeClaim => claim::review(&mut review),
        Resource::PersistentVolume => volume::review_persistent(&mut review),
        Resource::StorageClass => storage_class::review(&mut review),
        Resource::VolumeSnapshot => snapshot::review(&mut review),
        Resource::VolumeSnapshotClass => snapshot::review_class(&mut review),
        Resource::BackingImage => backing_image::review(&mut review),
        Resource::LonghornVolume => volume::review(&mut review),
        Resource::VirtualMachineImage => virtual_machine_image::review(&mut review),
        Resource::VirtualMachine => _ = review.view::<VirtualMachine>(),
        Resource::Event | Resource::Namespace => {}
    }
    review.finish()
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, cause) in self.causes.iter().enumerate() {
            let between = if number == 0 { "" } else { "; " };
            let colon = if cause.field.is_empty() { "" } else { ": " };
            write!(f, "{between}{}{colon}{}", cause.field, cause.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests;
