//! The newest changes, for those who want to hear of them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Event;
use crate::{Error, Result};

/// The newest changes: so many, or so many bytes of documents.
pub(super) struct Events {
    ring: Mutex<Ring>,
    more: Condvar,
    newest: watch::Sender<u64>,
}

struct Ring {
    events: VecDeque<(Event, usize)>,
    bytes: usize,
    /// The version of the newest change that is not remembered.
    forgotten: u64,
}

impl Events {
    /// Returns none, of a store that has this version.
    pub(super) fn after(version: u64) -> Self {
        let ring = Ring { events: VecDeque::new(), bytes: 0, forgotten: version };
        Self { ring: Mutex::new(ring), more: Condvar::new(), newest: watch::Sender::new(version) }
    }

    /// Remembers a change, and wakes those who wait for one.
    pub(super) fn push(&self, event: Event) {
        let version = event.version;
        // What the document was before may be kept by nobody else any more.
        let before = event.before.as_ref().map_or(0, |before| size(before.fields().values()));
        let size = before + size(event.object.fields().values());
        let mut ring = self.ring();
        ring.bytes += size;
        ring.events.push_back((event, size));
        while ring.events.len() > MOST || (ring.bytes > MOST_BYTES && ring.events.len() > 1) {
            let Some((event, size)) = ring.events.pop_front() else { break };
            ring.bytes -= size;
            ring.forgotten = event.version;
        }
        drop(ring);
        self.more.notify_all();
        self.newest.send_replace(version);
    }

    /// Returns the changes after a version; waits for one if there is none, for so long.
    pub(super) fn changes(&self, after: u64, patience: Duration) -> Result<Vec<Event>> {
        let until = Instant::now() + patience.min(LONGEST);
        let mut ring = self.ring();
        loop {
            if after < ring.forgotten {
                return Err(Error::Expired { version: after });
            }
            let first = ring.events.partition_point(|(event, _)| event.version <= after);
            if first < ring.events.len() {
                return Ok(ring.events.range(first..).map(|(event, _)| event.clone()).collect());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let waited = self.more.wait_timeout(ring, left);
            ring = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns what tells tasks of changes.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns about how many bytes values take.
fn size<'a>(values: impl Iterator<Item = &'a serde_json::Value>) -> usize {
    use serde_json::Value;
    values
        .map(|value| match value {
            Value::String(text) => OF_A_VALUE + text.len(),
            Value::Array(items) => OF_A_VALUE + size(items.iter()),
            Value::Object(fields) => {
                let keys: usize = fields.keys().map(|key| OF_A_VALUE + key.len()).sum();
                keys + size(fields.values())
            }
            _ => OF_A_VALUE,
        })
        .sum()
}

/// The most changes that are remembered.
const MOST: usize = 16_384;

/// The most bytes of documents that are remembered.
const MOST_BYTES: usize = 32 << 20;

/// What a value takes besides its text.
const OF_A_VALUE: usize = 48;

/// The longest that anybody waits, so that no sum of times is too large.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
