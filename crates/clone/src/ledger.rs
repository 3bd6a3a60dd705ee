//! What is done and what is durable, so that another pass can go on there.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use strongroom_disk::Disk;

use crate::workers::{Brake, LONGEST_SLEEP};
use crate::{Checkpoints, Error, Pass, Plan, Resumption, Rhythm};

/// Keeps the books of a pass that may be resumed, and makes its checkpoints.
///
/// # Guarantees
///
/// - What is told to be durable was finished before a flush that succeeded.
/// - Work that begins ends at most [`MOST_AHEAD`] bytes of work behind what is durable, unless it
///   is the only piece there.
/// - After a flush or a record that failed nothing more is told to be durable: the next flush could
///   succeed though data were lost.
pub(crate) struct Ledger<'a> {
    target: &'a dyn Disk,
    checkpoints: &'a dyn Checkpoints,
    rhythm: Rhythm,
    /// How much work the next piece may be.
    largest: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Everything below has begun.
    begun: Mark,
    /// The pieces that are not finished, in any order; one for each thread at most.
    underway: Vec<Mark>,
    durable: Mark,
    checkpoint: Checkpoint,
}

/// A place on the disk, and how much work of this pass lies before it.
#[derive(Debug, Clone, Copy)]
struct Mark {
    offset: u64,
    work: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checkpoint {
    Idle,
    Underway,
    Failed,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(target: &'a dyn Disk, resumption: &Resumption<'a>, plan: &Plan) -> Self {
        let start = Mark { offset: resumption.start, work: 0 };
        let state = State {
            begun: start,
            underway: Vec::new(),
            durable: start,
            checkpoint: Checkpoint::Idle,
        };
        Self {
            target,
            checkpoints: resumption.checkpoints,
            rhythm: resumption.rhythm,
            largest: plan.chunk_size() as u64,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Returns once the next piece may begin: whether to go on. The caller sees to it that nobody
    /// else begins a piece meanwhile.
    pub(crate) fn make_room(&self, brake: &Brake<'_>) -> Result<bool, Error> {
        if self.rhythm == Rhythm::AtTheEnd {
            return Ok(true);
        }
        let mut state = self.state();
        while !state.has_room(self.largest) {
            if !brake.go_on()? {
                return Ok(false);
            }
            // Pieces may be so large that room runs out before a checkpoint falls due. Where some
            // are not finished, whoever finishes them makes it.
            let mark = if state.underway.is_empty() { state.due(1) } else { None };
            state = match mark {
                Some(mark) => {
                    drop(state);
                    self.checkpoint(mark)?;
                    self.state()
                }
                None => {
                    let waited = self.changed.wait_timeout(state, LONGEST_SLEEP);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Ok(true)
    }

    /// Notes that someone has begun a piece with so much work, which follows the last one.
    pub(crate) fn begin(&self, range: &Range<u64>, work: u64) {
        let mut state = self.state();
        let mark = Mark { offset: range.start, ..state.begun };
        state.underway.push(mark);
        state.begun = Mark { offset: range.end, work: mark.work + work };
    }

    /// Notes that a piece is in the target, and makes a checkpoint if one is due.
    pub(crate) fn finish(&self, range: &Range<u64>) -> Result<(), Error> {
        let mut state = self.state();
        state.underway.retain(|mark| mark.offset != range.start);
        self.changed.notify_all();
        let least = match self.rhythm {
            Rhythm::Regular => INTERVAL,
            Rhythm::AtTheEnd => return Ok(()),
        };
        match state.due(least) {
            Some(mark) => {
                drop(state);
                self.checkpoint(mark)
            }
            None => Ok(()),
        }
    }

    /// Makes a last checkpoint when everybody has stopped, and returns whether there was anything
    /// to make durable.
    pub(crate) fn close(&self) -> Result<bool, Error> {
        let mark = self.state().due(0);
        match mark {
            Some(mark) => self.checkpoint(mark).map(|()| true),
            None => Ok(false),
        }
    }

    /// Makes durable what is done up to `mark`. One thread at a time.
    fn checkpoint(&self, mark: Mark) -> Result<(), Error> {
        let offset = mark.offset;
        let result = self.target.flush().map_err(Error::from).and_then(|()| {
            self.checkpoints.durable(offset).map_err(|source| {
                let label = self.target.label().to_owned();
                Error::Checkpoint { label, offset, source }
            })
        });
        let mut state = self.state();
        state.checkpoint = match result {
            Ok(()) => {
                state.durable = mark;
                Checkpoint::Idle
            }
            Err(_) => Checkpoint::Failed,
        };
        self.changed.notify_all();
        result
    }

    // Nothing that changes the state can panic half way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, largest: u64) -> bool {
        let ahead = self.begun.work - self.durable.work;
        ahead == 0 || ahead.saturating_add(largest) <= MOST_AHEAD
    }

    /// Returns up to where everything is done, when a checkpoint there saves at least so much work
    /// and nobody makes one. The caller makes it.
    fn due(&mut self, least: u64) -> Option<Mark> {
        let first = self.underway.iter().min_by_key(|mark| mark.offset);
        let done = first.copied().unwrap_or(self.begun);
        let worth = done.offset > self.durable.offset && done.work - self.durable.work >= least;
        if self.checkpoint != Checkpoint::Idle || !worth {
            return None;
        }
        self.checkpoint = Checkpoint::Underway;
        Some(done)
    }
}

/// Makes the target of a pass durable, or as much of it as is done after an error.
///
/// # Errors
///
/// The error of the pass. When it was cancelled, or succeeded: what now failed.
pub(crate) fn settle(
    result: Result<(), Error>,
    target: &dyn Disk,
    ledger: Option<&Ledger<'_>>,
) -> Result<(), Error> {
    match (result, ledger) {
        (Ok(()), Some(ledger)) if ledger.close()? => Ok(()),
        (Ok(()), _) => Ok(target.flush()?),
        (Err(Error::Cancelled), Some(ledger)) => {
            ledger.close()?;
            Err(Error::Cancelled)
        }
        (Err(error), Some(ledger)) => {
            // The first error says what is wrong; work that is not recorded is done again.
            let _ = ledger.close();
            Err(error)
        }
        (Err(error), None) => Err(error),
    }
}

/// Returns the ledger of a pass that may be resumed.
pub(crate) fn ledger_of<'a>(pass: &Pass<'a>, target: &'a dyn Disk) -> Option<Ledger<'a>> {
    let resumption = pass.resumption.as_ref()?;
    Some(Ledger::new(target, resumption, &pass.plan))
}

/// A checkpoint is due after so many bytes of work.
const INTERVAL: u64 = 32 << 20;

/// Work that begins ends within so many bytes of work behind what is durable: what is done again
/// after a crash.
const MOST_AHEAD: u64 = 64 << 20;

#[cfg(test)]
mod tests;
