//! What can be wrong with an image.

use strongroom_model::ImageFormat;

use super::ImageCondition;
use crate::ErrorKind;

/// What is wrong with an image, for people to act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageProblem {
    /// There is another of that name.
    #[error("exists already, and {difference}")]
    Exists {
        /// In what it differs from the one that was asked for.
        difference: String,
    },
    /// There is none of that name.
    #[error("does not exist")]
    NotFound,
    /// Somebody else is at work on it.
    #[error("is being worked on by somebody else")]
    AtWork,
    /// It cannot be used yet, or no more.
    #[error("cannot be used: {}", condition.reason())]
    NotReady {
        /// What it is instead.
        condition: ImageCondition,
    },
    /// It is encrypted, and only what is not can be encrypted.
    #[error("is encrypted already: decrypt it first, or clone it as it is")]
    Encrypted,
    /// It is not encrypted, so there is nothing to decrypt.
    #[error("is not encrypted: it has the format {format}")]
    NotEncrypted {
        /// Its format.
        format: String,
    },
    /// An upload of that name has not begun.
    #[error("is not being uploaded: begin the upload first")]
    NoUpload,
    /// Bytes came for another place than the one where the upload stands.
    #[error("has come up to byte {stands}, so that byte {offset} cannot be the next one")]
    Offset {
        /// Where the next byte goes.
        stands: u64,
        /// What was said.
        offset: u64,
    },
    /// More bytes came than were announced.
    #[error("was announced with {len} bytes, and more have come")]
    TooLong {
        /// What was announced.
        len: u64,
    },
    /// An upload was to end that is not whole.
    #[error("was announced with {len} bytes, of which only {found} have come")]
    Incomplete {
        /// What was announced.
        len: u64,
        /// What has come.
        found: u64,
    },
    /// Its bytes are not what its format says.
    #[error("is not of the format {format}: {reason}")]
    Unfit {
        /// The format.
        format: ImageFormat,
        /// Why not.
        reason: String,
    },
    /// It has no bytes.
    #[error("is empty")]
    Empty,
    /// A volume that was never formatted has nothing of which an image could be made.
    #[error("cannot be made of volume {volume}, which was never formatted: nothing is in it")]
    NothingToExport {
        /// The volume.
        volume: String,
    },
    /// A volume cannot be made of it in the way that was asked for.
    #[error("cannot become volume {volume}: {reason}")]
    Volume {
        /// The volume.
        volume: String,
        /// Why not, and what to do.
        reason: String,
    },
}

impl ImageProblem {
    /// Returns what kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::NotFound => ErrorKind::NotFound,
            Self::AtWork | Self::NotReady { .. } => ErrorKind::Busy,
            Self::Encrypted | Self::NotEncrypted { .. } | Self::Unfit { .. } | Self::Empty => {
                ErrorKind::Image
            }
            Self::NoUpload
            | Self::Offset { .. }
            | Self::TooLong { .. }
            | Self::Incomplete { .. }
            | Self::NothingToExport { .. }
            | Self::Volume { .. } => ErrorKind::Request,
        }
    }
}

impl ImageCondition {
    /// Says why an image in this condition cannot be used.
    fn reason(self) -> &'static str {
        match self {
            Self::Creating => "it is still being made",
            Self::Ready => "it is ready by now",
            Self::Deleting => "it is being deleted",
        }
    }
}
