//! Threads that share one queue of work.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::Error;

/// Tells workers when to stop: someone cancelled, or one of them has failed.
pub(crate) struct Brake<'a> {
    cancelled: &'a AtomicBool,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl<'a> Brake<'a> {
    fn new(cancelled: &'a AtomicBool) -> Self {
        Self { cancelled, failed: AtomicBool::new(false), error: Mutex::default() }
    }

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

    /// Sleeps until nothing is `left`, and returns whether to go on.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] when someone cancelled.
    pub(crate) fn pause(&self, left: impl Fn() -> Duration) -> Result<bool, Error> {
        loop {
            if !self.go_on()? {
                return Ok(false);
            }
            match left() {
                Duration::ZERO => return Ok(true),
                left => thread::sleep(left.min(LONGEST_SLEEP)),
            }
        }
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
    let brake = Brake::new(cancelled);
    let job = || {
        let _guard = StopOnPanic(&brake);
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

/// Lets nobody wait for the work of a thread that is gone.
struct StopOnPanic<'a>(&'a Brake<'a>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// How long someone who waits may not notice that the work was stopped.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn who_waits_forever_notices_that_another_one_is_gone() {
        for loud in [false, true] {
            let turns = Mutex::new(0);
            let cancelled = AtomicBool::new(false);
            let result = catch_unwind(AssertUnwindSafe(|| {
                run(NonZeroUsize::new(3).unwrap(), &cancelled, |brake| {
                    let number = {
                        let mut turns = turns.lock().unwrap();
                        *turns += 1;
                        *turns
                    };
                    match number {
                        3 if loud => panic!("this thread fails loudly"),
                        3 => Err(Error::Cancelled),
                        _ => brake.pause(|| Duration::MAX).map(|go_on| assert!(!go_on)),
                    }
                })
            }));
            match result {
                Ok(result) => assert!(!loud && matches!(result, Err(Error::Cancelled))),
                Err(_) => assert!(loud),
            }
        }
    }

    #[test]
    fn who_waits_notices_that_the_work_was_cancelled() {
        let cancelled = AtomicBool::new(false);
        let brake = Brake::new(&cancelled);
        let result = brake.pause(|| {
            cancelled.store(true, Ordering::Relaxed);
            Duration::MAX
        });
        assert!(matches!(result, Err(Error::Cancelled)));
    }
}
