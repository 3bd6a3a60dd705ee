//! Checksums that a source must have.

use strongroom_crypto::Hash;
use strongroom_model::{Checksum, ChecksumAlgorithm};

use crate::{Error, Result, hexadecimal};

/// A checksum that was computed, and the one that was asked for.
pub(super) struct Verdict<'a> {
    pub(super) label: &'a str,
    pub(super) expected: &'a Checksum,
    pub(super) found: &'a [u8],
}

impl Verdict<'_> {
    /// # Errors
    ///
    /// [`Error::Checksum`] when they differ.
    pub(super) fn check(&self) -> Result<()> {
        if self.found == self.expected.digest() {
            return Ok(());
        }
        Err(Error::Checksum {
            label: self.label.to_owned(),
            expected: self.expected.to_string(),
            found: format!("{}:{}", self.expected.algorithm().name(), hexadecimal(self.found)),
        })
    }
}

/// Returns the hash that computes a checksum.
pub(super) fn hash(algorithm: ChecksumAlgorithm) -> Hash {
    match algorithm {
        ChecksumAlgorithm::Sha256 => Hash::Sha256,
        ChecksumAlgorithm::Sha512 => Hash::Sha512,
    }
}
