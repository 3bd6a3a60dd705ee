//! A disk with zeros behind its end.

use std::ops::Range;

use crate::disk::{check_extent_offset, check_range, check_within};
use crate::{Disk, Error, ErrorKind, Extent, ExtentKind, Operation, Result};

/// Another disk seen as longer: for a raw image of any length that goes into a format whose disks
/// are a whole number of sectors long.
///
/// # Guarantees
///
/// What lies behind the end of the other disk reads as zeros, is an extent of its own that nothing
/// stores, and takes no write.
#[derive(Debug)]
pub struct Padded<D> {
    inner: D,
    /// Where the other disk ended when the view was made.
    end: u64,
    len: u64,
}

impl<D: Disk> Padded<D> {
    /// Returns `inner` with zeros up to `len` bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PastEnd`] when the disk is longer than that.
    pub fn new(inner: D, len: u64) -> Result<Self> {
        let end = inner.len();
        if end > len {
            return Err(Error::new(ErrorKind::PastEnd, Operation::Open, inner.label())
                .because(format!("its {end} bytes are more than the {len} it shall be seen as")));
        }
        Ok(Self { inner, end, len })
    }

    /// Returns the disk below.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// Returns how many of `length` bytes at `offset` lie within the disk below.
    fn stored(&self, offset: u64, length: u64) -> u64 {
        self.end.saturating_sub(offset).min(length)
    }

    fn check_writable(&self, offset: u64, length: u64) -> Result<()> {
        check_range(Operation::Write, self.label(), self.len, offset, length)?;
        if self.stored(offset, length) == length {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, Operation::Write, self.label())
            .at(offset, length)
            .because(format!("nothing stores what lies behind its end at {}", self.end)))
    }

    fn within(&self, range: &Range<u64>) -> Range<u64> {
        range.start.min(self.end)..range.end.min(self.end)
    }
}

impl<D: Disk> Disk for Padded<D> {
    fn len(&self) -> u64 {
        self.len
    }

    fn label(&self) -> &str {
        self.inner.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(Operation::Read, self.label(), self.len, offset, buf.len() as u64)?;
        let stored = self.stored(offset, buf.len() as u64);
        let (stored, padding) = buf.split_at_mut(stored as usize);
        padding.fill(0);
        if stored.is_empty() {
            return Ok(());
        }
        self.inner.read_at(stored, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.check_writable(offset, buf.len() as u64)?;
        if buf.is_empty() { Ok(()) } else { self.inner.write_at(buf, offset) }
    }

    fn write_scratch_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.check_writable(offset, buf.len() as u64)?;
        if buf.is_empty() { Ok(()) } else { self.inner.write_scratch_at(buf, offset) }
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        if offset >= self.end {
            return Ok(Extent { range: offset..self.len, kind: ExtentKind::Unallocated });
        }
        let Extent { range, kind } = self.inner.extent_at(offset)?;
        Ok(Extent { range: offset..range.end.min(self.end), kind })
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::Discard, &range)?;
        self.inner.discard(self.within(&range))
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::WriteZeroes, &range)?;
        self.inner.write_zeroes(self.within(&range))
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Extents, Memory, conformance};

    #[test]
    fn passes_the_conformance_suite_without_padding() {
        conformance::run(1, &|len| Box::new(Padded::new(Memory::new(len), len).unwrap()));
    }

    #[test]
    fn reads_zeros_behind_the_end_wherever_a_read_begins() {
        let memory = Memory::from(&[7; 5000][..]);
        let disk = Padded::new(&memory, 5120).unwrap();
        for start in [0, 4990, 4999, 5000, 5001, 5119, 5120] {
            for end in [start, start + 1, 5000, 5001, 5120] {
                let length = (end.min(5120_u64)).saturating_sub(start);
                let mut bytes = vec![9; length as usize];
                disk.read_at(&mut bytes, start).unwrap();
                for (byte, at) in bytes.iter().zip(start..) {
                    assert_eq!(*byte, if at < 5000 { 7 } else { 0 }, "at {at}");
                }
            }
        }
        assert_eq!(disk.read_at(&mut [0], 5120).unwrap_err().kind(), ErrorKind::PastEnd);
    }

    #[test]
    fn the_padding_is_an_extent_that_nothing_stores() {
        let memory = Memory::from(&[7; 5000][..]);
        let disk = Padded::new(&memory, 9000).unwrap();
        let extents: Vec<_> = Extents::new(&disk, 0..9000).map(Result::unwrap).collect();
        assert_eq!(
            extents,
            [
                Extent { range: 0..5000, kind: ExtentKind::Data },
                Extent { range: 5000..9000, kind: ExtentKind::Unallocated },
            ]
        );
        assert_eq!(disk.extent_at(9000).unwrap_err().kind(), ErrorKind::PastEnd);
    }

    #[test]
    fn the_padding_takes_zeros_and_nothing_else() {
        let memory = Memory::from(&[7; 1000][..]);
        let disk = Padded::new(&memory, 1024).unwrap();
        for (offset, length) in [(999, 2), (1000, 1), (0, 1024)] {
            let mut bytes = vec![1; length];
            let errors = [
                disk.write_at(&bytes, offset).unwrap_err(),
                disk.write_scratch_at(&mut bytes, offset).unwrap_err(),
            ];
            assert!(errors.iter().all(|error| error.kind() == ErrorKind::Unsupported));
        }
        assert!(memory.to_vec() == [7; 1000]);
        disk.write_at(&[], 1010).unwrap();
        disk.write_at(&[8], 999).unwrap();
        disk.write_zeroes(1000..1024).unwrap();
        disk.discard(1010..1024).unwrap();
        assert!(memory.to_vec()[999] == 8);
        disk.write_zeroes(990..1024).unwrap();
        assert!(memory.to_vec()[989..] == [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_disk_is_not_seen_as_shorter() {
        let error = Padded::new(Memory::new(513), 512).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PastEnd);
    }
}
