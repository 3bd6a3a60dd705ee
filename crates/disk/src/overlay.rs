//! An encrypted disk that holds some of its blocks; the others are read from a parent.

mod layer;
mod mapped;
mod sparse;

use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use layer::Layer;
pub use mapped::{LayerIdentity, Mapped};
pub use sparse::Sparse;

use crate::disk::{check_extent_offset, check_range, check_within};
use crate::{Disk, Encrypted, Error, ErrorKind, Extent, ExtentKind, Operation, Result};

/// A child and its parent as one disk: RBD clones that were encrypted anew are of this kind.
///
/// The child is encrypted under a key of its own. A block that it does not hold is read from the
/// parent, which decrypts with its own key, is at the same place of its data, and is never written. What
/// lies behind the end of the parent is zeros. A parent may be another overlay.
///
/// # Guarantees
///
/// - The first write into a block that the child does not hold copies all of the block up: it is read
///   from the parent, changed, encrypted with the child's key, and [put](Layer::put) whole or not at
///   all. Copying up takes as much memory as one block.
/// - Places are those of the data, so that headers may be of different sizes.
///
/// # Assumptions
///
/// The parent does not change.
#[derive(Debug)]
pub struct Overlay<L, P> {
    child: Encrypted<L>,
    parent: Option<P>,
    stripes: Box<[RwLock<()>]>,
}

impl<L: Layer, P: Disk> Overlay<L, P> {
    /// Returns the plaintext of `child`, and of `parent` where the child holds nothing: zeros if
    /// there is no parent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unaligned`] when the data of the child does not begin at the border of a block.
    pub fn new(child: Encrypted<L>, parent: Option<P>) -> Result<Self> {
        let (start, block_size) = (child.start(), child.inner().block_size());
        if !start.is_multiple_of(block_size) {
            let reason = format!(
                "its data begins at byte {start}, which is not a multiple of its blocks of {block_size} \
                 bytes"
            );
            let error = Error::new(ErrorKind::Unaligned, Operation::Open, child.label());
            return Err(error.because(reason));
        }
        Ok(Self { child, parent, stripes: (0..STRIPES).map(|_| RwLock::default()).collect() })
    }

    /// Returns the child.
    pub fn child(&self) -> &Encrypted<L> {
        &self.child
    }

    /// Returns the parent.
    pub fn parent(&self) -> Option<&P> {
        self.parent.as_ref()
    }

    fn layer(&self) -> &L {
        self.child.inner()
    }

    /// Tells whether the child holds the block of the data with this number.
    fn holds(&self, block: u64) -> Result<bool> {
        self.layer().holds(self.child.start() / self.layer().block_size() + block)
    }

    /// Returns where a block lies, as far as the disk goes.
    fn block_range(&self, block: u64) -> Range<u64> {
        let size = self.layer().block_size();
        block * size..((block + 1) * size).min(self.len())
    }

    /// Cuts a range at the borders of blocks: the number of each and the part of the range in it.
    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (u64, Range<u64>)> {
        let size = self.layer().block_size();
        let last = if range.is_empty() { 0 } else { range.end.div_ceil(size) };
        (range.start / size..last).map(move |block| {
            (block, range.start.max(block * size)..range.end.min((block + 1) * size))
        })
    }

    /// Reads what the child does not hold.
    fn read_parent(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let parent_len = self.parent.as_ref().map_or(0, Disk::len);
        let within = parent_len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (there, behind) = buf.split_at_mut(within);
        behind.fill(0);
        match &self.parent {
            Some(parent) if !there.is_empty() => parent.read_at(there, offset),
            _ => Ok(()),
        }
    }

    /// Changes `range` of one block: with `in_place` if the child holds it, else with `fill` on the way
    /// up.
    fn change(
        &self,
        block: u64,
        range: &Range<u64>,
        in_place: impl FnOnce() -> Result<()>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        {
            let _no_copying = self.share(block);
            if self.holds(block)? {
                return in_place();
            }
        }
        let _alone = self.exclude(block);
        // Somebody else may have copied it up in between.
        if self.holds(block)? {
            return in_place();
        }
        let whole = self.block_range(block);
        let mut buf = vec![0; (whole.end - whole.start) as usize];
        if *range != whole {
            self.read_parent(&mut buf, whole.start)?;
        }
        fill(&mut buf[(range.start - whole.start) as usize..(range.end - whole.start) as usize]);
        self.child.encrypt_sectors(&mut buf, whole.start);
        let number = self.child.start() / self.layer().block_size() + block;
        self.layer().put(number, &mut buf)
    }

    /// Tells whether a range that the child does not hold is known to be zeros.
    fn parent_has_zeros(&self, range: &Range<u64>) -> Result<bool> {
        let Some(parent) = &self.parent else { return Ok(true) };
        let mut offset = range.start;
        while offset < range.end.min(parent.len()) {
            let extent = parent.extent_at(offset)?;
            if !extent.kind.reads_as_zeros() {
                return Ok(false);
            }
            offset = extent.range.end;
        }
        Ok(true)
    }

    // The locks guard no value that a panic could have left half changed.
    fn share(&self, block: u64) -> RwLockReadGuard<'_, ()> {
        self.stripe(block).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclude(&self, block: u64) -> RwLockWriteGuard<'_, ()> {
        self.stripe(block).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lock of a block; blocks far apart share one. Nobody holds two at a time.
    fn stripe(&self, block: u64) -> &RwLock<()> {
        &self.stripes[block as usize % STRIPES]
    }
}

impl<L: Layer, P: Disk> Disk for Overlay<L, P> {
    fn len(&self) -> u64 {
        self.child.len()
    }

    fn label(&self) -> &str {
        self.child.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let length = buf.len() as u64;
        check_range(Operation::Read, self.label(), self.len(), offset, length)?;
        for (block, range) in self.pieces(offset..offset + length) {
            let piece = &mut buf[(range.start - offset) as usize..(range.end - offset) as usize];
            // No lock: whoever copies the block up meanwhile changes nothing outside of his own range.
            if self.holds(block)? {
                self.child.read_at(piece, range.start)?;
            } else {
                self.read_parent(piece, range.start)?;
            }
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let length = buf.len() as u64;
        check_range(Operation::Write, self.label(), self.len(), offset, length)?;
        for (block, range) in self.pieces(offset..offset + length) {
            let piece = &buf[(range.start - offset) as usize..(range.end - offset) as usize];
            let in_place = || self.child.write_at(piece, range.start);
            self.change(block, &range, in_place, |up| up.copy_from_slice(piece))?;
        }
        Ok(())
    }

    /// What the child holds is data, since a hole in ciphertext is not zeros; of the rest the parent
    /// tells.
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        let block = offset / self.layer().block_size();
        let end = self.block_range(block).end;
        if self.holds(block)? {
            return Ok(Extent { range: offset..end, kind: ExtentKind::Data });
        }
        match &self.parent {
            Some(parent) if offset < parent.len() => {
                let Extent { range, kind } = parent.extent_at(offset)?;
                Ok(Extent { range: offset..range.end.min(end), kind })
            }
            _ => Ok(Extent { range: offset..end, kind: ExtentKind::Unallocated }),
        }
    }

    /// Refuses: a block that is given up would show the parent's data again.
    fn discard(&self, range: Range<u64>) -> Result<()> {
        let length = check_within(self, Operation::Discard, &range)?;
        Err(Error::new(ErrorKind::Unsupported, Operation::Discard, self.label())
            .at(range.start, length)
            .because("what a layer gives up would show again what its parent holds"))
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::WriteZeroes, &range)?;
        for (block, range) in self.pieces(range) {
            if !self.holds(block)? && self.parent_has_zeros(&range)? {
                continue;
            }
            let in_place = || self.child.write_zeroes(range.clone());
            self.change(block, &range, in_place, |up| up.fill(0))?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.child.flush()
    }
}

/// How many locks there are.
const STRIPES: usize = 64;

#[cfg(test)]
mod tests;
