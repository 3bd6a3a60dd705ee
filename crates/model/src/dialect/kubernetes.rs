//! Kubernetes' own documents, and the rules that all of its documents obey.

mod claim;
mod persistent_volume;
mod quantity;
mod secret;
mod snapshot;
mod storage_class;
mod template;

pub use claim::{Claim, ClaimSource, VolumeMode};
pub use persistent_volume::PersistentVolume;
pub use quantity::bytes_of_quantity;
pub use secret::secret_values;
pub use snapshot::{SnapshotKind, SnapshotSource, VolumeSnapshot, VolumeSnapshotClass};
pub(super) use storage_class::sha512;
pub use storage_class::{
    BackingImageUse, BindingMode, Expansion, ReclaimPolicy, SecretUse, StorageClass,
};
pub use template::TemplateValues;

use std::fmt;

/// The name of a Secret, and its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretReference {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Returns whether a text is a DNS subdomain (RFC 1123), which names most objects.
pub fn is_subdomain(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| !label.is_empty() && is_label_of(label, usize::MAX))
}

/// Returns whether a text is a DNS label (RFC 1123), which names namespaces.
pub fn is_label(name: &str) -> bool {
    is_label_of(name, 63)
}

fn is_label_of(name: &str, longest: usize) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=longest).contains(&name.len())
        && name.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
        && name.bytes().next().is_some_and(alphanumeric)
        && name.bytes().next_back().is_some_and(alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_rfc_1123() {
        for good in ["a", "a-b", "a.b-c.9", &"x".repeat(253)] {
            assert!(is_subdomain(good), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", ".a", "a.", "a..b", "a.-b", "ä", &"x".repeat(254)]
        {
            assert!(!is_subdomain(bad), "{bad}");
        }
        assert!(is_label(&"x".repeat(63)));
        assert!(!is_label(&"x".repeat(64)) && !is_label("a.b"));
    }
}
