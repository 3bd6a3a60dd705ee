//! A file that no tool takes for what it will become.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::{check_extent_offset, check_range, check_within};
use crate::{Disk, Error, ErrorKind, Extent, ExtentKind, Operation, Resizable, Result};

/// A disk over a file whose first eight bytes stay in memory until everything else is durable.
///
/// Until then a marker stands there that belongs to no format. Reads and writes through the disk
/// never see it.
///
/// # Guarantees
///
/// - Whatever is written through the disk, and whenever the process is killed, the file begins
///   with the marker or is whole. So a format whose magic lies in the first eight bytes, as those
///   of qcow2 and LUKS do, is recognised by nobody before.
/// - [`finish`](Self::finish) writes the eight bytes at once, within one sector, after a flush.
///
/// # Assumptions
///
/// Nobody else writes to the file. What must not be found elsewhere in it, such as the second
/// header of LUKS2, has to be written last by whoever writes it.
#[derive(Debug)]
pub struct Unfinished<D> {
    inner: D,
    /// How long the disk is; the file has at least the marker's length.
    len: AtomicU64,
    head: Mutex<Head>,
}

#[derive(Debug)]
struct Head {
    bytes: [u8; MARKER_LEN],
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Marked,
    Finished,
}

impl<D: Resizable> Unfinished<D> {
    /// Marks a file as unfinished. The disk has its length and its content.
    pub fn new(inner: D) -> Result<Self> {
        let len = inner.len();
        let mut bytes = [0; MARKER_LEN];
        let kept = len.min(END) as usize;
        inner.read_at(&mut bytes[..kept], 0)?;
        if len < END {
            inner.set_len(END)?;
        }
        inner.write_at(&MARKER, 0)?;
        Ok(Self::with(inner, len, Head { bytes, stage: Stage::Marked }))
    }

    /// Goes on with a file that was marked before; `first` are its
    /// [first bytes](Self::first_bytes) as they were then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when it does not begin with the marker.
    pub fn resume(inner: D, first: [u8; 8]) -> Result<Self> {
        if !is_marked(&inner)? {
            return Err(Error::new(ErrorKind::Invalid, Operation::Open, inner.label())
                .because("it does not bear the marker of an unfinished file"));
        }
        let len = inner.len();
        Ok(Self::with(inner, len, Head { bytes: first, stage: Stage::Marked }))
    }

    /// Goes on with a file that may have been [finished](Self::finish) already: one that does not
    /// bear the marker is taken for it.
    ///
    /// # Assumptions
    ///
    /// The caller knows from elsewhere that the file was about to be finished.
    pub fn resume_at_the_end(inner: D, first: [u8; 8]) -> Result<Self> {
        let stage = if is_marked(&inner)? { Stage::Marked } else { Stage::Finished };
        let len = inner.len();
        Ok(Self::with(inner, len, Head { bytes: first, stage }))
    }

    /// Returns the first bytes of the disk, which the file does not have yet: for a journal.
    pub fn first_bytes(&self) -> [u8; 8] {
        self.head().bytes
    }

    /// Returns the file below.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// Makes everything durable, then the first bytes in place of the marker. After that the file
    /// is the disk; calling it again only flushes.
    pub fn finish(&self) -> Result<()> {
        let mut head = self.head();
        self.inner.flush()?;
        if head.stage == Stage::Finished {
            return Ok(());
        }
        let len = self.len();
        if len < END {
            self.inner.set_len(len)?;
        }
        self.inner.write_at(&head.bytes[..len.min(END) as usize], 0)?;
        head.stage = Stage::Finished;
        self.inner.flush()
    }

    fn with(inner: D, len: u64, head: Head) -> Self {
        Self { inner, len: AtomicU64::new(len), head: Mutex::new(head) }
    }

    // A thread that panicked may have left a write half done, which is what a failed write may do.
    fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the head where a range begins in it, and returns how many bytes of the
    /// range were in it. `None` stands for a file that is finished.
    fn at_head(&self, offset: u64, length: u64, change: impl FnOnce(&mut [u8])) -> Option<u64> {
        if offset >= END {
            return Some(0);
        }
        let mut head = self.head();
        if head.stage == Stage::Finished {
            return None;
        }
        let within = length.min(END - offset);
        change(&mut head.bytes[offset as usize..(offset + within) as usize]);
        Some(within)
    }

    /// Puts what belongs to the head there; returns how many bytes that were.
    fn keep(&self, buf: &[u8], offset: u64) -> Result<usize> {
        let length = buf.len() as u64;
        check_range(Operation::Write, self.label(), self.len(), offset, length)?;
        let kept = self.at_head(offset, length, |head| head.copy_from_slice(&buf[..head.len()]));
        Ok(kept.unwrap_or(0) as usize)
    }

    /// Zeroes what of a range is in the head; returns the rest.
    fn zero_head(&self, range: Range<u64>) -> Range<u64> {
        let length = range.end - range.start;
        let zeroed = self.at_head(range.start, length, |head| head.fill(0));
        range.start + zeroed.unwrap_or(0)..range.end
    }
}

impl<D: Resizable> Disk for Unfinished<D> {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn label(&self) -> &str {
        self.inner.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let length = buf.len() as u64;
        check_range(Operation::Read, self.label(), self.len(), offset, length)?;
        let kept = self.at_head(offset, length, |head| {
            buf[..head.len()].copy_from_slice(head);
        });
        match kept.unwrap_or(0) {
            kept if kept == length => Ok(()),
            kept => self.inner.read_at(&mut buf[kept as usize..], offset + kept),
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let kept = self.keep(buf, offset)?;
        if kept == buf.len() {
            return Ok(());
        }
        self.inner.write_at(&buf[kept..], offset + kept as u64)
    }

    fn write_scratch_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let kept = self.keep(buf, offset)?;
        if kept == buf.len() {
            return Ok(());
        }
        self.inner.write_scratch_at(&mut buf[kept..], offset + kept as u64)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        let len = self.len();
        if offset < END {
            return Ok(Extent { range: offset..END.min(len), kind: ExtentKind::Data });
        }
        let Extent { range, kind } = self.inner.extent_at(offset)?;
        Ok(Extent { range: offset..range.end.min(len), kind })
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::Discard, &range)?;
        let rest = range.start.max(END)..range.end;
        if !rest.is_empty() {
            self.inner.discard(rest)?;
        }
        // Only now, since a discard that is refused changes nothing.
        self.zero_head(range);
        Ok(())
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::WriteZeroes, &range)?;
        let rest = self.zero_head(range);
        if rest.is_empty() { Ok(()) } else { self.inner.write_zeroes(rest) }
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
}

impl<D: Resizable> Resizable for Unfinished<D> {
    fn set_len(&self, len: u64) -> Result<()> {
        let mut head = self.head();
        let old = self.len();
        let shortest = match head.stage {
            Stage::Marked => END,
            Stage::Finished => 0,
        };
        // What is cut off cannot be reached any more before it is gone.
        self.len.store(len.min(old), Ordering::Release);
        self.inner
            .set_len(len.max(shortest))
            .inspect_err(|_| self.len.store(old, Ordering::Release))?;
        head.bytes[len.min(END) as usize..].fill(0);
        self.len.store(len, Ordering::Release);
        Ok(())
    }
}

/// Returns whether a file begins with the marker of an unfinished one.
///
/// # Errors
///
/// When it cannot be read.
pub fn is_marked(file: &dyn Disk) -> Result<bool> {
    let mut first = [0; MARKER_LEN];
    if file.len() < END {
        return Ok(false);
    }
    file.read_at(&mut first, 0)?;
    Ok(first == MARKER)
}

/// What an unfinished file begins with. The zero in front keeps it from being text.
const MARKER: [u8; MARKER_LEN] = *b"\0STRGRM\x01";

const MARKER_LEN: usize = 8;

const END: u64 = MARKER_LEN as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Memory, ReadOnly, conformance};

    #[test]
    fn passes_the_conformance_suite_before_and_after_it_is_finished() {
        for granularity in [1, 512] {
            conformance::run(granularity, &|len| {
                Box::new(Unfinished::new(Memory::new(len)).unwrap())
            });
            conformance::run(granularity, &|len| {
                let disk = Unfinished::new(Memory::new(len)).unwrap();
                disk.finish().unwrap();
                Box::new(disk)
            });
        }
    }

    #[test]
    fn the_file_bears_the_marker_until_the_end_and_then_what_was_written() {
        let file = Memory::new(0);
        let disk = Unfinished::new(&file).unwrap();
        assert_eq!((disk.len(), file.to_vec()), (0, MARKER.to_vec()));
        disk.set_len(20).unwrap();
        disk.write_at(b"0123456789abcdefghij", 0).unwrap();
        disk.write_zeroes(2..4).unwrap();
        disk.write_scratch_at(&mut b"xyz".to_vec(), 6).unwrap();
        disk.discard(0..1).unwrap();
        disk.discard(5..6).unwrap();
        disk.write_zeroes(7..10).unwrap();
        assert_eq!(file.to_vec()[..8], MARKER);
        assert_eq!(disk.first_bytes(), *b"\x001\0\x004\0x\0");
        disk.finish().unwrap();
        assert_eq!(file.to_vec(), *b"\x001\0\x004\0x\0\0\0abcdefghij");
        disk.write_at(b"new", 0).unwrap();
        disk.finish().unwrap();
        assert_eq!(file.to_vec()[..4], *b"new\0");
    }

    #[test]
    fn a_disk_shorter_than_the_marker_ends_as_a_file_of_its_length() {
        for len in 0..9 {
            let file = Memory::new(0);
            let disk = Unfinished::new(&file).unwrap();
            disk.set_len(3).unwrap();
            disk.write_at(b"abc", 0).unwrap();
            disk.set_len(len).unwrap();
            disk.set_len(8).unwrap();
            disk.set_len(len).unwrap();
            assert_eq!(file.len(), 8);
            disk.finish().unwrap();
            let mut expected = b"abc".to_vec();
            expected.resize(len.min(3) as usize, 0);
            expected.resize(len as usize, 0);
            assert_eq!(file.to_vec(), expected);
        }
    }

    #[test]
    fn what_a_file_holds_already_stays_its_content() {
        let file = Memory::from(&b"content of a file"[..]);
        let disk = Unfinished::new(&file).unwrap();
        let mut bytes = [0; 17];
        disk.read_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, *b"content of a file");
        disk.finish().unwrap();
        assert_eq!(file.to_vec(), b"content of a file");
    }

    #[test]
    fn goes_on_with_what_is_marked_and_nothing_else() {
        let file = Memory::new(0);
        let interrupted = Unfinished::new(&file).unwrap();
        interrupted.set_len(100).unwrap();
        interrupted.write_at(b"magic and more", 0).unwrap();
        let first = interrupted.first_bytes();
        let disk = Unfinished::resume(&file, first).unwrap();
        disk.finish().unwrap();
        assert_eq!(file.to_vec()[..14], *b"magic and more");
        for other in [&file, &Memory::new(0), &Memory::from(&MARKER[..7])] {
            let error = Unfinished::resume(other, first).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn goes_on_at_the_end_whether_the_file_was_finished_or_not() {
        let file = Memory::new(20);
        let disk = Unfinished::new(&file).unwrap();
        disk.write_at(b"magic and more", 0).unwrap();
        let first = disk.first_bytes();
        for _ in 0..2 {
            let again = Unfinished::resume_at_the_end(&file, first).unwrap();
            let mut bytes = [0; 14];
            again.read_at(&mut bytes, 0).unwrap();
            assert_eq!(bytes, *b"magic and more");
            again.finish().unwrap();
            assert_eq!(file.to_vec()[..14], *b"magic and more");
        }
        let again = Unfinished::resume_at_the_end(&file, [0; 8]).unwrap();
        again.finish().unwrap();
        assert_eq!(file.to_vec()[..14], *b"magic and more");
    }

    #[test]
    fn a_file_that_cannot_change_is_not_marked() {
        let file = Memory::new(100);
        assert_eq!(Unfinished::new(ReadOnly(&file)).unwrap_err().kind(), ErrorKind::ReadOnly);
    }
}
