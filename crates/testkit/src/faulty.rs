//! A disk that fails when told to.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_disk::{Disk, Error, ErrorKind, Extent, Operation, Resizable, Result};

/// A disk that passes everything on to another one, except for one operation that fails.
#[derive(Debug)]
pub struct FaultyDisk<D> {
    inner: D,
    fault: Fault,
    ordinal: u64,
    counted: AtomicU64,
}

/// How an operation fails, and which ones are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// `EIO`, on any operation.
    Io,
    /// `ENOSPC`, on what changes the disk or flushes it.
    NoSpace,
    /// The file turns out too short, on a read or a look for holes.
    ShortRead,
}

impl<D: Disk> FaultyDisk<D> {
    /// Returns a disk whose operation number `ordinal`, counted from zero, fails.
    pub fn new(inner: D, fault: Fault, ordinal: u64) -> Self {
        Self { inner, fault, ordinal, counted: AtomicU64::new(0) }
    }

    /// Returns a disk that never fails, to count the operations that could.
    pub fn never(inner: D, fault: Fault) -> Self {
        Self::new(inner, fault, u64::MAX)
    }

    /// Returns how many operations were counted.
    pub fn operations(&self) -> u64 {
        self.counted.load(Ordering::SeqCst)
    }

    fn pass(&self, operation: Operation, offset: u64, length: u64) -> Result<()> {
        let reads = matches!(operation, Operation::Read | Operation::FindExtent);
        let counts = match self.fault {
            Fault::Io => true,
            Fault::NoSpace => !reads,
            Fault::ShortRead => reads,
        };
        if !counts || self.counted.fetch_add(1, Ordering::SeqCst) != self.ordinal {
            return Ok(());
        }
        let label = self.label();
        let error = match self.fault {
            Fault::Io => Error::from_io(operation, label, io::Error::from_raw_os_error(5)),
            Fault::NoSpace => Error::from_io(operation, label, io::Error::from_raw_os_error(28)),
            Fault::ShortRead => Error::new(ErrorKind::ShortRead, operation, label),
        };
        Err(error.at(offset, length))
    }

    fn pass_range(&self, operation: Operation, range: &Range<u64>) -> Result<()> {
        self.pass(operation, range.start, range.end.saturating_sub(range.start))
    }
}

impl<D: Disk> Disk for FaultyDisk<D> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn label(&self) -> &str {
        "faulty"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.pass(Operation::Read, offset, buf.len() as u64)?;
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.pass(Operation::Write, offset, buf.len() as u64)?;
        self.inner.write_at(buf, offset)
    }

    fn write_scratch_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.pass(Operation::Write, offset, buf.len() as u64)?;
        self.inner.write_scratch_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.pass(Operation::FindExtent, offset, 1)?;
        self.inner.extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.pass_range(Operation::Discard, &range)?;
        self.inner.discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.pass_range(Operation::WriteZeroes, &range)?;
        self.inner.write_zeroes(range)
    }

    fn flush(&self) -> Result<()> {
        self.pass(Operation::Flush, 0, self.len())?;
        self.inner.flush()
    }
}

impl<D: Resizable> Resizable for FaultyDisk<D> {
    fn set_len(&self, len: u64) -> Result<()> {
        self.pass(Operation::Resize, 0, len)?;
        self.inner.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use strongroom_disk::{Memory, conformance};

    use super::*;

    #[test]
    fn passes_the_conformance_suite_while_it_does_not_fail() {
        conformance::run(512, &|len| Box::new(FaultyDisk::never(Memory::new(len), Fault::Io)));
    }

    #[test]
    fn fails_once_and_only_in_what_it_counts() {
        let disk = FaultyDisk::new(Memory::new(4096), Fault::NoSpace, 1);
        disk.read_at(&mut [0; 8], 0).unwrap();
        disk.write_at(&[1; 8], 0).unwrap();
        assert_eq!(disk.write_at(&[2; 8], 0).unwrap_err().kind(), ErrorKind::NoSpace);
        disk.write_at(&[3; 8], 0).unwrap();
        assert_eq!(disk.operations(), 3);
        let disk = FaultyDisk::new(Memory::new(4096), Fault::ShortRead, 0);
        disk.write_at(&[1; 8], 0).unwrap();
        assert_eq!(disk.read_at(&mut [0; 8], 0).unwrap_err().kind(), ErrorKind::ShortRead);
    }
}
