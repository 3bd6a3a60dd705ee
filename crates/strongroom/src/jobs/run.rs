//! One job, on its thread, from its beginning to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::work::{Live, Work};
use super::{Again, Control, Failure, Job, JobState};

/// What becomes of a job after its worker has returned.
enum Outcome {
    /// It has ended.
    Ended(JobState, Option<String>),
    /// It is tried again after a pause.
    Again(Duration, String),
    /// It rests until the next start.
    Interrupted,
}

/// Does a job.
pub(super) fn run(work: &Arc<Work>, live: &Arc<Live>) {
    if live.given_up.load(Ordering::SeqCst) {
        return end(work, live, JobState::Cancelled, None);
    }
    if work.state().stopping {
        return work.leave(live);
    }
    let begun = work.save(live, |job| {
        // What was interrupted is the same attempt.
        job.attempts += u32::from(job.state == JobState::Pending);
        job.state = JobState::InProgress;
        job.started = Some(crate::now());
    });
    // Nothing is done that is not recorded.
    let Ok(job) = begun else { return work.put_back(live, work.limits.first_pause) };
    work.tell(&job);
    let control = control(work, live, &job);
    let result = catch_unwind(AssertUnwindSafe(|| work.worker.run(&job, &control)))
        .unwrap_or_else(|_| Err(panicked()));
    match outcome(work, live, &job, result) {
        Outcome::Ended(state, message) => end(work, live, state, message.as_deref()),
        Outcome::Again(pause, message) => again(work, live, pause, &message),
        Outcome::Interrupted => {
            // How far it was. The next start takes it up wherever it is.
            let _ = work.save(live, |_| {});
            work.leave(live);
        }
    }
}

fn control(work: &Arc<Work>, live: &Arc<Live>, job: &Job) -> Control {
    let (for_work, for_live) = (Arc::downgrade(work), Arc::downgrade(live));
    let report = move |done, of| {
        if let (Some(work), Some(live)) = (for_work.upgrade(), for_live.upgrade()) {
            work.progress(&live, done, of);
        }
    };
    Control {
        cancelled: Arc::clone(&live.cancelled),
        rate_limit: job.rate_limit,
        report: Arc::new(report),
        given_up: Arc::clone(&live.given_up),
    }
}

fn outcome(work: &Work, live: &Live, job: &Job, result: Result<(), Failure>) -> Outcome {
    let Failure { message, again } = match result {
        Ok(()) => return Outcome::Ended(JobState::Done, None),
        Err(failure) => failure,
    };
    if live.given_up.load(Ordering::SeqCst) {
        return Outcome::Ended(JobState::Cancelled, None);
    }
    if live.cancelled.load(Ordering::SeqCst) {
        return Outcome::Interrupted;
    }
    match again {
        Again::Later if job.attempts < work.limits.attempts => {
            Outcome::Again(work.limits.pause(job.attempts), message)
        }
        _ => Outcome::Ended(JobState::Failed, Some(message)),
    }
}

/// Ends a job. Where that cannot be recorded, it is tried until it can, or the process ends: then the next
/// start finds a job that goes on, and the worker has nothing left to do.
fn end(work: &Work, live: &Live, state: JobState, message: Option<&str>) {
    let ended = until_saved(work, live, |job| {
        job.state = state;
        job.message = message.map(str::to_owned);
        job.ended = Some(crate::now());
    });
    let Some(job) = ended else { return work.leave(live) };
    work.tell(&job);
    work.finish(live, &job);
}

fn again(work: &Work, live: &Live, pause: Duration, message: &str) {
    let saved = until_saved(work, live, |job| {
        job.state = JobState::Pending;
        job.message = Some(message.to_owned());
    });
    let Some(job) = saved else { return work.leave(live) };
    work.tell(&job);
    work.put_back(live, pause);
}

/// Changes the record of a job; again and again where that fails, until the work is to stop.
fn until_saved(work: &Work, live: &Live, change: impl Fn(&mut Job)) -> Option<Job> {
    loop {
        if let Ok(job) = work.save(live, &change) {
            return Some(job);
        }
        let stopping = work
            .changed
            .wait_timeout_while(work.state(), BETWEEN_TRIES, |state| !state.stopping)
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .stopping;
        if stopping {
            return None;
        }
    }
}

/// Returns the failure of a worker that has panicked. What it said may hold anything, and went to standard
/// error.
fn panicked() -> Failure {
    let message = "the program has an error, and its log says which".to_owned();
    Failure { message, again: Again::Never }
}

/// How long to wait after the catalog has failed.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
