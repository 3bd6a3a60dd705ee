//! Whether two disks hold the same.

use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_disk::{Disk, Error as DiskError, Extent, ExtentKind};

use crate::buffer::Buffer;
use crate::chunks::{Chunks, Holes};
use crate::queue::Queue;
use crate::{Error, Pass, Zeroes, workers};

/// How two disks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Not at all.
    Equal,
    /// The first differing byte is at this offset.
    DifferentAt(u64),
    /// One is longer; no byte was looked at.
    DifferentLength {
        /// The length of the first in bytes.
        left: u64,
        /// The length of the second in bytes.
        right: u64,
    },
}

/// Compares the contents of two disks. Where both say that they read as zeros, nothing is read.
///
/// # Guarantees
///
/// The answer is the same for any number of threads. The first error stops all of them;
/// cancelling does so within a chunk.
pub fn compare(left: &dyn Disk, right: &dyn Disk, pass: &Pass<'_>) -> Result<Comparison, Error> {
    // Holes of both are passed over, whatever a copy would do with them.
    let mut plan = pass.plan;
    plan.zeroes = Zeroes::Skip;
    if left.len() != right.len() {
        return Ok(Comparison::DifferentLength { left: left.len(), right: right.len() });
    }
    let chunks = Chunks::new(0..left.len(), &plan, Holes::Whole, |offset| {
        common_extent(left, right, offset)
    });
    let queue = Queue::new(chunks, &plan, None);
    let first = AtomicU64::new(NONE);
    workers::run(plan.threads, pass.cancelled, |brake| {
        let mut comparer = Comparer {
            left,
            right,
            left_buffer: Buffer::new(plan.chunk_size()),
            right_buffer: Buffer::new(plan.chunk_size()),
        };
        // Whatever lies before a difference was handed out before it, to someone who finishes it.
        while first.load(Ordering::Relaxed) == NONE {
            let Some(piece) = queue.take(brake, |chunks| Ok(chunks.next()?))? else { break };
            if piece.kind == ExtentKind::Data
                && let Some(offset) = comparer.first_difference(&piece)?
            {
                first.fetch_min(offset, Ordering::Relaxed);
            }
            pass.progress.advance(piece.range.end - piece.range.start);
        }
        Ok(())
    })?;
    Ok(match first.into_inner() {
        NONE => Comparison::Equal,
        offset => Comparison::DifferentAt(offset),
    })
}

struct Comparer<'a> {
    left: &'a dyn Disk,
    right: &'a dyn Disk,
    left_buffer: Buffer,
    right_buffer: Buffer,
}

impl Comparer<'_> {
    fn first_difference(&mut self, piece: &Extent) -> Result<Option<u64>, Error> {
        let (start, length) = (piece.range.start, piece.range.end - piece.range.start);
        let left = self.left_buffer.first(length);
        let right = self.right_buffer.first(length);
        self.left.read_at(left, start)?;
        self.right.read_at(right, start)?;
        // Equality of slices is much faster than looking for the place.
        if left == right {
            return Ok(None);
        }
        let index = left.iter().zip(right.iter()).position(|(left, right)| left != right);
        Ok(index.map(|index| start + index as u64))
    }
}

/// Returns the extent at `offset` that is zero in both disks or data in one of them.
fn common_extent(left: &dyn Disk, right: &dyn Disk, offset: u64) -> Result<Extent, DiskError> {
    let (left, right) = (left.extent_at(offset)?, right.extent_at(offset)?);
    let end = left.range.end.min(right.range.end);
    let kind = match left.kind.reads_as_zeros() && right.kind.reads_as_zeros() {
        true => ExtentKind::Zero,
        false => ExtentKind::Data,
    };
    Ok(Extent { range: offset..end, kind })
}

/// No difference so far: no disk has a byte there.
const NONE: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::atomic::AtomicBool;

    use strongroom_disk::{ErrorKind, Memory};
    use strongroom_testkit::{Fault, FaultyDisk, Pattern};

    use super::*;
    use crate::Plan;

    fn compare_with(
        threads: usize,
        left: &dyn Disk,
        right: &dyn Disk,
    ) -> Result<Comparison, Error> {
        let plan = Plan::new(NonZeroUsize::new(threads).unwrap(), Zeroes::Write)
            .with_chunk_size(NonZeroUsize::new(16384).unwrap());
        compare(left, right, &Pass::new(plan, &(), &AtomicBool::new(false)))
    }

    fn disk(len: u64) -> Memory {
        let disk = Memory::new(len);
        Pattern::sparse(1, 5000).write_to(&disk).unwrap();
        disk
    }

    #[test]
    fn holes_and_written_zeros_are_equal() {
        let dense = Memory::from(&disk(1_000_001).to_vec()[..]);
        for threads in [1, 3] {
            let result = compare_with(threads, &disk(1_000_001), &dense).unwrap();
            assert_eq!(result, Comparison::Equal);
        }
    }

    #[test]
    fn the_first_difference_is_found_by_any_number_of_threads() {
        for place in [0, 5000, 16383, 16384, 777_777, 1_000_000] {
            let changed = disk(1_000_001);
            for offset in [place, 1_000_000] {
                let mut byte = [0];
                disk(1_000_001).read_at(&mut byte, offset).unwrap();
                changed.write_at(&[!byte[0]], offset).unwrap();
            }
            for threads in [1, 2, 7] {
                let result = compare_with(threads, &disk(1_000_001), &changed).unwrap();
                assert_eq!(result, Comparison::DifferentAt(place));
            }
        }
    }

    #[test]
    fn lengths_differ_before_anything_is_read() {
        let faulty = FaultyDisk::new(disk(5), Fault::Io, 0);
        assert_eq!(
            compare_with(1, &faulty, &disk(6)).unwrap(),
            Comparison::DifferentLength { left: 5, right: 6 }
        );
    }

    #[test]
    fn holes_of_both_are_not_read() {
        let faulty = FaultyDisk::new(Memory::new(1 << 40), Fault::Io, 1);
        assert_eq!(compare_with(1, &faulty, &Memory::new(1 << 40)).unwrap(), Comparison::Equal);
        assert_eq!(faulty.operations(), 1);
    }

    #[test]
    fn a_read_that_fails_anywhere_is_an_error() {
        let counting = FaultyDisk::never(disk(200_000), Fault::Io);
        compare_with(1, &counting, &disk(200_000)).unwrap();
        for ordinal in 0..counting.operations() {
            let faulty = FaultyDisk::new(disk(200_000), Fault::Io, ordinal);
            match compare_with(2, &disk(200_000), &faulty) {
                Err(Error::Disk(error)) => assert_eq!(error.kind(), ErrorKind::Other),
                other => unreachable!("operation {ordinal} failed but the result is {other:?}"),
            }
        }
    }
}
