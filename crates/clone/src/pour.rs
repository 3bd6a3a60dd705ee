//! From a stream to a disk that grows.

use std::io::{ErrorKind, Read};
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_disk::{Extent, ExtentKind, Resizable};

use crate::buffer::Buffer;
use crate::copy::{check_start, write};
use crate::ledger::{ledger_of, settle};
use crate::queue::Queue;
use crate::workers::Brake;
use crate::{Error, Pass, Plan, Report, workers};

/// Copies a stream whose length nobody knows to `target`, which becomes as long as the stream, and
/// makes it durable. The length must be a multiple of `unit` bytes, such as the target's encryption
/// sector; the report tells it.
///
/// The threads take turns at reading, and one more than planned works, so that someone reads while
/// the others write. A read that blocks is waited for; one that returns
/// [`Interrupted`](ErrorKind::Interrupted) is tried again, unless the pass was cancelled.
///
/// # Guarantees
///
/// - As [`run`](crate::run) makes them. Whatever the target held before, it holds the stream alone
///   when this returns `Ok`.
/// - With [`Zeroes::Skip`](crate::Zeroes::Skip) runs of zeros in the stream become holes.
///
/// # Assumptions
///
/// Nobody else writes to the target meanwhile. Its length can change while others write; what it
/// grows by reads as zeros with `Zeroes::Skip`, and as anything otherwise. Where the pass goes on, the
/// stream begins with the byte at the resumption's start, and what the target has beyond is given up.
///
/// # Errors
///
/// [`Error::UnalignedEnd`], when all but the last chunk was written, and [`Error::Stream`]. After an
/// error the target holds a part, and may be longer than it.
pub fn pour(
    source: &mut (dyn Read + Send),
    target: &dyn Resizable,
    unit: NonZeroU64,
    pass: &Pass<'_>,
) -> Result<Report, Error> {
    let (plan, start) = (&pass.plan, check_start(pass.start(), target)?);
    if pass.cancelled.load(Ordering::Relaxed) {
        return Err(Error::Cancelled);
    }
    if target.len() != start {
        target.set_len(start)?;
    }
    let stream = Stream { source, target, unit, offset: start, room: start, state: State::Open };
    let ledger = ledger_of(pass, target);
    let queue = Queue::new(stream, plan, ledger.as_ref());
    let data_bytes = AtomicU64::new(0);
    pass.progress.advance(start);
    // One reads while the others write, unless all is to go in order.
    let threads = match plan.threads {
        NonZeroUsize::MIN => NonZeroUsize::MIN,
        threads => threads.saturating_add(1),
    };
    let result = workers::run(threads, pass.cancelled, |brake| {
        let mut buffer = Buffer::new(plan.chunk_size());
        while let Some(piece) = queue.take(brake, |stream| stream.next(&mut buffer, plan, brake))? {
            let length = piece.range.end - piece.range.start;
            let data = write(target, buffer.first(length), piece.range.start, plan)?;
            data_bytes.fetch_add(data, Ordering::Relaxed);
            pass.progress.advance(length);
            queue.finish(&piece)?;
        }
        Ok(())
    });
    let bytes = queue.into_source().expect("a panic would have ended the pass").offset;
    let result = result.and_then(|()| match target.len() == bytes {
        true => Ok(()),
        false => Ok(target.set_len(bytes)?),
    });
    settle(result, target, ledger.as_ref())?;
    let data_bytes = data_bytes.into_inner();
    Ok(Report { bytes, resumed_bytes: start, data_bytes, zero_bytes: bytes - start - data_bytes })
}

/// The stream, and the end of the target to which it goes.
struct Stream<'a> {
    source: &'a mut (dyn Read + Send),
    target: &'a dyn Resizable,
    unit: NonZeroU64,
    /// How much of it has been handed out.
    offset: u64,
    /// How long the target is.
    room: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
}

impl Stream<'_> {
    /// Reads the next chunk and makes room for it in the target; `None` at the end, or when the
    /// work was stopped.
    fn next(
        &mut self,
        buffer: &mut Buffer,
        plan: &Plan,
        brake: &Brake<'_>,
    ) -> Result<Option<Extent>, Error> {
        let chunk = plan.chunk_size() as u64;
        let Some(length) = self.read(buffer.first(chunk - self.offset % chunk), brake)? else {
            return Ok(None);
        };
        let range = self.offset..self.offset + length;
        if self.state == State::Ended && !range.end.is_multiple_of(self.unit.get()) {
            return Err(Error::UnalignedEnd { len: range.end, unit: self.unit });
        }
        if range.is_empty() {
            return Ok(None);
        }
        // The last chunk ends where the target does: a target may treat that end as a whole one.
        let room = match self.state {
            State::Open => range.end.next_multiple_of(STEP).next_multiple_of(self.unit.get()),
            State::Ended => range.end,
        };
        if self.state == State::Ended || range.end > self.room {
            self.target.set_len(room)?;
            self.room = room;
        }
        self.offset = range.end;
        Ok(Some(Extent { range, kind: ExtentKind::Data }))
    }

    /// Reads until the buffer is full or the stream ends, and returns how much was read; `None`
    /// when the work was stopped.
    fn read(&mut self, buf: &mut [u8], brake: &Brake<'_>) -> Result<Option<u64>, Error> {
        let mut filled = 0;
        while filled < buf.len() && self.state == State::Open {
            if !brake.go_on()? {
                return Ok(None);
            }
            match self.source.read(&mut buf[filled..]) {
                Ok(0) => self.state = State::Ended,
                Ok(length) => filled += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Stream { offset: self.offset + filled as u64, source });
                }
            }
        }
        Ok(Some(filled as u64))
    }
}

/// The target grows by so many bytes at once.
const STEP: u64 = 64 << 20;

#[cfg(test)]
mod tests;
