//! What can go wrong between two disks.

use std::error::Error as StdError;
use std::io;
use std::num::NonZeroU64;

/// An error of the crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Someone asked to stop.
    #[error("the work was cancelled")]
    Cancelled,
    /// What is durable could not be recorded.
    #[error("cannot record that the first {offset} bytes of {label} are done")]
    Checkpoint {
        /// What the target is called.
        label: String,
        /// Everything below is durable.
        offset: u64,
        /// What the recorder said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// One of the disks failed; its text names the disk and the place.
    #[error(transparent)]
    Disk(#[from] strongroom_disk::Error),
    /// A copy needs a target that is exactly as long as the source.
    #[error(
        "{source_label} has {source_len} bytes but {target_label} has room for {target_len}: \
         they must be equally long"
    )]
    Length {
        /// What the source is called.
        source_label: String,
        /// Its length in bytes.
        source_len: u64,
        /// What the target is called.
        target_label: String,
        /// Its length in bytes.
        target_len: u64,
    },
    /// A pass was to go on behind the end of what is there.
    #[error("cannot go on at offset {start} of {label}, which has only {len} bytes")]
    StartPastEnd {
        /// What the target is called.
        label: String,
        /// Where the pass was to go on.
        start: u64,
        /// The target's length in bytes.
        len: u64,
    },
    /// A stream failed.
    #[error("cannot read the stream at offset {offset}")]
    Stream {
        /// How many bytes it had given.
        offset: u64,
        /// What it said.
        source: io::Error,
    },
    /// A stream ended where the target cannot.
    #[error("the stream ends after {len} bytes, which is no multiple of {unit}")]
    UnalignedEnd {
        /// How many bytes it had.
        len: u64,
        /// What its length must be a multiple of, in bytes.
        unit: NonZeroU64,
    },
}
