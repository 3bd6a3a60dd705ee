//! What can be wrong with an image.

use strongroom_model::{ImageFormat, ImageId};

use super::ImageCondition;
use crate::{Error, ErrorKind, Result};

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
    /// It has several keyslots that cost little to try, as guesses at somebody's passphrase would.
    #[error(
        "has {count} keyslots, some of them too cheap, and each may be a guess at the key: remove all but \
         two (cryptsetup luksKillSlot), or give them a higher cost"
    )]
    CheapKeyslots {
        /// How many there are.
        count: usize,
    },
    /// It has no bytes.
    #[error("is empty")]
    Empty,
    /// Its contents do not end with a sector, so no disk has them.
    #[error(
        "has {len} bytes, and a disk has whole sectors of 512: make it {} bytes long",
        neighbours(*len)
    )]
    Odd {
        /// How many bytes its contents have.
        len: u64,
    },
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
            Self::Encrypted
            | Self::NotEncrypted { .. }
            | Self::Unfit { .. }
            | Self::CheapKeyslots { .. }
            | Self::Empty
            | Self::Odd { .. } => ErrorKind::Image,
            Self::NoUpload
            | Self::Offset { .. }
            | Self::TooLong { .. }
            | Self::Incomplete { .. }
            | Self::NothingToExport { .. }
            | Self::Volume { .. } => ErrorKind::Request,
        }
    }
}

/// Refuses contents that end within a sector.
pub(super) fn refuse_odd(id: &ImageId, len: u64) -> Result<()> {
    match len.is_multiple_of(SECTOR) {
        true => Ok(()),
        false => Err(Error::image(id, ImageProblem::Odd { len })),
    }
}

/// Returns the lengths in whole sectors next to one, without none at all.
fn neighbours(len: u64) -> String {
    let above = len.next_multiple_of(SECTOR);
    match len / SECTOR {
        0 => above.to_string(),
        below => format!("{} or {above}", below * SECTOR),
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

/// The bytes of a sector.
const SECTOR: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_length_is_told_with_the_next_even_ones() {
        let id: ImageId = "odd".parse().unwrap();
        assert!(refuse_odd(&id, 1024).is_ok());
        assert_eq!(
            refuse_odd(&id, 1025).unwrap_err().to_string(),
            "image odd has 1025 bytes, and a disk has whole sectors of 512: make it 1024 or 1536 \
             bytes long"
        );
        let short = refuse_odd(&id, 7).unwrap_err().to_string();
        assert!(short.ends_with("make it 512 bytes long"), "{short}");
    }
}
