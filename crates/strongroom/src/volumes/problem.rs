//! What can be wrong with a volume.

use strongroom_model::SnapshotId;

use crate::ErrorKind;

/// What is wrong with a volume, for people to act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeProblem {
    /// There is another of that name.
    #[error("exists already, and {difference}")]
    Exists {
        /// In what it differs from the one that was asked for.
        difference: String,
    },
    /// There is none of that name.
    #[error("does not exist")]
    NotFound,
    /// It does not appear on this machine.
    #[error("is not attached here")]
    NotAttached,
    /// It was never formatted, so it has no keys yet.
    #[error(
        "was never formatted, so there is no key to change: it gets one when it is attached first"
    )]
    NotFormatted,
    /// Somebody uses it.
    #[error("is in use: {by}")]
    InUse {
        /// By whom, or how.
        by: String,
    },
    /// It cannot have that size.
    #[error("cannot have {size} bytes: {reason}")]
    Size {
        /// The size.
        size: u64,
        /// Why not.
        reason: String,
    },
    /// It is encrypted, and nobody said with what.
    #[error("is encrypted, and no {missing} was given for it")]
    NoKey {
        /// What is missing.
        missing: &'static str,
    },
    /// A key was given that is not the kind with which it is encrypted.
    #[error("is {is}, and {given} was given for it")]
    OtherKey {
        /// What it is.
        is: &'static str,
        /// What was given.
        given: &'static str,
    },
    /// What it was to be made from is not there.
    #[error("cannot be made from {source_name}, which does not exist")]
    NoSource {
        /// The source.
        source_name: String,
    },
    /// What it was to be made from is encrypted in another way.
    #[error("is to be {wanted}, but {source_name} is {found}: a copy has the bytes of its source")]
    Mixed {
        /// The source.
        source_name: String,
        /// How the source is encrypted.
        found: String,
        /// How the volume was to be.
        wanted: String,
    },
    /// A snapshot of that name is of another volume.
    #[error("cannot have snapshot {snapshot}, which is one of volume {of}")]
    SnapshotExists {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Its volume.
        of: String,
    },
    /// The pool has a snapshot of that name, and the catalog does not.
    #[error(
        "cannot have snapshot {snapshot}: the pool has one of that name, of which the catalog knows \
         nothing"
    )]
    SnapshotUnknown {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Its device holds something although it was never formatted.
    #[error("was never formatted, but its device holds {found}: it stays as it is")]
    ForeignSignature {
        /// What it holds.
        found: String,
    },
    /// Bytes were written to its device although it was never formatted.
    #[error("was never formatted, but its device was written to: it stays as it is")]
    Written,
    /// The catalog says that it was never formatted, and the mark beside the data says that it was.
    #[error(
        "was formatted as {uuid}, of which the catalog knows nothing: the catalog is older than the volume"
    )]
    CatalogBehind {
        /// The UUID in the mark.
        uuid: String,
    },
    /// It was formatted, and its device has no header any more.
    #[error("was formatted as {uuid}, but its device has no LUKS header{}: it is never formatted again", found.map_or(String::new(), |found| format!(" ({found})")))]
    HeaderGone {
        /// The UUID that it should have.
        uuid: String,
        /// What is there instead.
        found: Option<&'static str>,
    },
    /// It was formatted, and its device has another header.
    #[error("was formatted as {uuid}, but its device has the header of {found}")]
    OtherHeader {
        /// The UUID that it should have.
        uuid: String,
        /// The one that it has.
        found: String,
    },
    /// Its device is shorter than what was recorded.
    #[error("has a device of {found} bytes, but should have one of {recorded}")]
    Short {
        /// The length that it should have.
        recorded: u64,
        /// The length that it has.
        found: u64,
    },
    /// It has no file system although it was formatted.
    #[error("was formatted, but holds no file system: {found}")]
    NoFileSystem {
        /// What it holds.
        found: String,
    },
    /// It has another file system than the one asked for.
    #[error("holds {found}, not {wanted}")]
    OtherFileSystem {
        /// What it holds.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// This machine cannot make it appear in that way.
    #[error("cannot be attached here: {reason}")]
    NoWay {
        /// What is missing.
        reason: String,
    },
}

impl VolumeProblem {
    /// Returns what kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } | Self::SnapshotExists { .. } | Self::SnapshotUnknown { .. } => {
                ErrorKind::AlreadyExists
            }
            Self::NotFound | Self::NoSource { .. } => ErrorKind::NotFound,
            Self::InUse { .. } => ErrorKind::Busy,
            Self::NotAttached
            | Self::NotFormatted
            | Self::Size { .. }
            | Self::NoKey { .. }
            | Self::OtherKey { .. }
            | Self::Mixed { .. }
            | Self::NoWay { .. } => ErrorKind::Request,
            Self::ForeignSignature { .. }
            | Self::Written
            | Self::CatalogBehind { .. }
            | Self::HeaderGone { .. }
            | Self::OtherHeader { .. }
            | Self::Short { .. }
            | Self::NoFileSystem { .. }
            | Self::OtherFileSystem { .. } => ErrorKind::Image,
        }
    }
}
