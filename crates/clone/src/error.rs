//! What can go wrong between two disks.

/// An error of the crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Someone asked to stop.
    #[error("the work was cancelled")]
    Cancelled,
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
}
