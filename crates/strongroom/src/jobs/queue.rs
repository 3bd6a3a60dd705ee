//! Who waits, who works, and who is next.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::Limits;

/// The jobs that have not ended, by where they are.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By when they may be begun, and then by the order in which they came.
    waiting: BTreeMap<(Instant, u64), Waiting>,
    /// What each that works takes of the memory.
    working: HashMap<String, u64>,
    used: u64,
}

#[derive(Debug)]
struct Waiting {
    id: String,
    memory: u64,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Begin this one: it counts as working from now on.
    Begin(String),
    /// Look again then, or when something changes.
    At(Instant),
    /// Look again when something changes.
    Later,
}

impl Queue {
    /// Puts a job in that may be begun at `due`; `number` is its place among those of the same time.
    pub(super) fn push(&mut self, id: &str, due: Instant, number: u64, memory: u64) {
        self.waiting.insert((due, number), Waiting { id: id.to_owned(), memory });
    }

    /// Says what is to be done next.
    pub(super) fn next(&mut self, now: Instant, limits: &Limits) -> Next {
        let Some(first) = self.waiting.first_entry() else { return Next::Later };
        let (due, _) = *first.key();
        if due > now {
            return Next::At(due);
        }
        let memory = first.get().memory;
        let room = self.working.len() < limits.at_once.max(1)
            && (self.working.is_empty() || self.used.saturating_add(memory) <= limits.memory);
        if !room {
            return Next::Later;
        }
        let Waiting { id, memory } = first.remove();
        self.used = self.used.saturating_add(memory);
        self.working.insert(id.clone(), memory);
        Next::Begin(id)
    }

    /// Takes a waiting job out; returns whether it was there.
    pub(super) fn take(&mut self, id: &str) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|_, waiting| waiting.id != id);
        self.waiting.len() < before
    }

    /// Lets a job that was taken out count as working, so that nobody else takes it on.
    pub(super) fn hold(&mut self, id: &str) {
        self.working.insert(id.to_owned(), 0);
    }

    /// Hears that a job does not work any more.
    pub(super) fn ended(&mut self, id: &str) {
        if let Some(memory) = self.working.remove(id) {
            self.used = self.used.saturating_sub(memory);
        }
    }

    /// Returns whether a job works.
    pub(super) fn is_working(&self, id: &str) -> bool {
        self.working.contains_key(id)
    }

    /// Returns those that work.
    pub(super) fn working(&self) -> impl Iterator<Item = &String> {
        self.working.keys()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits {
        at_once: 3,
        memory: 100,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
        attempts: 1,
    };

    fn begun(queue: &mut Queue, now: Instant) -> Vec<String> {
        let mut begun = Vec::new();
        while let Next::Begin(id) = queue.next(now, &LIMITS) {
            begun.push(id);
        }
        begun
    }

    #[test]
    fn they_are_begun_in_their_order_as_far_as_there_is_room() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (number, (id, memory)) in [("a", 60), ("b", 60), ("c", 10)].into_iter().enumerate() {
            queue.push(id, now, number as u64, memory);
        }
        assert_eq!(begun(&mut queue, now), ["a"], "c does not pass b");
        queue.ended("a");
        assert_eq!(begun(&mut queue, now), ["b", "c"]);
    }

    #[test]
    fn no_more_than_so_many_at_once_and_a_large_one_alone() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        ["a", "b", "c", "d"]
            .iter()
            .zip(0..)
            .for_each(|(id, number)| queue.push(id, now, number, 1));
        queue.push("large", now, 4, 1000);
        queue.push("last", now, 5, 1);
        assert_eq!(begun(&mut queue, now), ["a", "b", "c"]);
        ["a", "b", "c"].iter().for_each(|id| queue.ended(id));
        assert_eq!(begun(&mut queue, now), ["d"]);
        queue.ended("d");
        assert_eq!(begun(&mut queue, now), ["large"]);
        queue.ended("large");
        assert_eq!(begun(&mut queue, now), ["last"]);
        queue.ended("last");
        assert_eq!(queue.used, 0);
        assert_eq!(queue.next(now, &LIMITS), Next::Later);
    }

    #[test]
    fn one_that_pauses_holds_nobody_up() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(5);
        queue.push("failed", later, 0, 1);
        queue.push("new", now, 1, 1);
        assert_eq!(begun(&mut queue, now), ["new"]);
        assert_eq!(queue.next(now, &LIMITS), Next::At(later));
        assert_eq!(begun(&mut queue, later), ["failed"]);
    }

    #[test]
    fn one_that_is_taken_out_is_not_begun() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push("a", now, 0, 1);
        assert!(queue.take("a"));
        assert!(!queue.take("a"));
        assert_eq!(queue.next(now, &LIMITS), Next::Later);
    }
}
