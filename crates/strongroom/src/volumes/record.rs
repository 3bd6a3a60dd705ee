//! What the catalog knows of a volume.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strongroom_model::{FileSystem, KmsRequest, SnapshotId, Tuning, VolumeId};

use crate::catalog::{Kind, Record};

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its identifier.
    pub id: VolumeId,
    /// How many bytes the user can use.
    pub size: u64,
    /// How it is encrypted.
    pub encryption: VolumeEncryption,
    /// Whether it was formatted.
    pub format: FormatState,
    /// The file system that was made in it, when one was.
    pub file_system: Option<FileSystem>,
    /// What can be tuned.
    pub tuning: Tuning,
    /// The volume or snapshot that it was made from, as people know it.
    pub source: Option<String>,
    /// What else was said when it was made: parameters that nothing here acts on.
    pub parameters: BTreeMap<String, String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Up to which size, in bytes, its file system has grown; `None` when nobody knows.
    pub grown_to: Option<u64>,
    /// Whether it can be used.
    pub condition: Condition,
}

/// Whether a volume or snapshot can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It is being made, or was when somebody was killed.
    Creating,
    /// It can.
    Ready,
    /// It is being deleted, or was when somebody was killed.
    Deleting,
}

/// How a volume is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeEncryption {
    /// Not at all.
    None,
    /// With a passphrase that its owner brings.
    Passphrase,
    /// With a data key of its own that a KMS wraps.
    Kms(Box<KmsRequest>),
}

/// The format state of a volume, of which the ledger is the only writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum FormatState {
    /// It was never formatted.
    Blank,
    /// It is being formatted, and was never used yet.
    Formatting {
        /// The UUID that its header, or its file system, will have.
        uuid: String,
    },
    /// It was formatted, and never will be again.
    Formatted {
        /// The UUID in its header, or of its file system.
        uuid: String,
        /// What else proves that the header is the one that was written: the digest of the volume key,
        /// in hexadecimal. Nothing where it is not encrypted.
        digest: Option<String>,
    },
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its identifier.
    pub id: SnapshotId,
    /// The volume that it is of, as it was then.
    pub of: Volume,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Whether it can be used.
    pub condition: Condition,
}

impl VolumeEncryption {
    /// Returns whether it is any.
    pub fn is_encrypted(&self) -> bool {
        *self != Self::None
    }
}

impl Record for Volume {
    const KIND: Kind = Kind::Volume;

    fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Record for Snapshot {
    const KIND: Kind = Kind::Snapshot;

    fn id(&self) -> &str {
        self.id.as_str()
    }
}
