//! Mounts.

use std::path::Path;

use strongroom_model::FileSystem;

use crate::Result;

/// How something is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Options of the file system and of the mount, as `mount -o` takes them: `ro`, `noatime`, `discard`.
    pub flags: Vec<String>,
}

/// Mounts the file system on `device` at `target`, an existing directory.
pub fn mount(_device: &Path, _target: &Path, _fs: FileSystem, _options: &Options) -> Result<()> {
    unimplemented!()
}

/// Makes `source`, a directory, file or device node, appear at `target`, an existing directory or file.
pub fn bind(_source: &Path, _target: &Path, _options: &Options) -> Result<()> {
    unimplemented!()
}

/// Unmounts everything at `target`. Nothing mounted there succeeds.
pub fn unmount(_target: &Path) -> Result<()> {
    unimplemented!()
}

/// Returns whether something is mounted at `target`.
pub fn is_mounted(_target: &Path) -> Result<bool> {
    unimplemented!()
}
