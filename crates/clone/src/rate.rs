//! A limit on how much is moved in a second.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Error;
use crate::workers::Brake;

/// Makes threads wait, so that all of them together move no more than a number of bytes a second.
pub(crate) struct Throttle {
    began: Instant,
    bucket: Mutex<Bucket>,
}

impl Throttle {
    pub(crate) fn new(rate: NonZeroU64) -> Self {
        let bucket = Bucket { rate, taken_until: Duration::ZERO };
        Self { began: Instant::now(), bucket: Mutex::new(bucket) }
    }

    /// Returns once so many bytes may be moved: whether to go on.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`].
    pub(crate) fn wait(&self, bytes: u64, brake: &Brake<'_>) -> Result<bool, Error> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let moment = bucket.take(self.began.elapsed(), bytes);
        drop(bucket);
        brake.pause(|| moment.saturating_sub(self.began.elapsed()))
    }
}

/// Time as the bytes of each moment: whoever takes some comes behind all who came before.
struct Bucket {
    rate: NonZeroU64,
    /// Up to this moment everything is taken.
    taken_until: Duration,
}

impl Bucket {
    /// Takes so many bytes at the moment `now`, and returns the moment from which on they may move.
    fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        self.taken_until = self.taken_until.max(now).saturating_add(self.cost(bytes));
        self.taken_until.saturating_sub(BURST)
    }

    fn cost(&self, bytes: u64) -> Duration {
        let (seconds, rest) = (bytes / self.rate, bytes % self.rate);
        let nanos = u128::from(rest) * NANOS_PER_SECOND / u128::from(self.rate.get());
        Duration::new(seconds, nanos as u32)
    }
}

/// How far ahead of the rate anyone may be, so that short delays elsewhere cost nothing.
const BURST: Duration = Duration::from_millis(100);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64) -> Bucket {
        Bucket { rate: NonZeroU64::new(rate).unwrap(), taken_until: Duration::ZERO }
    }

    #[test]
    fn by_any_moment_no_more_than_the_rate_and_a_burst_has_moved() {
        let mut bucket = bucket(1_000_000);
        let (mut now, mut moved) = (Duration::ZERO, 0_u64);
        for bytes in (0..500).map(|number| number * 7919 % 65_537) {
            now = bucket.take(now, bytes).max(now);
            moved += bytes;
            let most = 1_000_000.0 * (now + BURST).as_secs_f64() + 1.0;
            assert!(moved as f64 <= most, "{moved} after {now:?}");
        }
        // Someone who is never late gets all of the rate.
        assert!(moved as f64 >= 1_000_000.0 * now.as_secs_f64(), "{moved} after {now:?}");
    }

    #[test]
    fn who_was_idle_has_saved_nothing_but_the_burst() {
        let mut bucket = bucket(1000);
        let hour = Duration::from_secs(3600);
        assert_eq!(bucket.take(hour, 100), hour);
        assert_eq!(bucket.take(hour, 500), hour + Duration::from_millis(500));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut slow = bucket(1);
        assert_eq!(slow.take(Duration::ZERO, u64::MAX).as_secs(), u64::MAX - 1);
        assert!(slow.take(Duration::ZERO, u64::MAX) > Duration::from_secs(u64::MAX));
        assert_eq!(bucket(u64::MAX).take(Duration::ZERO, 1 << 30), Duration::ZERO);
    }
}
