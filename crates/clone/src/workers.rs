//! Threads that share one queue of work.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::Error;

/// Tells workers when to stop: someone cancelled, or one of them has failed.
pub(crate) struct Brake<'a> {
    cancelled: &'a AtomicBool,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Brake<'_> {
    /// Returns whether to go on. To be asked before each piece of work.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] when someone cancelled.
    pub(crate) fn go_on(&self) -> Result<bool, Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(!self.failed.load(Ordering::Relaxed))
    }

    /// Keeps the first error and stops everyone.
    fn fail(&self, error: Error) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on so many threads, the calling one included, until all have returned.
///
/// # Errors
///
/// The error that came first.
pub(crate) fn run(
    threads: NonZeroUsize,
    cancelled: &AtomicBool,
    work: impl Fn(&Brake<'_>) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let brake = Brake { cancelled, failed: AtomicBool::new(false), error: Mutex::default() };
    let job = || {
        if let Err(error) = work(&brake) {
            brake.fail(error);
        }
    };
    thread::scope(|scope| {
        for number in 1..threads.get() {
            let name = format!("clone-{number}");
            if thread::Builder::new().name(name).spawn_scoped(scope, job).is_err() {
                // The process may have no more threads; the work gets done by those there are.
                break;
            }
        }
        job();
    });
    match brake.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
