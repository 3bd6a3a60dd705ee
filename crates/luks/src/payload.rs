//! The encrypted data behind a header.

use strongroom_crypto::{Encryption, IvUnit, SectorCipher, SectorSize, VolumeKey};

use crate::Error;

/// Where the encrypted data lies and how it is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Offset on the data device in bytes.
    pub offset: u64,
    /// Length in bytes, whole sectors.
    pub length: u64,
    /// Cipher and key size.
    pub encryption: Encryption,
    /// Size of an encryption sector.
    pub sector_size: SectorSize,
    /// IV number of the first sector.
    pub iv_tweak: u64,
}

impl Payload {
    /// Returns the cipher for the data under `key`.
    ///
    /// # Errors
    ///
    /// When the key's length does not fit.
    pub fn cipher(&self, key: &VolumeKey) -> Result<SectorCipher, Error> {
        Ok(SectorCipher::new(self.encryption, key, self.sector_size, IvUnit::Bytes512)?)
    }
}
