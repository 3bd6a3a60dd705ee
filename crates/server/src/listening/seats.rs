//! Who is connected. Whoever comes is taken or sent away at once, so that nobody can hold the door.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// The connections that are there.
#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    next: u64,
    all: BTreeMap<u64, Entry>,
}

struct Entry {
    peer: IpAddr,
    /// Since when nothing is asked; `None` while something is answered.
    idle: Option<Instant>,
    close: Arc<Notify>,
}

/// The place of a connection, until it is dropped.
pub(super) struct Seat {
    seats: Seats,
    number: u64,
    close: Arc<Notify>,
    was_asked: AtomicBool,
}

/// Held while something is answered.
pub(super) struct Busy(Arc<Seat>);

impl Seats {
    /// Returns a place for a connection from somewhere. Where there is none, the connection that has been
    /// idle for the longest time has to go; `None` when all of them are busy.
    pub(super) fn take(&self, from: IpAddr) -> Option<Arc<Seat>> {
        let (peer, most) = peer(from);
        let mut taken = self.taken();
        if taken.all.values().filter(|entry| entry.peer == peer).count() >= most {
            taken.close_oldest(|entry| entry.peer == peer)?;
        } else if taken.all.len() >= CONNECTIONS {
            taken.close_oldest(|_| true)?;
        }
        let (number, close) = (taken.next, Arc::new(Notify::new()));
        taken.next += 1;
        let idle = Some(Instant::now());
        taken.all.insert(number, Entry { peer, idle, close: Arc::clone(&close) });
        let was_asked = AtomicBool::new(false);
        Some(Arc::new(Seat { seats: self.clone(), number, close, was_asked }))
    }

    /// Closes the connection that has been idle for the longest time, whose ever it is.
    pub(super) fn make_room(&self) {
        self.taken().close_oldest(|_| true);
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn close_oldest(&mut self, may: impl Fn(&Entry) -> bool) -> Option<()> {
        let idle = self.all.iter().filter(|(_, entry)| may(entry));
        let idle = idle.filter_map(|(number, entry)| Some((entry.idle?, *number)));
        let (_, number) = idle.min()?;
        self.all.remove(&number)?.close.notify_one();
        Some(())
    }
}

impl Seat {
    /// Begins an answer.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.was_asked.store(true, Ordering::Relaxed);
        self.stands(None);
        Busy(Arc::clone(self))
    }

    /// Tells whether anything was asked yet.
    pub(super) fn was_asked(&self) -> bool {
        self.was_asked.load(Ordering::Relaxed)
    }

    /// Returns when somebody else needs the place.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }

    fn stands(&self, idle: Option<Instant>) {
        if let Some(entry) = self.seats.taken().all.get_mut(&self.number) {
            entry.idle = idle;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.stands(Some(Instant::now()));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().all.remove(&self.number);
    }
}

/// Returns as whom somebody counts, and how many connections he may have. Whoever has one address of IPv6
/// has all that begin with the same 64 bits.
fn peer(from: IpAddr) -> (IpAddr, usize) {
    match from.to_canonical() {
        ip if ip.is_loopback() => (Ipv4Addr::LOCALHOST.into(), OF_THIS_MACHINE),
        IpAddr::V6(ip) => (Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(), OF_A_PEER),
        ip => (ip, OF_A_PEER),
    }
}

/// Connections at the same time.
const CONNECTIONS: usize = 1024;

/// Connections of one other machine.
const OF_A_PEER: usize = 64;

/// Connections of this machine.
const OF_THIS_MACHINE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_peer_cannot_take_the_places_of_others() {
        let seats = Seats::default();
        let first = seats.take(ip("192.0.2.1")).unwrap();
        let busy = first.busy();
        let mut held: Vec<_> =
            (1..OF_A_PEER).map(|_| seats.take(ip("192.0.2.1")).unwrap()).collect();
        let busy_too: Vec<_> = held.iter().skip(1).map(Seat::busy).collect();
        // The only idle one goes, and then none does.
        held.push(seats.take(ip("::ffff:192.0.2.1")).unwrap());
        let idle = held.last().unwrap().busy();
        assert!(seats.take(ip("192.0.2.1")).is_none());
        assert!(seats.take(ip("192.0.2.2")).is_some());
        assert!(seats.take(ip("127.0.0.1")).is_some());
        drop(idle);
        assert!(seats.take(ip("192.0.2.1")).is_some());
        drop((busy, busy_too));
    }

    #[test]
    fn the_oldest_idle_connection_makes_room_when_all_places_are_taken() {
        let seats = Seats::default();
        let peer = |number: usize| ip(&format!("2001:db8:0:{:x}::1", number / OF_A_PEER));
        let all: Vec<_> = (0..CONNECTIONS).map(|one| seats.take(peer(one)).unwrap()).collect();
        let busy: Vec<_> = all.iter().map(Seat::busy).collect();
        assert!(seats.take(ip("198.51.100.1")).is_none());
        drop(busy);
        assert!(seats.take(ip("198.51.100.1")).is_some());
        assert_eq!(seats.taken().all.len(), CONNECTIONS - 1);
        assert!(!seats.taken().all.contains_key(&0));
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_count_as_one() {
        assert_eq!(peer(ip("2001:db8::1")), peer(ip("2001:db8::ffff:2")));
        assert_ne!(peer(ip("2001:db8::1")), peer(ip("2001:db8:0:1::1")));
        assert_eq!(peer(ip("::1")), peer(ip("127.0.0.2")));
    }
}
