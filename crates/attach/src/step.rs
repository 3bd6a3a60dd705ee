//! What was done to make a volume appear, so that it can be undone.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Result, dm, fuse, loop_device, mount, nbd};

/// One thing that is done to make a volume appear. It says nothing that is only known afterwards, so
/// that it can be written down before it is done: whatever a crash has left of it can be found and
/// undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// A server in user space shows the volume as this file.
    FuseFile {
        /// The file.
        file: PathBuf,
    },
    /// A loop device makes this file a block device.
    LoopDevice {
        /// The file.
        file: PathBuf,
    },
    /// dm-crypt decrypts a block device under this name.
    DmCrypt {
        /// The name of the mapping.
        name: String,
    },
    /// A server exports the volume over NBD.
    NbdServer {
        /// Where: the path of a unix socket, or `host:port`.
        address: String,
        /// The file that bears the volume: another server may have taken the address since.
        backing: PathBuf,
    },
    /// A file system is mounted here. Whether it is the one that is meant, [`mount::shows`] tells.
    Mount {
        /// Where.
        target: PathBuf,
    },
}

impl Step {
    /// Undoes it. What was never done, or is undone already, succeeds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when somebody uses what it made.
    pub fn undo(&self) -> Result<()> {
        match self {
            Self::FuseFile { file } => fuse::stop(file),
            Self::LoopDevice { file } => loop_device::detach(file),
            Self::DmCrypt { name } => dm::close(name),
            Self::NbdServer { address, backing } => {
                if nbd::exports(address, backing)? || !nbd::serves(address)? {
                    nbd::stop(address)?;
                }
                Ok(())
            }
            Self::Mount { target } => mount::unmount(target),
        }
    }

    /// Returns whether what it made is there and works: a mapping whose device is gone does not.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    pub fn stands(&self) -> Result<bool> {
        match self {
            Self::FuseFile { file } => fuse::serves(file),
            Self::LoopDevice { file } => Ok(!loop_device::of(file)?.is_empty()),
            Self::DmCrypt { name } => Ok(dm::find(name)?.is_some_and(|mapping| mapping.is_live())),
            Self::NbdServer { address, backing } => nbd::exports(address, backing),
            Self::Mount { target } => mount::answers(target),
        }
    }
}
