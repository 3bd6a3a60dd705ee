//! One pass over two disks: how, whom to tell, and where it may stop and go on.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Plan;

/// What a pass is told apart from its disks.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// How the work is done.
    pub plan: Plan,
    /// Is told how it goes on.
    pub progress: &'a dyn Progress,
    /// Becomes true when the pass shall stop.
    pub cancelled: &'a AtomicBool,
    /// Where the pass goes on, and whom it tells what another one need not do again. `None` for a
    /// pass that is whole or nothing. Comparisons ignore it.
    pub resumption: Option<Resumption<'a>>,
}

/// How a pass goes on where an earlier one stopped, and lets a later one do the same.
#[derive(Clone, Copy)]
pub struct Resumption<'a> {
    /// All of the target below this offset is there already, and durable. Zero at first.
    pub start: u64,
    /// Is told what need not be done again.
    pub checkpoints: &'a dyn Checkpoints,
    /// When it is told.
    pub rhythm: Rhythm,
}

/// When a pass makes a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rhythm {
    /// Again and again, and when it ends or is stopped: after a crash at most 64 MiB of data are
    /// copied anew.
    Regular,
    /// Only when it ends or is stopped.
    AtTheEnd,
}

/// Is told how the work goes on.
pub trait Progress: Sync {
    /// So many more bytes of the disk are done, holes included. Called from any thread.
    fn advance(&self, bytes: u64);
}

/// Is told what need not be done again.
pub trait Checkpoints: Sync {
    /// All of the target below `offset` survives a loss of power. Called with rising offsets, from
    /// one thread at a time, while others work on.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being recorded. It ends the pass.
    fn durable(&self, offset: u64) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl<'a> Pass<'a> {
    /// Returns a pass that is whole or nothing.
    pub fn new(plan: Plan, progress: &'a dyn Progress, cancelled: &'a AtomicBool) -> Self {
        Self { plan, progress, cancelled, resumption: None }
    }

    /// Lets the pass go on where another one stopped.
    #[must_use]
    pub fn with_resumption(mut self, start: u64, checkpoints: &'a dyn Checkpoints) -> Self {
        self.resumption = Some(Resumption { start, checkpoints, rhythm: Rhythm::Regular });
        self
    }

    /// Makes a checkpoint when the pass has ended or was stopped, and not before.
    #[must_use]
    pub fn with_last_checkpoint(mut self, checkpoints: &'a dyn Checkpoints) -> Self {
        let rhythm = Rhythm::AtTheEnd;
        self.resumption = Some(Resumption { start: 0, checkpoints, rhythm });
        self
    }

    /// Returns where the pass begins.
    pub(crate) fn start(&self) -> u64 {
        self.resumption.map_or(0, |resumption| resumption.start)
    }
}

impl Progress for () {
    fn advance(&self, _bytes: u64) {}
}

/// Counts the bytes.
impl Progress for AtomicU64 {
    fn advance(&self, bytes: u64) {
        self.fetch_add(bytes, Ordering::Relaxed);
    }
}
