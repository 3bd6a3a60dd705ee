//! What the catalog knows of an image.

use serde::{Deserialize, Serialize};
use strongroom_model::{Checksum, ImageFormat, ImageId};

use crate::catalog::{Kind, Record};

/// An image that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// Its identifier.
    pub id: ImageId,
    /// How people call it: `lab/ubuntu`.
    pub label: String,
    /// The format of what comes from outside, where somebody said so; otherwise its first bytes tell, once.
    pub format: Option<ImageFormat>,
    /// The checksum that the bytes must have.
    pub checksum: Option<Checksum>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its identifier.
    pub id: ImageId,
    /// How people call it.
    pub label: String,
    /// Its format, `raw`, `qcow2`, `luks1`, `luks2` or `qcow2-luks`; empty until it is known.
    pub format: String,
    /// Whether it can be used.
    pub condition: ImageCondition,
    /// The length of the file in bytes.
    pub len: u64,
    /// How many bytes its contents have, as a user of it sees them.
    pub virtual_len: u64,
    /// How many bytes of the medium the file takes.
    pub real_len: u64,
    /// SHA-512 over the stored bytes, in hexadecimal; `None` until it is known.
    pub checksum: Option<String>,
    /// How it is encrypted; `None` for a plain one.
    pub encryption: Option<ImageEncryption>,
    /// When it was begun, in seconds since 1970.
    pub created: u64,
}

/// How an image is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEncryption {
    /// The UUID in its header.
    pub uuid: String,
    /// The digest of the volume key, in hexadecimal.
    pub digest: String,
    /// The cipher.
    pub cipher: String,
    /// The size of the volume key, in bits.
    pub key_size_bits: u32,
}

/// Whether an image can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageCondition {
    /// It is being made, or was when somebody was killed.
    Creating,
    /// It can.
    Ready,
    /// It is being deleted, or was when somebody was killed.
    Deleting,
}

impl Record for Image {
    const KIND: Kind = Kind::Image;

    fn id(&self) -> &str {
        self.id.as_str()
    }
}
