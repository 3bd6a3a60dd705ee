//! What a server does with a document before it keeps it: the defaults that upstream's webhooks fill in,
//! and everything that is refused, with the reason.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

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
