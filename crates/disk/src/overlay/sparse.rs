//! A layer whose holes are the blocks that it does not hold. For reading only.

use std::ops::Range;

use super::Layer;
use super::layer::{block_count, check_block_size};
use crate::{Disk, Error, ErrorKind, Extent, ExtentKind, Extents, Operation, Result};

/// A sparse disk that somebody vouches for: whatever is a hole in it was never there. A copy of an RBD
/// image that kept its holes is one. Where they lie is found out once.
///
/// # Guarantees
///
/// - It is never written, since a block that is written in part cannot be told from a whole one after a
///   crash.
/// - A sector of zeros where there should be ciphertext is an error, so that a copy that did not keep the
///   holes, or lost some more, is noticed and not decrypted.
#[derive(Debug)]
pub struct Sparse<D> {
    disk: D,
    block_size: u64,
    data_start: u64,
    held: Vec<bool>,
}

impl<D: Disk> Sparse<D> {
    /// Looks for the holes of a disk behind `data_start`, where its ciphertext begins.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when a block is there in part, or for blocks that do not exist.
    pub fn new(disk: D, block_size: u64, data_start: u64) -> Result<Self> {
        check_block_size(disk.label(), block_size)?;
        let blocks = block_count(disk.label(), disk.len(), block_size)?;
        let mut held = vec![false; blocks as usize];
        for extent in Extents::new(&disk, data_start.min(disk.len())..disk.len()) {
            let Extent { range, kind } = extent?;
            if kind == ExtentKind::Unallocated {
                continue;
            }
            let is_border = |at: u64| at.is_multiple_of(block_size) || at == disk.len();
            if let Some(at) = [range.start, range.end].into_iter().find(|&at| !is_border(at)) {
                return Err(Error::new(ErrorKind::Invalid, Operation::Open, disk.label())
                    .at(at / block_size * block_size, block_size)
                    .because(
                        "a part of this block is a hole, so it was cut off or never was a layer's",
                    ));
            }
            held[(range.start / block_size) as usize..range.end.div_ceil(block_size) as usize]
                .fill(true);
        }
        Ok(Self { disk, block_size, data_start, held })
    }

    fn read_only(&self, operation: Operation) -> Error {
        Error::new(ErrorKind::ReadOnly, operation, self.label()).because(
            "holes alone cannot tell a block that was written in part: writing takes a map of its blocks",
        )
    }

    /// Refuses sectors of zeros among what was read.
    fn check_ciphertext(&self, buf: &[u8], offset: u64) -> Result<()> {
        let first = offset.max(self.data_start).next_multiple_of(SECTOR as u64) - offset;
        let sectors = buf.get(first as usize..).unwrap_or_default().chunks_exact(SECTOR);
        for (number, sector) in (0..).zip(sectors) {
            if sector.iter().all(|&byte| byte == 0) {
                let at = offset + first + number * SECTOR as u64;
                return Err(Error::new(ErrorKind::Invalid, Operation::Read, self.label())
                    .at(at, SECTOR as u64)
                    .because(
                        "there are zeros where ciphertext belongs: a hole was lost or filled",
                    ));
            }
        }
        Ok(())
    }
}

impl<D: Disk> Layer for Sparse<D> {
    fn block_size(&self) -> u64 {
        self.block_size
    }

    fn holds(&self, block: u64) -> Result<bool> {
        Ok(self.held.get(block as usize).copied().unwrap_or(false))
    }

    fn put(&self, _block: u64, _bytes: &mut [u8]) -> Result<()> {
        Err(self.read_only(Operation::Write))
    }
}

impl<D: Disk> Disk for Sparse<D> {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn label(&self) -> &str {
        self.disk.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.disk.read_at(buf, offset)?;
        self.check_ciphertext(buf, offset)
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> Result<()> {
        Err(self.read_only(Operation::Write))
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.disk.extent_at(offset)
    }

    fn discard(&self, _range: Range<u64>) -> Result<()> {
        Err(self.read_only(Operation::Discard))
    }

    fn write_zeroes(&self, _range: Range<u64>) -> Result<()> {
        Err(self.read_only(Operation::WriteZeroes))
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// The smallest encryption sector. That so much ciphertext is zeros never happens.
const SECTOR: usize = 512;
