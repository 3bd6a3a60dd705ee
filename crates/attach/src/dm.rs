//! dm-crypt, by the ioctls of device-mapper.

use std::path::{Path, PathBuf};

use strongroom_model::Tuning;

use crate::{EncryptedContents, Result, Support};

/// A dm-crypt mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its device: `/dev/mapper/NAME`.
    pub path: PathBuf,
    /// Its device-mapper UUID: `CRYPT-LUKS2-…`.
    pub uuid: String,
    /// Its length in bytes.
    pub len: u64,
    /// The block device below it; `None` when that is gone.
    pub device: Option<PathBuf>,
}

impl Mapping {
    /// Returns whether the device below is there.
    pub fn is_live(&self) -> bool {
        self.device.is_some()
    }
}

/// Returns whether this kernel has dm-crypt and lets us use it.
pub fn support() -> Support {
    Support::Missing { what: String::new(), remedy: String::new() }
}

/// Makes the data of a volume on the block device `device` appear as `/dev/mapper/NAME`. `len` is how
/// many bytes of it, whole sectors.
pub fn open(
    _name: &str,
    _device: &Path,
    _contents: &EncryptedContents,
    _len: u64,
    _tuning: Tuning,
) -> Result<PathBuf> {
    unimplemented!()
}

/// Makes a mapping `len` bytes long, while it is in use.
pub fn resize(_name: &str, _len: u64) -> Result<()> {
    unimplemented!()
}

/// Removes a mapping. One that is not there succeeds.
pub fn close(_name: &str) -> Result<()> {
    unimplemented!()
}

/// Returns a mapping.
pub fn find(_name: &str) -> Result<Option<Mapping>> {
    unimplemented!()
}
