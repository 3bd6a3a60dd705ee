//! How often a Secret may be tried on images from elsewhere: whoever may not read it is not to find it out by
//! sending images until one fits.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strongroom_model::dialect::kubernetes::SecretReference;

/// The tries that a Secret has had, for each namespace with images and each version of the Secret.
#[derive(Debug, Default)]
pub(in super::super) struct Pauses {
    tries: Mutex<HashMap<Trial, Tries>>,
}

/// Which Secret is tried for whom. Another version of it is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Trial {
    pub(super) secret: SecretReference,
    pub(super) version: String,
    /// The namespace of the image.
    pub(super) namespace: String,
}

/// The tries that have not been taken back.
#[derive(Debug, Clone, Copy)]
struct Tries {
    count: u32,
    /// When the next one may be.
    next: Instant,
}

impl Pauses {
    /// Counts a try, which is to be [taken back](Self::take_back) when the Secret fitted, or was not tried.
    ///
    /// # Errors
    ///
    /// How long it is until the next try, when that is not now.
    pub(super) fn begin(&self, trial: &Trial, now: Instant) -> Result<(), Duration> {
        let mut tries = self.tries();
        // What has rested for long is forgotten, so that this does not grow for ever.
        tries.retain(|_, tries| now < tries.next + LONGEST);
        let tries = tries.entry(trial.clone()).or_insert(Tries { count: 0, next: now });
        if now < tries.next {
            return Err(tries.next - now);
        }
        tries.count += 1;
        tries.next = now + pause(tries.count);
        Ok(())
    }

    /// Takes a try back that told nothing new: the Secret fitted, or was not tried.
    pub(super) fn take_back(&self, trial: &Trial, now: Instant) {
        if let Some(tries) = self.tries().get_mut(trial) {
            tries.count = tries.count.saturating_sub(1);
            tries.next = now + pause(tries.count);
        }
    }

    // It is changed in one step, which no panic leaves half done.
    fn tries(&self) -> MutexGuard<'_, HashMap<Trial, Tries>> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the pause after so many tries: none after the first ones, since people err.
fn pause(tries: u32) -> Duration {
    match tries.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(more) => FIRST.saturating_mul(1 << more.min(16)).min(LONGEST),
    }
}

/// From this try on there are pauses.
const FREE: u32 = 5;

/// The first pause.
const FIRST: Duration = Duration::from_secs(60);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(namespace: &str, version: &str) -> Trial {
        let secret = SecretReference { namespace: "keys".to_owned(), name: "key".to_owned() };
        Trial { secret, version: version.to_owned(), namespace: namespace.to_owned() }
    }

    #[test]
    fn the_pauses_between_guesses_grow_for_one_namespace_and_one_secret() {
        let (pauses, start) = (Pauses::default(), Instant::now());
        let lab = trial("lab", "7");
        for _ in 0..FREE {
            assert_eq!(pauses.begin(&lab, start), Ok(()));
        }
        assert_eq!(pauses.begin(&lab, start), Err(FIRST));
        assert_eq!(pauses.begin(&trial("other", "7"), start), Ok(()));
        assert_eq!(pauses.begin(&trial("lab", "8"), start), Ok(()));
        let later = start + FIRST;
        assert_eq!(pauses.begin(&lab, later), Ok(()));
        assert_eq!(pauses.begin(&lab, later), Err(2 * FIRST));
        assert_eq!(pause(u32::MAX), LONGEST);
    }

    #[test]
    fn a_try_that_is_taken_back_counts_for_nothing() {
        let (pauses, now, lab) = (Pauses::default(), Instant::now(), trial("lab", "7"));
        for _ in 0..4 * FREE {
            assert_eq!(pauses.begin(&lab, now), Ok(()));
            pauses.take_back(&lab, now);
        }
    }
}
