//! What is tried again, how often, and after how long.

use std::time::{Duration, SystemTime};

use crate::Error;

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It may go better next time. Holds for how long the server wants to be left alone.
    Passing(Error, Option<Duration>),
    /// It will not.
    Final(Error),
}

/// How much failure is borne.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How often something is repeated in a row.
    pub(crate) retries: u32,
    /// How long to wait the first time, about.
    pub(crate) backoff: Duration,
}

/// The attempts at one piece of work.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    url: &'a str,
    patience: Patience,
    /// How many have failed in a row.
    failed: u32,
    /// How far the work was when the row began.
    reached: u64,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl<'a> Attempts<'a> {
    /// Returns none so far, at work that begins at the byte `reached`.
    pub(crate) fn new(url: &'a str, patience: Patience, reached: u64) -> Self {
        Self { url, patience, failed: 0, reached }
    }

    /// Returns when to try again after an attempt that has come as far as the byte `reached`.
    ///
    /// # Errors
    ///
    /// The trouble's, when it is final or there was too much of it.
    pub(crate) async fn after(&mut self, trouble: Trouble, reached: u64) -> Result<(), Error> {
        tokio::time::sleep(self.wait_after(trouble, reached)?).await;
        Ok(())
    }

    fn wait_after(&mut self, trouble: Trouble, reached: u64) -> Result<Duration, Error> {
        if reached >= self.reached.saturating_add(PROGRESS) {
            self.reached = reached;
            self.failed = 0;
        }
        let (error, wished) = match trouble {
            Trouble::Final(error) => return Err(error),
            Trouble::Passing(error, wished) => (error, wished),
        };
        if self.failed >= self.patience.retries {
            if self.failed == 0 {
                return Err(error);
            }
            let (url, attempts) = (self.url.to_owned(), self.failed.saturating_add(1));
            return Err(Error::GaveUp { url, attempts, source: Box::new(error) });
        }
        // Without randomness everybody waits equally long, which is no reason to give up.
        let own = delay(self.patience.backoff, self.failed, getrandom::u64().unwrap_or(u64::MAX));
        self.failed += 1;
        Ok(wished.unwrap_or_default().min(LONGEST_WISH).max(own))
    }
}

/// Returns how long a `Retry-After` asks to wait (RFC 9110, section 10.2.3).
pub(crate) fn wish(retry_after: &str, now: SystemTime) -> Option<Duration> {
    let text = retry_after.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

/// Returns between half of and the whole of a time that doubles with each failure.
fn delay(backoff: Duration, failed: u32, random: u64) -> Duration {
    let whole = backoff.saturating_mul(1 << failed.min(16)).min(LONGEST_DELAY);
    let part = random as f64 / u64::MAX as f64;
    whole.mul_f64(0.5 + part / 2.0)
}

/// How many bytes bring the work on: a server that breaks off after each few is no better than one
/// that sends none.
const PROGRESS: u64 = 64 << 10;

const LONGEST_DELAY: Duration = Duration::from_secs(10);

const LONGEST_WISH: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { retries: 3, backoff: Duration::from_millis(100) };

    fn passing(wish: Option<u64>) -> Trouble {
        let error = Error::Cut { url: String::new(), at: 0, end: 0 };
        Trouble::Passing(error, wish.map(Duration::from_secs))
    }

    #[test]
    fn waits_longer_each_time_but_never_for_long() {
        let backoff = Duration::from_millis(100);
        for (failed, most) in [(0, 100), (1, 200), (4, 1600), (7, 10_000), (u32::MAX, 10_000)] {
            let most = Duration::from_millis(most);
            assert_eq!(delay(backoff, failed, u64::MAX), most);
            assert_eq!(delay(backoff, failed, 0), most / 2);
        }
    }

    #[test]
    fn gives_up_after_as_many_repetitions_as_allowed() {
        let mut attempts = Attempts::new("u", PATIENCE, 0);
        for _ in 0..3 {
            attempts.wait_after(passing(None), 0).unwrap();
        }
        let error = attempts.wait_after(passing(None), 0).unwrap_err();
        assert_eq!(error.to_string(), "gave up on u after 4 attempts in a row");
    }

    #[test]
    fn counts_anew_once_the_work_has_come_on() {
        let mut attempts = Attempts::new("u", PATIENCE, 0);
        for failure in 0..100 {
            attempts.wait_after(passing(None), failure / 3 * PROGRESS).unwrap();
        }
    }

    #[test]
    fn a_few_bytes_at_a_time_do_not_count() {
        let mut attempts = Attempts::new("u", PATIENCE, 0);
        let gives_up = |failure: u64| attempts.wait_after(passing(None), failure * 3).is_err();
        assert_eq!((0..100).position(gives_up), Some(3));
    }

    #[test]
    fn what_is_final_is_not_tried_again() {
        let error = Attempts::new("u", PATIENCE, 0).wait_after(Error::Cancelled.into(), 9);
        assert!(error.unwrap_err().is_cancelled());
    }

    #[test]
    fn does_what_a_server_wishes_within_a_minute() {
        let mut attempts = Attempts::new("u", PATIENCE, 0);
        let mut wait = |wish| attempts.wait_after(passing(Some(wish)), 0).unwrap().as_secs();
        assert_eq!(wait(7), 7);
        assert_eq!(wait(u64::MAX), 60);
        assert_eq!(wait(0), 0);
    }

    #[test]
    fn understands_seconds_and_dates() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(wish(" 12 ", now), Some(Duration::from_secs(12)));
        assert_eq!(wish("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(wish("Sun, 06 Nov 1994 08:48:37 GMT", now), None);
        assert_eq!(wish("soon", now), None);
    }
}
