//! Which documents have to be looked at, and when. Each is looked at by one thread at a time.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::subject::Subject;

/// Documents that wait to be looked at.
///
/// # Guarantees
///
/// - One that is added while somebody looks at it is looked at again after that.
/// - Whatever is added several times before its turn has one turn.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

/// What comes after a look at a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, until something changes.
    Settled,
    /// Another look, after so long at the latest.
    After(Duration),
    /// It did not go well: another look, after a pause that grows each time.
    Failed,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Subject>,
    /// What stands in `ready`.
    queued: HashSet<Subject>,
    /// What somebody looks at, and whether it was added meanwhile.
    busy: HashMap<Subject, Again>,
    later: BTreeSet<(Instant, Subject)>,
    /// When what stands in `later` has its turn.
    due: HashMap<Subject, Instant>,
    failures: HashMap<Subject, u32>,
    is_closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

impl Queue {
    /// Has a document looked at as soon as possible.
    pub(crate) fn add(&self, subject: Subject) {
        let mut state = self.lock();
        state.add(subject);
        drop(state);
        self.changed.notify_one();
    }

    /// Returns the next document, which nobody else gets until [`done`](Self::done); waits for one. `None`
    /// when the queue is closed.
    pub(crate) fn next(&self) -> Option<Subject> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            let now = Instant::now();
            state.bring_up(now);
            if let Some(subject) = state.ready.pop_front() {
                state.queued.remove(&subject);
                state.busy.insert(subject.clone(), Again::No);
                return Some(subject);
            }
            let pause = match state.later.first() {
                Some((when, _)) => when.saturating_duration_since(now),
                None => LONGEST_PAUSE,
            };
            let waited = self.changed.wait_timeout(state, pause);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says that a look at a document is over.
    pub(crate) fn done(&self, subject: Subject, next: Next) {
        let mut state = self.lock();
        let again = state.busy.remove(&subject);
        let pause = match next {
            Next::Failed => {
                let failures = state.failures.entry(subject.clone()).or_default();
                *failures = failures.saturating_add(1);
                let doubled = FIRST_PAUSE.saturating_mul(1 << (*failures - 1).min(16));
                Some(doubled.min(LONGEST_PAUSE))
            }
            Next::After(pause) => {
                state.failures.remove(&subject);
                Some(pause)
            }
            Next::Settled => {
                state.failures.remove(&subject);
                None
            }
        };
        if again == Some(Again::Yes) {
            state.add(subject);
        } else if let Some(pause) = pause {
            state.put_off(subject, Instant::now() + pause);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Ends it: nobody gets anything any more.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Returns whether somebody has ended it.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Returns how many documents are looked at or wait for their turn, apart from those whose time has not
    /// come.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> usize {
        let state = self.lock();
        state.ready.len() + state.busy.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No method can stop half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, subject: Subject) {
        if let Some(again) = self.busy.get_mut(&subject) {
            *again = Again::Yes;
            return;
        }
        self.forget_later(&subject);
        if self.queued.insert(subject.clone()) {
            self.ready.push_back(subject);
        }
    }

    fn put_off(&mut self, subject: Subject, when: Instant) {
        self.forget_later(&subject);
        self.due.insert(subject.clone(), when);
        self.later.insert((when, subject));
    }

    fn forget_later(&mut self, subject: &Subject) {
        if let Some(when) = self.due.remove(subject) {
            self.later.remove(&(when, subject.clone()));
        }
    }

    /// Puts what is due where it is taken from.
    fn bring_up(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(when, _)| *when <= now) {
            let Some((_, subject)) = self.later.pop_first() else { return };
            self.due.remove(&subject);
            self.add(subject);
        }
    }
}

/// After how long the first failure is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use strongroom_model::dialect::resource::Resource;

    use super::*;

    fn subject(name: &str) -> Subject {
        Subject::new(Resource::BackingImage, Some("lab"), name)
    }

    #[test]
    fn what_is_added_several_times_has_one_turn() {
        let queue = Queue::default();
        for name in ["a", "b", "a"] {
            queue.add(subject(name));
        }
        assert_eq!(queue.next(), Some(subject("a")));
        assert_eq!(queue.next(), Some(subject("b")));
        assert_eq!(queue.lock().ready.len(), 0);
    }

    #[test]
    fn what_changes_while_it_is_looked_at_is_looked_at_again_and_by_nobody_else_before() {
        let queue = Queue::default();
        queue.add(subject("a"));
        let taken = queue.next().unwrap();
        queue.add(subject("a"));
        assert_eq!(queue.lock().ready.len(), 0);
        queue.done(taken, Next::Settled);
        assert_eq!(queue.next(), Some(subject("a")));
        queue.done(subject("a"), Next::Settled);
        assert_eq!(queue.pending(), 0);
    }

    #[test]
    fn pauses_grow_with_each_failure_and_end_with_a_success() {
        let queue = Queue::default();
        let pause = |next| {
            queue.add(subject("a"));
            let before = Instant::now();
            let taken = queue.next().unwrap();
            queue.done(taken, next);
            let state = queue.lock();
            state.due.get(&subject("a")).map(|when| when.duration_since(before))
        };
        let first = pause(Next::Failed).unwrap();
        let second = pause(Next::Failed).unwrap();
        assert!(first >= FIRST_PAUSE && second >= FIRST_PAUSE * 2, "{first:?} {second:?}");
        for _ in 0..40 {
            assert!(pause(Next::Failed).unwrap() < LONGEST_PAUSE + Duration::from_secs(5));
        }
        assert_eq!(pause(Next::Settled), None);
        assert!(pause(Next::Failed).unwrap() < second);
    }

    #[test]
    fn what_is_put_off_comes_when_it_is_due() {
        let queue = Queue::default();
        queue.add(subject("a"));
        let taken = queue.next().unwrap();
        let begun = Instant::now();
        queue.done(taken, Next::After(Duration::from_millis(50)));
        assert_eq!(queue.next(), Some(subject("a")));
        assert!(begun.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn a_closed_queue_gives_nothing_to_anybody() {
        let queue = Queue::default();
        queue.add(subject("a"));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| while queue.next().is_some() {});
            std::thread::sleep(Duration::from_millis(20));
            queue.close();
            waiting.join().unwrap();
        });
        assert_eq!(queue.next(), None);
    }
}
