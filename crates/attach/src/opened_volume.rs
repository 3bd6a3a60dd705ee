//! A volume that somebody has opened.

use std::path::PathBuf;

use strongroom_crypto::VolumeKey;
use strongroom_luks::{Payload, Version};

/// A volume of which the bytes can be read: where they lie, and what decrypts them.
#[derive(Debug)]
pub struct OpenedVolume {
    /// The name that people know, and that a mapping gets.
    pub name: String,
    /// The file or block device that bears it.
    pub backing: PathBuf,
    /// What decrypts it; `None` when it is not encrypted.
    pub encrypted: Option<EncryptedContents>,
}

/// How the data of an encrypted volume lies on its backing, and its key.
#[derive(Debug)]
pub struct EncryptedContents {
    /// The version of its LUKS header.
    pub version: Version,
    /// The UUID in the header.
    pub uuid: String,
    /// Where the data lies and how it is encrypted. Its length is what it is now: it grows with the
    /// backing.
    pub payload: Payload,
    /// Its key.
    pub key: VolumeKey,
}

impl OpenedVolume {
    /// Returns where on the backing the data begins, in bytes.
    pub fn start(&self) -> u64 {
        self.encrypted.as_ref().map_or(0, |encrypted| encrypted.payload.offset)
    }
}
