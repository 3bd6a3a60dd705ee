//! From one disk to another.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use strongroom_disk::{Disk, ExtentKind};

use crate::buffer::Buffer;
use crate::chunks::{Chunks, Holes};
use crate::zero::data_run;
use crate::{Error, Plan, Progress, Zeroes, workers};

/// What a copy found. `bytes == data_bytes + zero_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The length of the disk.
    pub bytes: u64,
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
/// - The target is the same for any number of threads and reads the same for any chunk size.
///
/// # Assumptions
///
/// Nobody else writes to either disk meanwhile.
///
/// # Errors
///
/// [`Error::Length`] before anything was written; after another error the target holds a part.
pub fn run(
    source: &dyn Disk,
    target: &dyn Disk,
    plan: &Plan,
    progress: &dyn Progress,
    cancelled: &AtomicBool,
) -> Result<Report, Error> {
    let len = check_lengths(source, target)?;
    let holes = match plan.zeroes {
        Zeroes::Write => Holes::Chunks,
        Zeroes::Skip => Holes::Whole,
    };
    let chunks = Chunks::new(len, plan.chunk_size(), holes, |offset| source.extent_at(offset));
    let data_bytes = AtomicU64::new(0);
    workers::run(plan.threads, cancelled, |brake| {
        let mut copier = Copier { source, target, buffer: Buffer::new(plan.chunk_size()) };
        while brake.go_on()? {
            let Some(piece) = chunks.next()? else { break };
            let length = piece.range.end - piece.range.start;
            let data = match (piece.kind, plan.zeroes) {
                (ExtentKind::Data, Zeroes::Write) => copier.copy(piece.range)?,
                (ExtentKind::Data, Zeroes::Skip) => copier.copy_data(piece.range)?,
                (_, Zeroes::Write) => copier.write_zeroes(piece.range)?,
                (_, Zeroes::Skip) => 0,
            };
            data_bytes.fetch_add(data, Ordering::Relaxed);
            progress.advance(length);
        }
        Ok(())
    })?;
    target.flush()?;
    let data_bytes = data_bytes.into_inner();
    Ok(Report { bytes: len, data_bytes, zero_bytes: len - data_bytes })
}

/// What one thread works with. Its methods return how many bytes were data.
struct Copier<'a> {
    source: &'a dyn Disk,
    target: &'a dyn Disk,
    buffer: Buffer,
}

impl Copier<'_> {
    fn copy(&mut self, range: Range<u64>) -> Result<u64, Error> {
        let length = range.end - range.start;
        let buf = self.buffer.first(length);
        self.source.read_at(buf, range.start)?;
        self.target.write_scratch_at(buf, range.start)?;
        Ok(length)
    }

    /// Copies all but longer runs of zeros.
    fn copy_data(&mut self, range: Range<u64>) -> Result<u64, Error> {
        let buf = self.buffer.first(range.end - range.start);
        self.source.read_at(buf, range.start)?;
        let mut written = 0;
        let mut end = 0;
        while let Some(run) = data_run(buf, end) {
            end = run.end;
            written += run.len() as u64;
            self.target.write_scratch_at(&mut buf[run.clone()], range.start + run.start as u64)?;
        }
        Ok(written)
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
