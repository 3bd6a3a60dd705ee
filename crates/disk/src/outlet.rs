//! A pipe as a disk.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::{check_extent_offset, check_range, check_within};
use crate::{Disk, Error, ErrorKind, Extent, ExtentKind, Operation, Resizable, Result};

/// A disk whose bytes go to a writer, standard output mostly, from the first to the last one.
///
/// # Guarantees
///
/// - Writes must come in ascending order; gaps between them become zeros. What would have to go
///   back is refused, and nothing of it written.
/// - After [`finish`](Self::finish) the writer has been given exactly as many bytes as the disk is
///   long.
/// - A writer that fails, as a pipe whose reader has gone does, is never written to again.
#[derive(Debug)]
pub struct Outlet<W> {
    label: String,
    len: AtomicU64,
    stream: Mutex<Stream<W>>,
}

#[derive(Debug)]
struct Stream<W> {
    writer: W,
    /// How many bytes the writer has been given.
    cursor: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Failed,
}

impl<W: Write + Send> Outlet<W> {
    /// Returns a disk of `len` bytes that go to `writer`, which errors call `label`.
    pub fn new(writer: W, label: impl Into<String>, len: u64) -> Self {
        let stream = Stream { writer, cursor: 0, state: State::Open };
        Self { label: label.into(), len: AtomicU64::new(len), stream: Mutex::new(stream) }
    }

    /// Fills the rest of the disk with zeros, flushes the writer and gives it back.
    ///
    /// # Errors
    ///
    /// Those of the writer, in the source.
    pub fn finish(self) -> Result<W> {
        {
            let mut stream = self.stream();
            self.fill_up_to(&mut stream, self.len())?;
            self.flush_stream(&mut stream)?;
        }
        Ok(self.stream.into_inner().unwrap_or_else(PoisonError::into_inner).writer)
    }

    // A thread that panicked was in the writer, after which the cursor tells no more than before.
    fn stream(&self) -> MutexGuard<'_, Stream<W>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses to begin at an offset that the cursor has passed, and to go on after a failure.
    fn check_order(
        &self,
        stream: &Stream<W>,
        operation: Operation,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        let refuse = |kind, reason: String| {
            Err(Error::new(kind, operation, &self.label).at(offset, length).because(reason))
        };
        if stream.state == State::Failed {
            return refuse(ErrorKind::Other, "it has failed before".to_owned());
        }
        if offset < stream.cursor {
            let cursor = stream.cursor;
            return refuse(
                ErrorKind::Unsupported,
                format!("{} cannot go back: {cursor} bytes are written", self.label),
            );
        }
        Ok(())
    }

    fn fill_up_to(&self, stream: &mut Stream<W>, end: u64) -> Result<()> {
        while stream.cursor < end {
            let length = (end - stream.cursor).min(ZEROES.len() as u64);
            self.put(stream, &ZEROES[..length as usize])?;
        }
        Ok(())
    }

    /// Gives bytes to the writer, and counts them one by one: it may fail halfway.
    fn put(&self, stream: &mut Stream<W>, mut bytes: &[u8]) -> Result<()> {
        let (offset, length) = (stream.cursor, bytes.len() as u64);
        self.check_order(stream, Operation::Write, offset, length)?;
        while !bytes.is_empty() {
            let source = match stream.writer.write(bytes) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(written) => {
                    stream.cursor += written as u64;
                    bytes = &bytes[written..];
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            stream.state = State::Failed;
            let failed = Error::from_io(Operation::Write, &self.label, source);
            return Err(failed.at(offset, length));
        }
        Ok(())
    }

    fn flush_stream(&self, stream: &mut Stream<W>) -> Result<()> {
        loop {
            match stream.writer.flush() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    return result
                        .map_err(|error| Error::from_io(Operation::Flush, &self.label, error));
                }
            }
        }
    }
}

impl<W: Write + Send> Resizable for Outlet<W> {
    /// Changes how many bytes the writer will have been given at the end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when it was given more already.
    fn set_len(&self, len: u64) -> Result<()> {
        let stream = self.stream();
        if len < stream.cursor {
            return Err(Error::new(ErrorKind::Unsupported, Operation::Resize, &self.label)
                .because(format!("{} bytes are written already", stream.cursor)));
        }
        self.len.store(len, Ordering::Release);
        Ok(())
    }
}

impl<W: Write + Send> Disk for Outlet<W> {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let length = buf.len() as u64;
        check_range(Operation::Read, &self.label, self.len(), offset, length)?;
        Err(Error::new(ErrorKind::Unsupported, Operation::Read, &self.label)
            .at(offset, length)
            .because("what went into a pipe cannot be read back"))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let length = buf.len() as u64;
        check_range(Operation::Write, &self.label, self.len(), offset, length)?;
        if buf.is_empty() {
            return Ok(());
        }
        let mut stream = self.stream();
        self.check_order(&stream, Operation::Write, offset, length)?;
        self.fill_up_to(&mut stream, offset)?;
        self.put(&mut stream, buf)
    }

    /// Tells data up to the cursor, and nothing stored behind it: what is never written there
    /// becomes zeros.
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        let cursor = self.stream().cursor;
        Ok(if offset < cursor {
            Extent { range: offset..cursor, kind: ExtentKind::Data }
        } else {
            Extent { range: offset..self.len(), kind: ExtentKind::Unallocated }
        })
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        let length = check_within(self, Operation::Discard, &range)?;
        Err(Error::new(ErrorKind::Unsupported, Operation::Discard, &self.label)
            .at(range.start, length)
            .because("a pipe has nothing to give up"))
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        let length = check_within(self, Operation::WriteZeroes, &range)?;
        if length == 0 {
            return Ok(());
        }
        let mut stream = self.stream();
        self.check_order(&stream, Operation::WriteZeroes, range.start, length)?;
        self.fill_up_to(&mut stream, range.end)
    }

    fn flush(&self) -> Result<()> {
        self.flush_stream(&mut self.stream())
    }
}

static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use proptest::prelude::*;

    use super::*;

    fn outlet(len: u64) -> Outlet<Vec<u8>> {
        Outlet::new(Vec::new(), "standard output", len)
    }

    #[test]
    fn gaps_and_the_rest_become_zeros() {
        let disk = outlet(200_000);
        disk.write_at(b"one", 3).unwrap();
        disk.write_scratch_at(&mut b"two".to_vec(), 150_000).unwrap();
        disk.flush().unwrap();
        let bytes = disk.finish().unwrap();
        let mut expected = vec![0; 200_000];
        expected[3..6].copy_from_slice(b"one");
        expected[150_000..150_003].copy_from_slice(b"two");
        assert!(bytes == expected);
    }

    #[test]
    fn never_goes_back_and_reads_nothing() {
        let disk = outlet(100);
        disk.write_at(&[1; 10], 0).unwrap();
        for error in [
            disk.write_at(&[2], 9).unwrap_err(),
            disk.write_zeroes(0..50).unwrap_err(),
            disk.discard(0..10).unwrap_err(),
            disk.read_at(&mut [0], 0).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        let text = disk.write_at(&[2; 4], 2).unwrap_err().to_string();
        assert_eq!(
            text,
            "cannot write 4 bytes at offset 2 of standard output: \
             standard output cannot go back: 10 bytes are written"
        );
        assert_eq!(disk.write_at(&[2; 4], 97).unwrap_err().kind(), ErrorKind::PastEnd);
        assert_eq!(disk.write_zeroes(97..101).unwrap_err().kind(), ErrorKind::PastEnd);
        disk.write_at(&[], 3).unwrap();
        disk.write_at(&[3; 90], 10).unwrap();
        assert_eq!(disk.finish().unwrap(), [[1; 10].as_slice(), &[3; 90]].concat());
    }

    #[test]
    fn what_is_not_written_yet_is_not_stored() {
        let disk = outlet(100);
        disk.write_at(&[0; 10], 5).unwrap();
        let extents: Vec<_> = crate::Extents::new(&disk, 0..100).map(Result::unwrap).collect();
        assert_eq!(
            extents,
            [
                Extent { range: 0..15, kind: ExtentKind::Data },
                Extent { range: 15..100, kind: ExtentKind::Unallocated },
            ]
        );
        assert_eq!(disk.extent_at(100).unwrap_err().kind(), ErrorKind::PastEnd);
    }

    #[test]
    fn a_pipe_without_a_reader_is_an_error_with_its_cause_and_stays_one() {
        let (reader, writer) = io::pipe().unwrap();
        let disk = Outlet::new(writer, "standard output", 1 << 20);
        disk.write_at(&[1; 100], 0).unwrap();
        drop(reader);
        let error = disk.write_at(&[1; 100], 100).unwrap_err();
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::BrokenPipe);
        let again = disk.write_at(&[1; 100], 200).unwrap_err();
        assert!(again.to_string().ends_with("it has failed before"), "{again}");
        assert!(disk.finish().is_err());
    }

    /// Takes few bytes at a time, and is interrupted before each.
    struct Slow(Vec<u8>, bool);

    impl Write for Slow {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let taken = buf.len().min(777);
            self.0.extend_from_slice(&buf[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn writes_in_order_make_the_bytes_of_any_disk(
            steps in prop::collection::vec((0_u64..5000, 0_usize..5000, any::<u8>(), any::<bool>()), 0..40),
            rest in 0_u64..5000,
        ) {
            let len = steps.iter().map(|step| step.0 + step.1 as u64).sum::<u64>() + rest;
            let disk = Outlet::new(Slow(Vec::new(), false), "pipe", len);
            let mut expected = vec![0; len as usize];
            let mut offset = 0;
            for (gap, length, byte, zeroes) in steps {
                offset += gap;
                let range = offset as usize..offset as usize + length;
                if zeroes {
                    disk.write_zeroes(offset..offset + length as u64).unwrap();
                } else {
                    disk.write_at(&vec![byte; length], offset).unwrap();
                    expected[range].fill(byte);
                }
                offset += length as u64;
            }
            prop_assert!(disk.finish().unwrap().0 == expected);
        }
    }
}
