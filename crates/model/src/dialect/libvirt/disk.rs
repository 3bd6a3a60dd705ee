//! The `<disk>` of a domain (libvirt.org/formatdomain.html, "Hard drives, floppy disks, CDROMs").

use super::{Encryption, VolumeFormat};

/// A disk of a domain that is a volume of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDisk {
    /// Where it is.
    pub source: DiskSource,
    /// Its format.
    pub format: VolumeFormat,
    /// How it is encrypted: format, engine and secrets, no cipher.
    pub encryption: Option<Encryption>,
    /// What the guest calls it: `vda`.
    pub target: String,
    /// How it is attached: `virtio`, `scsi`, …
    pub bus: String,
}

/// `disk/source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// A file.
    File(String),
    /// A block device.
    Block(String),
    /// A volume of a pool.
    Volume {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
}

impl DomainDisk {
    /// Returns it as an element, to be pasted into a domain.
    pub fn write(&self) -> String {
        String::new()
    }
}
