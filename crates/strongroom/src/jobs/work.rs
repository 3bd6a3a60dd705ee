//! What the threads share.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queue::Queue;
use super::{Job, JobState, Limits, NewJob, Worker};
use crate::catalog::{self, Catalog, Records, Stored};
use crate::{Error, Result};

/// The jobs that go on, and who works on them.
pub(super) struct Work {
    catalog: Arc<dyn Catalog>,
    pub(super) worker: Arc<dyn Worker>,
    pub(super) limits: Limits,
    /// How many jobs that have ended are kept.
    remembered: usize,
    state: Mutex<State>,
    /// Told of every change of the state.
    pub(super) changed: Condvar,
}

/// Never held while a record is locked, a catalog written or the worker called.
pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) stopping: bool,
    /// Those that have not ended.
    live: BTreeMap<String, Arc<Live>>,
    /// Those that have, by when.
    ended: BTreeSet<(u64, String)>,
    next_number: u64,
}

/// A job that has not ended. Its record is changed by one thread at a time: the one that works on it, or
/// whoever has taken it out of the queue.
pub(super) struct Live {
    pub(super) id: String,
    /// Its place among the others.
    number: u64,
    stored: Mutex<Stored<Job>>,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) given_up: Arc<AtomicBool>,
    progress: Mutex<Progress>,
}

/// How far the work is, as it was told last.
struct Progress {
    done: u64,
    of: Option<u64>,
    /// When it was written down last.
    saved: Instant,
}

impl Work {
    /// Reads what is recorded.
    pub(super) fn load(
        catalog: Arc<dyn Catalog>,
        worker: Arc<dyn Worker>,
        limits: Limits,
        remembered: usize,
    ) -> Result<Self> {
        let mut found = Vec::new();
        let mut ended = BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let page = Records::<Job>::of(&*catalog).list(after.as_deref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.record.id.clone());
            for stored in page {
                match stored.record.state.is_ended() {
                    true => drop(ended.insert(ended_key(&stored.record))),
                    false => found.push(stored),
                }
            }
        }
        found.sort_by(|a, b| key(&a.record).cmp(&key(&b.record)));
        let mut state = State {
            queue: Queue::default(),
            stopping: false,
            live: BTreeMap::new(),
            ended,
            next_number: 0,
        };
        let now = Instant::now();
        for stored in found {
            let memory = memory(&*worker, &limits, &stored.record);
            state.admit(stored, now, memory);
        }
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok(Self { catalog, worker, limits, remembered, state, changed })
    }

    /// Nobody panics between two changes of the state, so it holds even so.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn live(&self, id: &str) -> Option<Arc<Live>> {
        self.state().live.get(id).cloned()
    }

    pub(super) fn submit(&self, new: NewJob) -> Result<Job> {
        let job = new.submitted(crate::now());
        let memory = memory(&*self.worker, &self.limits, &job);
        let stored = loop {
            match self.records().insert(job.clone()) {
                Ok(stored) => break stored,
                Err(catalog::Error::Exists { .. }) => {
                    if let Some(found) = self.job(&job.id)? {
                        return Ok(found);
                    }
                    // Somebody has forgotten it in this moment.
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.state().admit(stored, Instant::now(), memory);
        self.changed.notify_all();
        self.tell(&job);
        Ok(job)
    }

    pub(super) fn job(&self, id: &str) -> Result<Option<Job>> {
        match self.live(id) {
            Some(live) => Ok(Some(live.job())),
            None => Ok(self.records().load(id)?.map(|stored| stored.record)),
        }
    }

    pub(super) fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Job>> {
        let page = self.records().list(after, limit)?;
        let fresher = |stored: Stored<Job>| {
            self.live(&stored.record.id).map_or(stored.record, |live| live.job())
        };
        Ok(page.into_iter().map(fresher).collect())
    }

    pub(super) fn cancel(&self, id: &str) -> Result<Option<Job>> {
        let Some(live) = self.live(id) else { return self.job(id) };
        let mut state = self.state();
        loop {
            if !state.is_live(&live) {
                drop(state);
                return Ok(Some(live.job()));
            }
            if state.queue.take(id) || (state.stopping && !state.queue.is_working(id)) {
                state.queue.hold(id);
                drop(state);
                return self.cancel_waiting(&live).map(Some);
            }
            live.given_up.store(true, Ordering::SeqCst);
            live.cancelled.store(true, Ordering::SeqCst);
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends a job that nobody works on.
    fn cancel_waiting(&self, live: &Arc<Live>) -> Result<Job> {
        let ended = self.save(live, |job| {
            job.state = JobState::Cancelled;
            job.ended = Some(crate::now());
        });
        match ended {
            Ok(job) => {
                self.tell(&job);
                self.finish(live, &job);
                Ok(job)
            }
            Err(error) => {
                self.put_back(live, Duration::ZERO);
                Err(error)
            }
        }
    }

    pub(super) fn forget(&self, id: &str) -> Result<()> {
        let goes_on = || Error::JobGoesOn { id: id.to_owned() };
        let Some(stored) = self.records().load(id)? else { return Ok(()) };
        if !stored.record.state.is_ended() {
            return Err(goes_on());
        }
        // Its thread may still be telling of its end.
        let (state, waited) = self
            .changed
            .wait_timeout_while(self.state(), PATIENCE, |state| state.live.contains_key(id))
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if waited.timed_out() {
            return Err(goes_on());
        }
        self.records().remove(&stored)?;
        self.state().ended.remove(&ended_key(&stored.record));
        Ok(())
    }

    /// Tells everybody to stop, and lets nobody begin.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.stopping = true;
        for live in state.queue.working().filter_map(|id| state.live.get(id)) {
            live.cancelled.store(true, Ordering::SeqCst);
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn wait_for_all(&self) {
        let mut state = self.state();
        while state.queue.working().next().is_some() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Changes the record of a job, durably, and returns what it is then.
    ///
    /// # Errors
    ///
    /// What the catalog says; then it is as it was.
    pub(super) fn save(&self, live: &Live, change: impl FnOnce(&mut Job)) -> Result<Job> {
        let mut stored = live.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = stored.clone();
        live.progress().show_in(&mut changed.record);
        change(&mut changed.record);
        match self.records().replace(changed.clone()) {
            Ok(saved) => *stored = saved,
            Err(catalog::Error::Changed { .. }) => {
                // A write that seemed to fail may have been done; nobody else writes.
                let found = self.records().load(&live.id)?;
                let gone =
                    || catalog::Error::Changed { kind: catalog::Kind::Job, id: live.id.clone() };
                changed.version = found.ok_or_else(gone)?.version;
                *stored = self.records().replace(changed)?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(stored.record.clone())
    }

    /// Hears how far the work is. Writes it down now and then.
    pub(super) fn progress(&self, live: &Live, done: u64, of: Option<u64>) {
        let mut progress = live.progress();
        (progress.done, progress.of) = (done, of);
        if progress.saved.elapsed() < BETWEEN_SAVES {
            return;
        }
        progress.saved = Instant::now();
        drop(progress);
        // It is told again in a moment, and at the end.
        if let Ok(job) = self.save(live, |_| {}) {
            self.tell(&job);
        }
    }

    /// Lets the worker hear of a change.
    pub(super) fn tell(&self, job: &Job) {
        // Whoever panics there has said so, and the job goes on.
        let _ = catch_unwind(AssertUnwindSafe(|| self.worker.changed(job)));
    }

    /// Lets a job that nobody works on any more wait for its turn after a pause.
    pub(super) fn put_back(&self, live: &Live, pause: Duration) {
        let memory = memory(&*self.worker, &self.limits, &live.job());
        let mut state = self.state();
        state.queue.ended(&live.id);
        state.queue.push(&live.id, Instant::now() + pause, live.number, memory);
        drop(state);
        self.changed.notify_all();
    }

    /// Lets a job rest until the next start.
    pub(super) fn leave(&self, live: &Live) {
        self.state().queue.ended(&live.id);
        self.changed.notify_all();
    }

    /// Hears that a job has ended, and forgets the oldest ones.
    pub(super) fn finish(&self, live: &Live, job: &Job) {
        let mut state = self.state();
        state.queue.ended(&live.id);
        if state.live.get(&live.id).is_some_and(|found| std::ptr::eq(&**found, live)) {
            state.live.remove(&live.id);
        }
        state.ended.insert(ended_key(job));
        let too_many = state.ended.len().saturating_sub(self.remembered);
        let oldest: Vec<_> = (0..too_many).filter_map(|_| state.ended.pop_first()).collect();
        drop(state);
        self.changed.notify_all();
        for (_, id) in oldest {
            // One that stays for now is found again at the next start.
            let _ = self.forget(&id);
        }
    }

    fn records(&self) -> Records<'_, Job> {
        Records::of(&*self.catalog)
    }
}

impl State {
    fn admit(&mut self, stored: Stored<Job>, due: Instant, memory: u64) {
        let number = self.next_number;
        self.next_number += 1;
        let (id, done, of) = (stored.record.id.clone(), stored.record.done, stored.record.of);
        self.queue.push(&id, due, number, memory);
        let live = Live {
            id: id.clone(),
            number,
            stored: Mutex::new(stored),
            cancelled: Arc::default(),
            given_up: Arc::default(),
            progress: Mutex::new(Progress { done, of, saved: Instant::now() }),
        };
        self.live.insert(id, Arc::new(live));
    }

    fn is_live(&self, live: &Arc<Live>) -> bool {
        self.live.get(&live.id).is_some_and(|found| Arc::ptr_eq(found, live))
    }
}

impl Live {
    /// Returns the job as it is now.
    pub(super) fn job(&self) -> Job {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let mut job = stored.record.clone();
        drop(stored);
        self.progress().show_in(&mut job);
        job
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn show_in(&self, job: &mut Job) {
        (job.done, job.of) = (self.done, self.of);
    }
}

/// Asks how much memory a job needs. Whoever cannot tell gets all of it.
fn memory(worker: &dyn Worker, limits: &Limits, job: &Job) -> u64 {
    catch_unwind(AssertUnwindSafe(|| worker.memory(job))).unwrap_or(limits.memory)
}

fn key(job: &Job) -> (u64, &str) {
    (job.created, &job.id)
}

fn ended_key(job: &Job) -> (u64, String) {
    (job.ended.unwrap_or_default(), job.id.clone())
}

/// How many jobs are read at a time.
const PAGE: usize = 1000;

/// The shortest time between two writes of how far a job is.
const BETWEEN_SAVES: Duration = Duration::from_secs(1);

/// How long a job that has ended may still be telling of it.
const PATIENCE: Duration = Duration::from_secs(1);
