//! File systems on a device: recognised, made once, checked, grown.

use std::path::Path;

use strongroom_disk::FormatPermit;
use strongroom_model::FileSystem;

use crate::Result;

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing that is known. That does not mean that it is empty.
    Nothing,
    /// A file system that volumes are made with.
    FileSystem(FileSystem),
    /// Something else that is known: `a partition table`.
    Other(&'static str),
}

/// Says what a device holds.
pub fn probe(_device: &Path) -> Result<Found> {
    unimplemented!()
}

/// Makes a file system, whatever the device holds: the permit is the right to do that.
pub fn make(
    _device: &Path,
    _file_system: FileSystem,
    _uuid: Option<&str>,
    _permit: &FormatPermit,
) -> Result<()> {
    unimplemented!()
}

/// Checks a file system that is not mounted, and repairs what can be repaired without a loss.
pub fn check(_device: &Path, _file_system: FileSystem) -> Result<()> {
    unimplemented!()
}

/// Makes a file system as large as its device, where it is mounted.
pub fn grow(_device: &Path, _file_system: FileSystem, _mounted_at: &Path) -> Result<()> {
    unimplemented!()
}
