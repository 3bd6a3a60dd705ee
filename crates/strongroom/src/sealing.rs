//! Secrets at rest: sealed in the catalog, under a key that the local KEK wraps.

use std::path::Path;

use zeroize::Zeroizing;

use crate::catalog::Catalog;
use crate::{Error, Result};

/// Seals and opens what a catalog keeps of secrets.
///
/// # Guarantees
///
/// - What is sealed for one place opens for no other.
/// - The key that seals is in the catalog only as an envelope, under the key in a file that is its
///   owner's alone.
pub struct Sealer(());

impl Sealer {
    /// Opens the sealing key of a catalog; makes the KEK, and the key, where there are none. A catalog
    /// that has a key which this KEK does not open is refused.
    ///
    /// # Errors
    ///
    /// What is wrong with the file or the catalog.
    pub fn open(kek_file: &Path, catalog: &dyn Catalog) -> Result<Self> {
        let _ = catalog;
        Err(Error::Request { problem: format!("{} cannot be used yet", kek_file.display()) })
    }

    /// Seals a value for a place (`secrets/lab/key/CRYPTO_KEY_VALUE`). Returns text.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn seal(&self, place: &str, value: &[u8]) -> Result<String> {
        let _ = value;
        Err(Error::Request { problem: format!("{place} cannot be sealed yet") })
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    ///
    /// When it was sealed for another one, or changed since.
    pub fn unseal(&self, place: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let _ = sealed;
        Err(Error::Request { problem: format!("{place} cannot be opened yet") })
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}
