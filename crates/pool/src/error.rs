//! What can go wrong in a pool.

use std::io;
use std::path::PathBuf;

use crate::Item;

/// The result of everything a pool does.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is an item of that name.
    #[error("{item} exists already")]
    AlreadyExists {
        /// The item.
        item: Item,
    },
    /// An item was formatted before.
    #[error("{item} was formatted before, and is never formatted again")]
    AlreadyFormatted {
        /// The item.
        item: Item,
    },
    /// An item was formatted before, as something else.
    #[error("{item} was marked for formatting as {found} before, and cannot be as {wanted}")]
    AlreadyMarked {
        /// The item.
        item: Item,
        /// The UUID in its mark.
        found: String,
        /// The UUID that it was to have.
        wanted: String,
    },
    /// Somebody else works on the item.
    #[error("somebody else is at work on {item}")]
    Busy {
        /// The item.
        item: Item,
    },
    /// Something in the pool is not what a pool has there.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// What is damaged.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A disk failed.
    #[error(transparent)]
    Disk(#[from] strongroom_disk::Error),
    /// What watches has asked to stop.
    #[error("the copy of {item} was stopped")]
    Interrupted {
        /// What was copied.
        item: Item,
    },
    /// A file or directory of the pool failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// There is no such item.
    #[error("there is no {item}")]
    NotFound {
        /// The item.
        item: Item,
    },
    /// What lies in the directory is no pool of ours.
    #[error("{} is no pool: {problem}", path.display())]
    NotAPool {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An item of that length cannot be.
    #[error("{item} cannot have {len} bytes: {problem}")]
    Size {
        /// The item.
        item: Item,
        /// The length.
        len: u64,
        /// Why not.
        problem: &'static str,
    },
}

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is an item of that name, or it bears another mark.
    AlreadyExists,
    /// Somebody else works on the item.
    Busy,
    /// What watches has asked to stop.
    Interrupted,
    /// A file or directory failed, or is damaged.
    Io,
    /// There is no such item.
    NotFound,
    /// The medium has no room left.
    NoSpace,
    /// The request cannot be carried out as it was made.
    Request,
}

impl Error {
    /// Returns what kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyExists { .. }
            | Self::AlreadyFormatted { .. }
            | Self::AlreadyMarked { .. } => ErrorKind::AlreadyExists,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
            Self::Disk(error) if error.kind() == strongroom_disk::ErrorKind::NoSpace => {
                ErrorKind::NoSpace
            }
            Self::Io { source, .. } if is_full(source) => ErrorKind::NoSpace,
            Self::Damaged { .. } | Self::Disk(_) | Self::Io { .. } => ErrorKind::Io,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::NotAPool { .. } | Self::Size { .. } => ErrorKind::Request,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
