//! A sparse disk without a file.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::disk::{check_extent_offset, check_range, check_within};
use crate::{Disk, Extent, ExtentKind, Operation, Result};

/// A disk in memory. What was never written, or was discarded, is a hole and takes no space.
#[derive(Debug, Default)]
pub struct Memory {
    len: AtomicU64,
    blocks: RwLock<Blocks>,
}

/// The blocks that are no holes, by number.
type Blocks = BTreeMap<u64, Box<[u8; BLOCK]>>;

impl Memory {
    /// Returns a disk of `len` bytes that is one hole.
    pub fn new(len: u64) -> Self {
        Self { len: AtomicU64::new(len), blocks: RwLock::default() }
    }

    /// Returns the contents. The whole disk: for small ones.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len()).expect("the disk fits in memory")];
        read(&self.read(), &mut bytes, 0);
        bytes
    }

    /// Returns the bytes that are no holes, rounded up to whole blocks of 4096.
    pub fn allocated(&self) -> u64 {
        self.read().len() as u64 * BLOCK as u64
    }

    /// Makes the disk longer, by a hole, or shorter.
    pub fn set_len(&self, len: u64) {
        let mut blocks = self.write();
        blocks.split_off(&len.div_ceil(BLOCK as u64));
        let within = (len % BLOCK as u64) as usize;
        if within > 0
            && let Some(block) = blocks.get_mut(&(len / BLOCK as u64))
        {
            block[within..].fill(0);
        }
        self.len.store(len, Ordering::Release);
    }

    // A thread that panicked may have left a write half done, which is what a failed write may do.
    fn read(&self) -> RwLockReadGuard<'_, Blocks> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Blocks> {
        self.blocks.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a range a hole where it covers whole blocks, and zero elsewhere.
    fn punch(&self, range: &Range<u64>) {
        let (len, mut blocks) = (self.len(), self.write());
        for (number, within) in pieces(range.start, range.end - range.start) {
            let to_the_end = number * BLOCK as u64 + within.end as u64 == len;
            if within.start == 0 && (within.end == BLOCK || to_the_end) {
                blocks.remove(&number);
            } else if let Some(block) = blocks.get_mut(&number) {
                block[within].fill(0);
            }
        }
    }
}

impl Disk for Memory {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn label(&self) -> &str {
        "memory"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(Operation::Read, self.label(), self.len(), offset, buf.len() as u64)?;
        read(&self.read(), buf, offset);
        Ok(())
    }

    fn write_at(&self, mut buf: &[u8], offset: u64) -> Result<()> {
        check_range(Operation::Write, self.label(), self.len(), offset, buf.len() as u64)?;
        let mut blocks = self.write();
        for (number, within) in pieces(offset, buf.len() as u64) {
            let (piece, rest) = buf.split_at(within.len());
            let block = blocks.entry(number).or_insert_with(|| Box::new([0; BLOCK]));
            block[within].copy_from_slice(piece);
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        let first = offset / BLOCK as u64;
        let blocks = self.read();
        let following = blocks.range((Bound::Included(first), Bound::Unbounded));
        let (kind, end) = if blocks.contains_key(&first) {
            let run = following.zip(first..).take_while(|((number, _), next)| *number == next);
            (ExtentKind::Data, first + run.count() as u64)
        } else {
            let next = following.map(|(number, _)| *number).next();
            (ExtentKind::Unallocated, next.unwrap_or(u64::MAX))
        };
        let end = end.saturating_mul(BLOCK as u64).min(self.len());
        Ok(Extent { range: offset..end, kind })
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::Discard, &range)?;
        self.punch(&range);
        Ok(())
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::WriteZeroes, &range)?;
        self.punch(&range);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        let blocks = self.read().clone();
        Self { len: AtomicU64::new(self.len()), blocks: RwLock::new(blocks) }
    }
}

impl From<&[u8]> for Memory {
    fn from(bytes: &[u8]) -> Self {
        let disk = Self::new(bytes.len() as u64);
        disk.write_at(bytes, 0).expect("the disk is as long as the bytes");
        disk
    }
}

fn read(blocks: &Blocks, mut buf: &mut [u8], offset: u64) {
    for (number, within) in pieces(offset, buf.len() as u64) {
        let (piece, rest) = buf.split_at_mut(within.len());
        match blocks.get(&number) {
            Some(block) => piece.copy_from_slice(&block[within]),
            None => piece.fill(0),
        }
        buf = rest;
    }
}

/// Cuts a range at block borders: the number of each block and the part of it.
fn pieces(offset: u64, length: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
    const SIZE: u64 = BLOCK as u64;
    let end = offset + length;
    let numbers = offset / SIZE..end.div_ceil(SIZE);
    numbers.filter(move |_| length > 0).map(move |number| {
        let start = number * SIZE;
        let within = offset.saturating_sub(start)..(end - start).min(SIZE);
        (number, within.start as usize..within.end as usize)
    })
}

/// The bytes of a block.
const BLOCK: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Extents, conformance};

    #[test]
    fn passes_the_conformance_suite() {
        for granularity in [1, 4096] {
            conformance::run(granularity, &|len| Box::new(Memory::new(len)));
        }
    }

    #[test]
    fn holes_take_no_space_and_come_back_after_zeroing() {
        let disk = Memory::new(1 << 50);
        disk.write_at(&[1; 4096], 1 << 49).unwrap();
        assert_eq!(disk.allocated(), 4096);
        let kinds: Vec<_> = Extents::new(&disk, 0..disk.len()).map(|e| e.unwrap().kind).collect();
        assert_eq!(kinds, [ExtentKind::Unallocated, ExtentKind::Data, ExtentKind::Unallocated]);
        disk.write_zeroes(1 << 49..(1 << 49) + 4096).unwrap();
        assert_eq!(disk.allocated(), 0);
    }

    #[test]
    fn a_clone_is_independent() {
        let disk = Memory::from(&b"before"[..]);
        let copy = disk.clone();
        disk.write_at(b"after!", 0).unwrap();
        assert_eq!(copy.to_vec(), b"before");
    }
}
