//! What a policy has lately not let us do, so that it is not asked for each time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::requests::Key;

/// The keys with which something was denied, and when. Each by itself: policies name keys.
#[derive(Debug, Default)]
pub(super) struct Denials(Mutex<HashMap<String, Instant>>);

impl Denials {
    /// Returns whether it was denied so lately that it will be now.
    pub(super) fn holds(&self, key: &Key, now: Instant) -> bool {
        let denied = self.keys().get(&key.path("")).copied();
        denied.is_some_and(|denied| now.saturating_duration_since(denied) < REMEMBER)
    }

    /// Notes that it was denied.
    pub(super) fn note(&self, key: &Key, now: Instant) {
        let mut keys = self.keys();
        // Envelopes may name any number of keys. To forget one costs a request.
        if keys.len() >= MOST {
            keys.clear();
        }
        keys.insert(key.path(""), now);
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // There is nothing half done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a policy is believed to stay as it is.
const REMEMBER: Duration = Duration::from_secs(60);

/// How many keys are remembered.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("transit", name).unwrap()
    }

    #[test]
    fn holds_for_one_key_and_a_minute() {
        let (denials, start) = (Denials::default(), Instant::now());
        denials.note(&key("kek"), start);
        assert!(denials.holds(&key("kek"), start + Duration::from_secs(59)));
        assert!(!denials.holds(&key("kek"), start + Duration::from_secs(60)));
        assert!(!denials.holds(&key("kek2"), start));
        assert!(!denials.holds(&Key::new("team/transit", "kek").unwrap(), start));
    }

    #[test]
    fn takes_no_memory_without_end() {
        let (denials, now) = (Denials::default(), Instant::now());
        for number in 0..10 * MOST {
            denials.note(&key(&number.to_string()), now);
        }
        assert!(denials.keys().len() <= MOST);
    }
}
