//! Work that takes its time: recorded before it begins, taken up again after a crash or a restart.

mod dispatch;
mod job;
mod queue;
mod run;
mod work;

pub use job::{Job, JobState, NewJob};

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::work::Work;
use crate::Result;
use crate::catalog::Catalog;

/// Does the work of jobs. It is called on a thread of its own for each job.
pub trait Worker: Send + Sync {
    /// Does the work of a job, or what an interrupted run has left of it. It returns soon once
    /// [`Control::cancelled`] is set, and leaves what a later run can go on with unless
    /// [`Control::is_given_up`] tells that there will be none.
    ///
    /// # Errors
    ///
    /// [`Failure`], which says whether trying again may help.
    fn run(&self, job: &Job, control: &Control) -> std::result::Result<(), Failure>;

    /// Returns about how many bytes of memory the job needs while it runs.
    fn memory(&self, job: &Job) -> u64;

    /// Hears of every change of a job after it was recorded: of its state, and now and then of its
    /// progress. It must not block.
    fn changed(&self, job: &Job);
}

/// Why a job did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened, for people. No secret is in it.
    pub message: String,
    /// Whether trying again may help.
    pub again: Again,
}

/// Whether trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Again {
    /// It would fail in the same way.
    Never,
    /// It may, after a while.
    Later,
}

/// How much may go on at once, and how failures are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many jobs run at once.
    pub at_once: usize,
    /// How many bytes of memory they may take together. One that needs more runs alone.
    pub memory: u64,
    /// After how long the first failure is tried again; each later one after twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How often a job is tried in all.
    pub attempts: u32,
}

/// What a running job hears and tells.
#[derive(Clone)]
pub struct Control {
    /// Set when it shall stop.
    pub cancelled: Arc<AtomicBool>,
    /// The most bytes of data to copy in a second.
    pub rate_limit: Option<NonZeroU64>,
    pub(crate) report: Arc<dyn Fn(u64, Option<u64>) + Send + Sync>,
    pub(crate) given_up: Arc<AtomicBool>,
}

/// The jobs of a catalog, and the threads that do them.
///
/// They are begun in the order in which they were submitted; one for which there is no room yet lets none
/// of those behind it pass. When this is dropped, they are [stopped](Self::stop).
///
/// # Guarantees
///
/// - What [`submit`](Self::submit) has returned is done, however often the process is killed, until it is
///   done, has failed for good, or is cancelled.
/// - A job runs once at a time.
/// - Of those that have ended, the last thousand are remembered.
///
/// # Assumptions
///
/// Nobody else works on the jobs of this catalog at the same time.
pub struct Jobs {
    work: Arc<Work>,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
}

impl Jobs {
    /// Starts to work on what is recorded: what was running is taken up again.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn start(
        catalog: Arc<dyn Catalog>,
        worker: Arc<dyn Worker>,
        limits: Limits,
    ) -> Result<Self> {
        Self::start_remembering(catalog, worker, limits, REMEMBERED)
    }

    fn start_remembering(
        catalog: Arc<dyn Catalog>,
        worker: Arc<dyn Worker>,
        limits: Limits,
        remembered: usize,
    ) -> Result<Self> {
        let work = Arc::new(Work::load(catalog, worker, limits, remembered)?);
        let dispatcher = dispatch::start(&work)?;
        Ok(Self { work, dispatcher: Mutex::new(Some(dispatcher)) })
    }

    /// Records a job, to be done as soon as there is room. One with that identifier which is there
    /// already is returned as it is.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn submit(&self, new: NewJob) -> Result<Job> {
        self.work.submit(new)
    }

    /// Returns a job, `None` when there is none.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn job(&self, id: &str) -> Result<Option<Job>> {
        self.work.job(id)
    }

    /// Returns at most `limit` jobs with identifiers after `after`, in their order.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Job>> {
        self.work.list(after, limit)
    }

    /// Stops a job for good, and waits until it has. One that has ended stays as it is; one that ends well
    /// before it hears of this is done. A worker that waits for its turn after a failure is not called
    /// again: what it has left of an earlier attempt is for whoever hears of the change.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn cancel(&self, id: &str) -> Result<Option<Job>> {
        self.work.cancel(id)
    }

    /// Forgets a job that has ended. One that is not there succeeds.
    ///
    /// # Errors
    ///
    /// [`Error::JobGoesOn`] when it has not, and what the catalog says.
    pub fn forget(&self, id: &str) -> Result<()> {
        self.work.forget(id)
    }

    /// Stops all work and leaves it so that the next start takes it up again. Returns when the last one
    /// has stopped. No worker calls this.
    pub fn stop(&self) {
        self.work.stop();
        let dispatcher = self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(dispatcher) = dispatcher {
            // It would have panicked on its own account, and said so.
            let _ = dispatcher.join();
        }
        self.work.wait_for_all();
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Limits {
    /// Returns how long a job pauses after so many attempts.
    fn pause(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause)
    }
}

impl Control {
    /// Tells how many bytes are done, and of how many, where that is known.
    pub fn progress(&self, done: u64, of: Option<u64>) {
        (self.report)(done, of);
    }

    /// Returns whether the job is cancelled for good, so that what it has made so far shall go.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("rate_limit", &self.rate_limit).finish_non_exhaustive()
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

/// How many jobs that have ended are remembered.
const REMEMBERED: usize = 1000;

#[cfg(test)]
mod tests;
