//! Loop devices: files as block devices.

use std::path::{Path, PathBuf};

use strongroom_crypto::SectorSize;

use crate::{Result, Support};

/// Whether a device may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    ReadOnly,
    /// Read and written.
    ReadWrite,
}

/// Returns whether this machine has loop devices and lets us use them.
pub fn support() -> Support {
    Support::Missing { what: String::new(), remedy: String::new() }
}

/// Makes `file` a block device with sectors of this size, past the page cache where that is possible.
pub fn attach(_file: &Path, _sector_size: SectorSize, _access: Access) -> Result<PathBuf> {
    unimplemented!()
}

/// Lets the devices of a file that has grown know.
pub fn refresh(_file: &Path) -> Result<()> {
    unimplemented!()
}

/// Returns the devices of a file.
pub fn of(_file: &Path) -> Result<Vec<PathBuf>> {
    unimplemented!()
}

/// Removes the devices of a file. A file without any succeeds.
pub fn detach(_file: &Path) -> Result<()> {
    unimplemented!()
}
