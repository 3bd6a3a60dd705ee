//! What makes a volume appear on this machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strongroom_attach::Step;
use strongroom_attach::nbd::TlsFiles;
use strongroom_model::{FileSystem, VolumeId};

use crate::catalog::{Kind, Record};

/// How a volume appears on this machine.
///
/// It is written down before anything is done, and undone backwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The volume.
    pub volume: VolumeId,
    /// By what its plaintext is available; never [`Backend::Auto`].
    pub backend: Backend,
    /// As what.
    pub show: Show,
    /// Whether it may only be read.
    pub read_only: bool,
    /// What was, or was about to be, done.
    pub steps: Vec<Step>,
    /// Whether all of it was done.
    pub state: AttachmentState,
    /// The device or file that has the plaintext, once it is there.
    pub device: Option<PathBuf>,
    /// Where else it is shown.
    pub published: Vec<PathBuf>,
    /// The boot of the machine, by its identifier: after another one nothing of it is left.
    pub boot: String,
}

/// How far an attachment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentState {
    /// It is being made, or was when somebody was killed.
    Attaching,
    /// All of it is there.
    Attached,
}

/// What makes the plaintext of a volume available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The best that this machine has: dm-crypt, else FUSE.
    #[default]
    Auto,
    /// dm-crypt, in the kernel.
    Dm,
    /// A file in user space.
    Fuse,
    /// An export over NBD.
    Nbd,
    /// Nothing: the volume is not encrypted.
    Direct,
}

/// As what a volume appears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Show {
    /// As a block device, or as a file for those who may have none.
    Device,
    /// As a mounted file system.
    Mount {
        /// Where.
        target: PathBuf,
        /// Which file system: it is made when the volume was never formatted.
        file_system: FileSystem,
        /// Options of the mount.
        options: Vec<String>,
    },
    /// As an export over NBD.
    Nbd {
        /// Where: the path of a unix socket, or `host:port`.
        address: String,
        /// What clients are shown, who have to begin with TLS then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<TlsFiles>,
    },
}

impl Record for Attachment {
    const KIND: Kind = Kind::Attachment;

    fn id(&self) -> &str {
        self.volume.as_str()
    }
}
