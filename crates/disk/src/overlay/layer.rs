//! What knows which of its blocks it holds.

use std::ops::RangeInclusive;

use crate::{Disk, Error, ErrorKind, Operation, Result};

/// A disk of ciphertext that knows which of its blocks it holds.
///
/// A hole is not what tells that: a hole in ciphertext may be zeros that somebody took away. Only who
/// implements this says what counts, and nobody asks the [extents](Disk::extent_at) of a layer.
///
/// # Guarantees
///
/// A block that is held stays held.
pub trait Layer: Disk {
    /// Returns the bytes of a block, a power of two. Blocks are counted from the start of the disk.
    fn block_size(&self) -> u64;

    /// Tells whether the disk holds a block, the last of which may be shorter.
    fn holds(&self, block: u64) -> Result<bool>;

    /// Writes all of a block that is not held, after which it is. `bytes` may be left with anything in
    /// them.
    ///
    /// # Guarantees
    ///
    /// After a crash the block is held with all of these bytes (and what was written into it since), or
    /// it is not held.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ReadOnly`] when it cannot keep that promise.
    fn put(&self, block: u64, bytes: &mut [u8]) -> Result<()>;
}

/// Refuses sizes that no block has.
pub(super) fn check_block_size(label: &str, block_size: u64) -> Result<()> {
    if block_size.is_power_of_two() && BLOCK_SIZES.contains(&block_size) {
        return Ok(());
    }
    let (least, most) = (BLOCK_SIZES.start(), BLOCK_SIZES.end());
    Err(Error::new(ErrorKind::Invalid, Operation::Open, label).because(format!(
        "blocks of {block_size} bytes do not exist: they have {least} to {most}, a power of two"
    )))
}

/// Returns how many blocks a disk has.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] for more than can be kept track of.
pub(super) fn block_count(label: &str, len: u64, block_size: u64) -> Result<u64> {
    let blocks = len.div_ceil(block_size);
    if blocks <= MOST_BLOCKS {
        return Ok(blocks);
    }
    Err(Error::new(ErrorKind::Invalid, Operation::Open, label).because(format!(
        "it has {blocks} blocks of {block_size} bytes, and no more than {MOST_BLOCKS} are possible"
    )))
}

/// The sizes of RADOS objects.
const BLOCK_SIZES: RangeInclusive<u64> = 4096..=32 << 20;

/// What keeps the memory for telling them apart below 32 MiB.
const MOST_BLOCKS: u64 = 1 << 28;
