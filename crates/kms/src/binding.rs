//! What a data key belongs to.

use std::fmt;

use sha2::{Digest, Sha256};

/// What a data key belongs to: an image or a volume, by a name that nobody else has.
///
/// It is sealed in with the data key, so the envelope of one opens nothing in the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    name: String,
}

impl Binding {
    /// Returns the binding to an image, by the UUID of its LUKS header, in whichever case.
    pub fn image(uuid: &str) -> Self {
        Self { name: format!("image:{}", uuid.to_ascii_lowercase()) }
    }

    /// Returns the binding to a volume, by its name in the catalog of its cluster or machine.
    pub fn volume(id: &str) -> Self {
        Self { name: format!("volume:{id}") }
    }

    /// Returns the binding to a setting of a server, by its name in the catalog.
    pub fn setting(name: &str) -> Self {
        Self { name: format!("setting:{name}") }
    }

    /// Returns what is sealed in with the data key: the name's SHA-256.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.name.as_bytes()).into()
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.replacen(':', " ", 1))
    }
}
