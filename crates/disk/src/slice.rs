//! A range of another disk as a disk of its own.

use std::ops::Range;

use crate::disk::{check_extent_offset, check_range, check_within};
use crate::{Disk, Extent, Operation, Result};

/// A range of another disk.
#[derive(Debug)]
pub struct Slice<D> {
    inner: D,
    start: u64,
    len: u64,
}

impl<D: Disk> Slice<D> {
    /// Returns the bytes of `inner` in `range`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PastEnd`](crate::ErrorKind::PastEnd) when the range is not within the disk.
    pub fn new(inner: D, range: Range<u64>) -> Result<Self> {
        let len = check_within(&inner, Operation::Open, &range)?;
        Ok(Self { inner, start: range.start, len })
    }

    fn check(&self, operation: Operation, offset: u64, length: u64) -> Result<()> {
        check_range(operation, self.label(), self.len, offset, length)
    }

    fn shift(&self, range: &Range<u64>) -> Range<u64> {
        self.start + range.start..self.start + range.end
    }
}

impl<D: Disk> Disk for Slice<D> {
    fn len(&self) -> u64 {
        self.len
    }

    fn label(&self) -> &str {
        self.inner.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.check(Operation::Read, offset, buf.len() as u64)?;
        self.inner.read_at(buf, self.start + offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.check(Operation::Write, offset, buf.len() as u64)?;
        self.inner.write_at(buf, self.start + offset)
    }

    fn write_scratch_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.check(Operation::Write, offset, buf.len() as u64)?;
        self.inner.write_scratch_at(buf, self.start + offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        let Extent { range, kind } = self.inner.extent_at(self.start + offset)?;
        Ok(Extent { range: offset..(range.end - self.start).min(self.len), kind })
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::Discard, &range)?;
        self.inner.discard(self.shift(&range))
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::WriteZeroes, &range)?;
        self.inner.write_zeroes(self.shift(&range))
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Memory, conformance};

    #[test]
    fn passes_the_conformance_suite() {
        conformance::run(1, &|len| {
            Box::new(Slice::new(Memory::new(len + 9000), 777..len + 777).unwrap())
        });
    }

    #[test]
    fn refuses_a_range_that_the_disk_does_not_have() {
        for range in [5..11, 11..11, 4..u64::MAX, u64::MAX..u64::MAX] {
            let error = Slice::new(Memory::new(10), range).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PastEnd);
        }
    }

    #[test]
    fn leaves_what_is_around_it_alone() {
        let memory = Memory::from(&[7; 100][..]);
        Slice::new(&memory, 10..20).unwrap().write_zeroes(0..10).unwrap();
        let bytes = memory.to_vec();
        assert!(bytes[10..20].iter().all(|&byte| byte == 0));
        assert!(bytes[..10].iter().chain(&bytes[20..]).all(|&byte| byte == 7));
    }
}
