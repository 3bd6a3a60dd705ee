//! The trait, and what a disk says about its holes.

use std::ops::Range;
use std::sync::Arc;

use crate::{Error, ErrorKind, Operation, Result};

/// A disk: a fixed number of bytes that are read and written at offsets.
///
/// # Guarantees
///
/// - Every method may be called from any number of threads at once. Writes to ranges that do not
///   overlap never disturb each other, not even when they share a sector or a page.
/// - A range that does not lie within the disk is refused with [`ErrorKind::PastEnd`] before a
///   byte has moved. An empty range at the end is fine.
/// - Reads and writes are whole or an error; after a failed write the range holds old and new
///   bytes in any mixture.
///
/// # Assumptions
///
/// Bytes that are written and read at the same time read as anything.
pub trait Disk: Send + Sync {
    /// Returns the length in bytes.
    fn len(&self) -> u64;

    /// Returns what errors call this disk: a path, mostly.
    fn label(&self) -> &str;

    /// Fills `buf` with the bytes from `offset` on.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Writes `buf` at `offset`.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()>;

    /// Writes `buf` at `offset` and may leave anything in it, so that a disk that encrypts does it
    /// in place.
    fn write_scratch_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.write_at(buf, offset)
    }

    /// Returns the extent that begins at `offset`: it starts exactly there, is not empty, and ends
    /// within the disk. The next one may be of the same kind; [`Extents`] joins them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PastEnd`] when `offset` is not within the disk.
    fn extent_at(&self, offset: u64) -> Result<Extent>;

    /// Gives up the contents of `range`: until it is written again it reads as anything.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when this disk cannot do it safely; nothing has changed then.
    fn discard(&self, range: Range<u64>) -> Result<()>;

    /// Makes `range` read as zeros, in the cheapest way that this disk has.
    fn write_zeroes(&self, range: Range<u64>) -> Result<()>;

    /// Returns once everything written before the call survives a loss of power.
    fn flush(&self) -> Result<()>;

    /// Returns whether the disk has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A part of a disk that is data or reads as zeros throughout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Where it lies, in bytes. Never empty.
    pub range: Range<u64>,
    /// What it holds.
    pub kind: ExtentKind,
}

/// What an extent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Anything, zeros included.
    Data,
    /// Nothing: no layer of the disk stores anything there, so it reads as zeros.
    Unallocated,
    /// Zeros that need not be read, though something says that they are there: a zero cluster.
    Zero,
}

impl ExtentKind {
    /// Returns whether the extent reads as zeros, so that it need not be read.
    pub fn reads_as_zeros(self) -> bool {
        self != Self::Data
    }
}

/// The extents of a range, in order and without gaps; neighbours are of different kinds.
///
/// They are asked for one by one, so that a disk of any fragmentation costs no memory. Ends after
/// the first error.
pub struct Extents<'a> {
    disk: &'a dyn Disk,
    range: Range<u64>,
    next: Option<Extent>,
}

impl<'a> Extents<'a> {
    /// Returns the extents of `range` of `disk`.
    pub fn new(disk: &'a dyn Disk, range: Range<u64>) -> Self {
        Self { disk, range, next: None }
    }

    /// Takes the next extent as the disk tells it, cut at the end of the range.
    fn step(&mut self) -> Option<Result<Extent>> {
        if self.range.is_empty() {
            return None;
        }
        match self.disk.extent_at(self.range.start) {
            Ok(mut extent) => {
                extent.range.end = extent.range.end.min(self.range.end);
                self.range.start = extent.range.end;
                Some(Ok(extent))
            }
            Err(error) => {
                self.range.start = self.range.end;
                Some(Err(error))
            }
        }
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut extent = match self.next.take() {
            Some(extent) => extent,
            None => match self.step()? {
                Ok(extent) => extent,
                Err(error) => return Some(Err(error)),
            },
        };
        loop {
            match self.step() {
                None => return Some(Ok(extent)),
                Some(Ok(next)) if next.kind == extent.kind => extent.range.end = next.range.end,
                Some(Ok(next)) => {
                    self.next = Some(next);
                    return Some(Ok(extent));
                }
                Some(Err(error)) => return Some(Err(error)),
            }
        }
    }
}

/// Refuses a range that does not lie within a disk of `len` bytes.
pub(crate) fn check_range(
    operation: Operation,
    label: &str,
    len: u64,
    offset: u64,
    length: u64,
) -> Result<()> {
    match offset.checked_add(length) {
        Some(end) if end <= len => Ok(()),
        _ => Err(Error::new(ErrorKind::PastEnd, operation, label)
            .at(offset, length)
            .because(format!("the disk ends at {len}"))),
    }
}

/// Refuses a range that does not lie within `disk`, and returns its length.
pub(crate) fn check_within(
    disk: &dyn Disk,
    operation: Operation,
    range: &Range<u64>,
) -> Result<u64> {
    let length = range.end.saturating_sub(range.start);
    check_range(operation, disk.label(), disk.len(), range.start, length)?;
    Ok(length)
}

/// Refuses an offset at which no extent of `disk` can begin.
pub(crate) fn check_extent_offset(disk: &dyn Disk, offset: u64) -> Result<()> {
    check_range(Operation::FindExtent, disk.label(), disk.len(), offset, 1)
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<D: Disk + ?Sized> Disk for $pointer {
            fn len(&self) -> u64 {
                (**self).len()
            }

            fn label(&self) -> &str {
                (**self).label()
            }

            fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
                (**self).read_at(buf, offset)
            }

            fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
                (**self).write_at(buf, offset)
            }

            fn write_scratch_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
                (**self).write_scratch_at(buf, offset)
            }

            fn extent_at(&self, offset: u64) -> Result<Extent> {
                (**self).extent_at(offset)
            }

            fn discard(&self, range: Range<u64>) -> Result<()> {
                (**self).discard(range)
            }

            fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
                (**self).write_zeroes(range)
            }

            fn flush(&self) -> Result<()> {
                (**self).flush()
            }
        }
    )*};
}

forward!(&D, Box<D>, Arc<D>);
