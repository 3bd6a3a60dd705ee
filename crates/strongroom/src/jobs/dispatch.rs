//! The thread that begins jobs.

use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::queue::Next;
use super::run;
use super::work::Work;
use crate::{Error, Result};

/// Starts the thread.
///
/// # Errors
///
/// When the system gives none.
pub(super) fn start(work: &Arc<Work>) -> Result<JoinHandle<()>> {
    let work = Arc::clone(work);
    thread::Builder::new().name("jobs".to_owned()).spawn(move || dispatch(&work)).map_err(|error| {
        Error::Request { problem: format!("no thread can be started for jobs: {error}") }
    })
}

fn dispatch(work: &Arc<Work>) {
    let mut state = work.state();
    while !state.stopping {
        let now = Instant::now();
        state = match state.queue.next(now, &work.limits) {
            Next::Begin(id) => {
                drop(state);
                begin(work, &id);
                work.state()
            }
            Next::At(due) => {
                let waited = work.changed.wait_timeout(state, due - now);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            Next::Later => work.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

fn begin(work: &Arc<Work>, id: &str) {
    let Some(live) = work.live(id) else {
        work.state().queue.ended(id);
        return;
    };
    let for_thread = (Arc::clone(work), Arc::clone(&live));
    // As much of the name as the system keeps.
    let name: String = format!("job {id}").chars().filter(|letter| *letter != '\0').collect();
    let started = thread::Builder::new().name(name).spawn(move || {
        let (work, live) = for_thread;
        run::run(&work, &live);
    });
    if started.is_err() {
        work.put_back(&live, work.limits.first_pause);
    }
}
