//! From one disk to another.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_disk::{Disk, Extent, ExtentKind};

use crate::buffer::Buffer;
use crate::chunks::{Chunks, Holes};
use crate::ledger::{ledger_of, settle};
use crate::queue::Queue;
use crate::zero::data_run;
use crate::{Error, Pass, Plan, Zeroes, workers};

/// What a copy found. `bytes == resumed_bytes + data_bytes + zero_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The length of the disk.
    pub bytes: u64,
    /// What an earlier pass had done, and this one did not look at.
    pub resumed_bytes: u64,
    /// What was written as data.
    pub data_bytes: u64,
    /// What was a hole in the source, or became one in the target.
    pub zero_bytes: u64,
}

/// Copies all of `source` to `target` and makes it durable.
///
/// # Guarantees
///
/// - When it returns `Ok`, everything in the target survives a loss of power: a header may follow.
/// - The first error stops all threads and none is left running; cancelling does so within a
///   chunk.
/// - The target is the same for any number of threads and reads the same for any chunk size. A
///   single thread writes from the beginning to the end, as a pipe needs it.
/// - With a resumption, at most 64 MiB that was read and written, or one chunk if that is more, has
///   to be done again whatever happens. After cancelling, or an error that is not about making
///   things durable, what is done is made durable and recorded before this returns.
///
/// # Assumptions
///
/// Nobody else writes to either disk meanwhile. A pass that goes on does so with the same source and
/// the same `zeroes` as those before, into the target that they left.
///
/// # Errors
///
/// [`Error::Length`] and [`Error::StartPastEnd`] before anything was written; after another error
/// the target holds a part.
pub fn run(source: &dyn Disk, target: &dyn Disk, pass: &Pass<'_>) -> Result<Report, Error> {
    let (plan, len) = (&pass.plan, check_lengths(source, target)?);
    let start = check_start(pass.start(), target)?;
    let resumed_bytes = start - start % plan.alignment() as u64;
    let holes = match plan.zeroes {
        Zeroes::Write => Holes::Chunks,
        Zeroes::Skip => Holes::Whole,
    };
    let chunks = Chunks::new(start..len, plan, holes, |offset| source.extent_at(offset));
    let ledger = ledger_of(pass, target);
    let queue = Queue::new(chunks, plan, ledger.as_ref());
    let data_bytes = AtomicU64::new(0);
    pass.progress.advance(resumed_bytes);
    let result = workers::run(plan.threads, pass.cancelled, |brake| {
        let buffer = Buffer::new(plan.chunk_size());
        let mut copier = Copier { source, target, plan, buffer };
        while let Some(piece) = queue.take(brake, |chunks| Ok(chunks.next()?))? {
            let data = copier.copy(&piece)?;
            data_bytes.fetch_add(data, Ordering::Relaxed);
            pass.progress.advance(piece.range.end - piece.range.start);
            queue.finish(&piece)?;
        }
        Ok(())
    });
    settle(result, target, ledger.as_ref())?;
    let data_bytes = data_bytes.into_inner();
    let zero_bytes = len - resumed_bytes - data_bytes;
    Ok(Report { bytes: len, resumed_bytes, data_bytes, zero_bytes })
}

/// Writes the bytes of a chunk that begins at `offset`, and returns how many were data. May leave
/// anything in the buffer.
pub(crate) fn write(
    target: &dyn Disk,
    buf: &mut [u8],
    offset: u64,
    plan: &Plan,
) -> Result<u64, Error> {
    if plan.zeroes == Zeroes::Write {
        target.write_scratch_at(buf, offset)?;
        return Ok(buf.len() as u64);
    }
    let mut written = 0;
    let mut end = 0;
    while let Some(run) = data_run(buf, end, plan.granule()) {
        end = run.end;
        written += run.len() as u64;
        target.write_scratch_at(&mut buf[run.clone()], offset + run.start as u64)?;
    }
    Ok(written)
}

/// Returns where to go on, which the target must have.
pub(crate) fn check_start(start: u64, target: &dyn Disk) -> Result<u64, Error> {
    if start <= target.len() {
        return Ok(start);
    }
    Err(Error::StartPastEnd { label: target.label().to_owned(), start, len: target.len() })
}

/// What one thread works with. Its methods return how many bytes were data.
struct Copier<'a> {
    source: &'a dyn Disk,
    target: &'a dyn Disk,
    plan: &'a Plan,
    buffer: Buffer,
}

impl Copier<'_> {
    fn copy(&mut self, piece: &Extent) -> Result<u64, Error> {
        let range = piece.range.clone();
        match (piece.kind, self.plan.zeroes) {
            (ExtentKind::Data, _) => self.copy_data(range),
            (_, Zeroes::Write) => self.write_zeroes(range),
            (_, Zeroes::Skip) => Ok(0),
        }
    }

    fn copy_data(&mut self, range: Range<u64>) -> Result<u64, Error> {
        let buf = self.buffer.first(range.end - range.start);
        self.source.read_at(buf, range.start)?;
        write(self.target, buf, range.start, self.plan)
    }

    fn write_zeroes(&mut self, range: Range<u64>) -> Result<u64, Error> {
        // Filled anew each time: the target may have left ciphertext in it.
        let buf = self.buffer.first(range.end - range.start);
        buf.fill(0);
        self.target.write_scratch_at(buf, range.start)?;
        Ok(0)
    }
}

fn check_lengths(source: &dyn Disk, target: &dyn Disk) -> Result<u64, Error> {
    if source.len() == target.len() {
        return Ok(source.len());
    }
    Err(Error::Length {
        source_label: source.label().to_owned(),
        source_len: source.len(),
        target_label: target.label().to_owned(),
        target_len: target.len(),
    })
}

#[cfg(test)]
mod tests;
