//! What can be wrong with a secret or a volume of libvirt's.

use std::path::PathBuf;

use strongroom_model::dialect::libvirt::SecretName;

use crate::ErrorKind;

/// What is wrong with a secret or a volume, for people to act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LibvirtProblem {
    /// Nobody has defined it.
    #[error("there is no secret with {}", named(name))]
    NoSecret {
        /// How it was named.
        name: SecretName,
    },
    /// It was defined, and nobody gave it a value.
    #[error("secret {uuid} does not have a value")]
    NoValue {
        /// The secret.
        uuid: String,
    },
    /// It is not for volumes.
    #[error("secret {uuid} is {found}, and a secret for volumes is expected")]
    NotForVolumes {
        /// The secret.
        uuid: String,
        /// What it is for.
        found: String,
    },
    /// It is defined for something else.
    #[error("secret {uuid} is defined already, {defined}")]
    OtherUsage {
        /// The secret.
        uuid: String,
        /// For what.
        defined: String,
    },
    /// Another secret is defined for the same.
    #[error("secret {uuid} is defined already for use with {usage}")]
    UsageTaken {
        /// The other secret.
        uuid: String,
        /// What both are for.
        usage: String,
    },
    /// It was private, and must stay so.
    #[error("secret {uuid} is private, which cannot be changed")]
    StaysPrivate {
        /// The secret.
        uuid: String,
    },
    /// Its value is told to nobody.
    #[error("secret {uuid} is private: its value is told to nobody")]
    Private {
        /// The secret.
        uuid: String,
    },
    /// It would be gone before anybody could use it.
    #[error(
        "an ephemeral secret is kept in memory alone, and this command ends before anybody could use it"
    )]
    Ephemeral,
    /// Volumes are encrypted with it.
    #[error("secret {uuid} opens {}", volumes.join(", "))]
    SecretInUse {
        /// The secret.
        uuid: String,
        /// The volumes, by their paths.
        volumes: Vec<String>,
    },
    /// Its value was made here, and copies of the volume may need it.
    #[error("the value of secret {uuid} was made for volume {volume}, whose copies may need it")]
    ValueMade {
        /// The secret.
        uuid: String,
        /// The volume, by its path.
        volume: String,
    },
    /// QEMU could not read its value.
    #[error(
        "the value of secret {uuid} {problem}, and QEMU takes none but text without a zero byte"
    )]
    NotText {
        /// The secret.
        uuid: String,
        /// Why it is no text.
        problem: &'static str,
    },
    /// There is something already where a volume was to be made.
    #[error("volume {path} exists already")]
    VolumeExists {
        /// Its path.
        path: String,
    },
    /// Nothing is recorded of it.
    #[error("nothing is known of a volume {path}")]
    NoVolume {
        /// Its path.
        path: String,
    },
    /// It is recorded, and its file is not there.
    #[error("the file of volume {path} is gone")]
    FileGone {
        /// Its path.
        path: String,
    },
    /// Others would lose what they have of it.
    #[error("volume {path} is the backing store of {}", volumes.join(", "))]
    BackingStore {
        /// Its path.
        path: String,
        /// The volumes on it, by their paths.
        volumes: Vec<String>,
    },
    /// Somebody else is at work on it.
    #[error("volume {path} is being worked on by another process")]
    AtWork {
        /// Its path.
        path: String,
    },
    /// Its keys were destroyed.
    #[error("volume {path} was wiped: nothing opens it any more")]
    Wiped {
        /// Its path.
        path: String,
    },
    /// Only encrypted volumes are wiped by destroying their keys.
    #[error("volume {path} is not encrypted, so there are no keys to destroy")]
    NothingToErase {
        /// Its path.
        path: String,
    },
    /// What was asked for does not go with this volume.
    #[error("volume {name} cannot {what}: {reason}")]
    Impossible {
        /// The volume, by its name or path.
        name: String,
        /// What it cannot.
        what: &'static str,
        /// Why not, and what there is.
        reason: String,
    },
    /// A libvirt daemon does not tell a value.
    #[error("{uri} does not tell the value: {problem}")]
    Daemon {
        /// The daemon.
        uri: String,
        /// What it says.
        problem: String,
    },
    /// Another process works in the data directory.
    #[error("{by} works in {}", data.display())]
    DirectoryInUse {
        /// The directory.
        data: PathBuf,
        /// Who, as far as the system tells.
        by: String,
    },
}

impl LibvirtProblem {
    /// Returns what kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSecret { .. }
            | Self::NoValue { .. }
            | Self::NoVolume { .. }
            | Self::FileGone { .. } => ErrorKind::NotFound,
            Self::OtherUsage { .. } | Self::UsageTaken { .. } | Self::VolumeExists { .. } => {
                ErrorKind::AlreadyExists
            }
            Self::SecretInUse { .. }
            | Self::ValueMade { .. }
            | Self::BackingStore { .. }
            | Self::AtWork { .. }
            | Self::DirectoryInUse { .. } => ErrorKind::Busy,
            Self::Wiped { .. } => ErrorKind::Image,
            Self::NotForVolumes { .. }
            | Self::StaysPrivate { .. }
            | Self::Private { .. }
            | Self::Ephemeral
            | Self::NotText { .. }
            | Self::NothingToErase { .. }
            | Self::Daemon { .. }
            | Self::Impossible { .. } => ErrorKind::Request,
        }
    }
}

fn named(name: &SecretName) -> String {
    match name {
        SecretName::Uuid(uuid) => format!("the uuid {uuid}"),
        SecretName::Usage(usage) => format!("the usage {usage}"),
    }
}
