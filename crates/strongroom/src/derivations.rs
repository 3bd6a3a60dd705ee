//! Room for key derivations: all that run in this process at a time take a bounded amount of memory,
//! however many volumes are opened at once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use strongroom_crypto::Kdf;

/// Waits until there is room for a derivation, in the order in which they came. It has the room until
/// what is returned is dropped. One that is larger than all of the room runs alone.
pub(crate) fn admit(kdf: &Kdf) -> Admission<'static> {
    ROOM.admit(kdf.memory_kib())
}

/// The right to a part of the room.
#[derive(Debug)]
#[must_use = "the room is free again when this is dropped"]
pub(crate) struct Admission<'a> {
    room: &'a Room,
    kib: u64,
}

#[derive(Debug)]
struct Room {
    limit_kib: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    used_kib: u64,
    /// The number that the next who comes gets, and the one whose turn it is.
    next: u64,
    turn: u64,
}

impl Room {
    const fn new(limit_kib: u64) -> Self {
        let state = State { used_kib: 0, next: 0, turn: 0 };
        Self { limit_kib, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn admit(&self, kib: u64) -> Admission<'_> {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        while state.turn != number
            || (state.used_kib > 0 && state.used_kib.saturating_add(kib) > self.limit_kib)
        {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.turn += 1;
        state.used_kib = state.used_kib.saturating_add(kib);
        self.changed.notify_all();
        Admission { room: self, kib }
    }

    /// Nobody panics between two changes of the numbers, so they hold even so.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        self.room.state().used_kib -= self.kib;
        self.room.changed.notify_all();
    }
}

static ROOM: Room = Room::new(LIMIT_KIB);

/// Two derivations of the default cost: 1 GiB.
const LIMIT_KIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_hundred_at_once_never_take_more_than_the_room() {
        let (room, now, most) = (Room::new(1000), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for index in 0..200_u64 {
                let (room, now, most) = (&room, &now, &most);
                scope.spawn(move || {
                    let kib = 100 + index % 7 * 50;
                    let _admission = room.admit(kib);
                    let used = now.fetch_add(kib, Ordering::SeqCst) + kib;
                    most.fetch_max(used, Ordering::SeqCst);
                    thread::sleep(Duration::from_micros(200));
                    now.fetch_sub(kib, Ordering::SeqCst);
                });
            }
        });
        let most = most.load(Ordering::SeqCst);
        assert!((400..=1000).contains(&most), "{most}");
        assert_eq!(room.state().used_kib, 0);
    }

    #[test]
    fn one_that_is_too_large_runs_alone() {
        let room = Room::new(10);
        drop(room.admit(50));
        let first = room.admit(5);
        thread::scope(|scope| {
            let large = scope.spawn(|| drop(room.admit(50)));
            thread::sleep(Duration::from_millis(20));
            assert!(!large.is_finished());
            drop(first);
        });
    }

    #[test]
    fn what_takes_no_memory_waits_for_nobody_but_those_before_it() {
        let room = Room::new(10);
        let _first = room.admit(10);
        drop(room.admit(0));
    }
}
