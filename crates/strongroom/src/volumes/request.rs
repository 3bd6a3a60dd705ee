//! What somebody asks of volumes.

use std::collections::BTreeMap;

use strongroom_attach::loop_device::Access;
use strongroom_crypto::Passphrase;
use strongroom_kms::KeyProvider;
use strongroom_model::{EncryptionSettings, SnapshotId, Tuning, VolumeId};

use super::{Backend, Show, VolumeEncryption};

/// A volume that somebody wants.
#[derive(Debug, Clone)]
pub struct NewVolume {
    /// Its identifier.
    pub id: VolumeId,
    /// How many bytes the user can use, a multiple of 4096.
    pub size: u64,
    /// How it is encrypted.
    pub encryption: VolumeEncryption,
    /// What can be tuned.
    pub tuning: Tuning,
    /// What it is a copy of.
    pub source: Option<Source>,
    /// What else was said about it.
    pub parameters: BTreeMap<String, String>,
}

/// What a volume is a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A volume, as it is now.
    Volume(VolumeId),
    /// A snapshot.
    Snapshot(SnapshotId),
}

/// What opens a volume.
#[derive(Debug, Clone, Copy)]
pub enum VolumeOpener<'a> {
    /// A passphrase.
    Passphrase {
        /// The passphrase.
        passphrase: &'a Passphrase,
        /// How the volume is encrypted when it is formatted now; `None` for the defaults.
        settings: Option<&'a EncryptionSettings>,
    },
    /// The KMS that wraps its data key.
    Kms(&'a dyn KeyProvider),
}

/// How somebody wants a volume to appear.
#[derive(Debug, Clone)]
pub struct AttachRequest<'a> {
    /// What opens it; `None` for one that is not encrypted.
    pub opener: Option<VolumeOpener<'a>>,
    /// By what.
    pub backend: Backend,
    /// As what.
    pub show: Show,
    /// Whether it may be written to.
    pub access: Access,
}
