//! Leaves a KMS alone that is out of order, so that callers need not wait for it each time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use strongroom_model::KmsKind;
use zeroize::Zeroizing;

use crate::error::Outage;
use crate::kek::{Check, Kek};
use crate::{Error, ErrorKind, Limits, Probe, Result, Wrapped};

/// A key encryption key behind a circuit breaker.
///
/// After some calls in a row that found the KMS out of order ([`Outage`]), further ones fail at once
/// for a while. Then one is let through to see: when it succeeds, or fails for another reason,
/// everything is as before. What an envelope makes the KMS answer does not count, lest one envelope
/// keep the others from being opened.
#[derive(Debug)]
pub(crate) struct Guarded<K> {
    kek: K,
    breaker: Mutex<Breaker>,
}

impl<K: Kek> Guarded<K> {
    pub(crate) fn new(kek: K, limits: &Limits) -> Self {
        Self { kek, breaker: Mutex::new(Breaker::new(limits)) }
    }

    fn call<T>(&self, work: impl FnOnce(&K) -> Result<T>) -> Result<T> {
        self.breaker().admit(Instant::now()).map_err(|refusal| self.refuse(&refusal))?;
        let mut admitted = Admitted { breaker: &self.breaker, trouble: Some(PANICKED.to_owned()) };
        let result = work(&self.kek);
        admitted.trouble = match &result {
            Err(error) if error.outage() != Outage::None => Some(error.problem().to_owned()),
            _ => None,
        };
        result
    }

    fn refuse(&self, refusal: &Refusal) -> Error {
        let since = humantime::format_rfc3339_seconds(refusal.since);
        let problem = format!("it is out of order since {since}: {}", refusal.trouble);
        Error::new(ErrorKind::Unavailable, self.kek.label(), problem)
            .hinted(format!("it is asked again in {:.0?}", refusal.left))
            .of_outage(Outage::Absence)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Its numbers are good whoever panicked.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kek> Kek for Guarded<K> {
    fn kind(&self) -> KmsKind {
        self.kek.kind()
    }

    fn label(&self) -> String {
        self.kek.label()
    }

    fn encrypt(&self, plaintext: &[u8]) -> Result<Wrapped> {
        self.call(|kek| kek.encrypt(plaintext))
    }

    fn decrypt(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        self.call(|kek| kek.decrypt(wrapped))
    }

    fn rewrap(&self, wrapped: &Wrapped, check: &Check<'_>) -> Result<Wrapped> {
        self.call(|kek| kek.rewrap(wrapped, check))
    }

    /// Whoever asks how the KMS is wants to know it now.
    fn probe(&self) -> Result<Probe> {
        let result = self.kek.probe();
        if result.is_ok() {
            self.breaker().succeeded();
        }
        result
    }
}

/// Reports how a call ended, a panic included.
struct Admitted<'a> {
    breaker: &'a Mutex<Breaker>,
    /// Why the KMS is to blame, where it is.
    trouble: Option<String>,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        match self.trouble.take() {
            Some(trouble) => breaker.failed(trouble, Instant::now()),
            None => breaker.succeeded(),
        }
    }
}

/// What is known of how calls have gone. Time is an argument.
#[derive(Debug)]
struct Breaker {
    limit: u32,
    shortest: Duration,
    /// How many have failed in a row.
    failed: u32,
    since: Option<SystemTime>,
    trouble: String,
    pause: Duration,
    /// Until when nobody is let through.
    closed_until: Option<Instant>,
}

/// Why a call is not let through.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    since: SystemTime,
    trouble: String,
    left: Duration,
}

impl Breaker {
    fn new(limits: &Limits) -> Self {
        Self {
            limit: limits.failures.max(1),
            shortest: limits.pause,
            failed: 0,
            since: None,
            trouble: String::new(),
            pause: limits.pause,
            closed_until: None,
        }
    }

    /// Lets a call through, or says why not.
    fn admit(&mut self, now: Instant) -> std::result::Result<(), Refusal> {
        let Some(until) = self.closed_until else { return Ok(()) };
        if now < until {
            return Err(Refusal {
                since: self.since.unwrap_or_else(SystemTime::now),
                trouble: self.trouble.clone(),
                left: until - now,
            });
        }
        // One goes ahead; the others wait for what it finds.
        self.closed_until = Some(now + self.pause);
        Ok(())
    }

    fn failed(&mut self, trouble: String, now: Instant) {
        self.failed = self.failed.saturating_add(1);
        self.since.get_or_insert_with(SystemTime::now);
        self.trouble = trouble;
        if self.failed < self.limit {
            return;
        }
        if self.failed > self.limit {
            self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE.max(self.shortest));
        }
        self.closed_until = Some(now + self.pause);
    }

    fn succeeded(&mut self) {
        self.failed = 0;
        self.since = None;
        self.trouble.clear();
        self.pause = self.shortest;
        self.closed_until = None;
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

const PANICKED: &str = "the last call did not end as it should";

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use strongroom_crypto::CostPolicy;

    use super::*;

    const LIMITS: Limits = Limits {
        connect: Duration::ZERO,
        request: Duration::ZERO,
        total: Duration::ZERO,
        retries: 0,
        backoff: Duration::ZERO,
        failures: 3,
        pause: Duration::from_secs(2),
        derivation: CostPolicy { max_memory_kib: 0, max_time: Duration::ZERO },
    };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn out_of_order(start: Instant) -> Breaker {
        let mut breaker = Breaker::new(&LIMITS);
        for _ in 0..3 {
            breaker.admit(start).unwrap();
            breaker.failed("it is sealed".to_owned(), start);
        }
        breaker
    }

    #[test]
    fn lets_nobody_through_after_some_failures_in_a_row() {
        let start = Instant::now();
        let refusal = out_of_order(start).admit(after(start, 1)).unwrap_err();
        assert_eq!(refusal.trouble, "it is sealed");
        assert_eq!(refusal.left, Duration::from_secs(1));
    }

    #[test]
    fn counts_failures_in_a_row_alone() {
        let start = Instant::now();
        let mut breaker = Breaker::new(&LIMITS);
        for _ in 0..9 {
            breaker.failed("it is down".to_owned(), start);
            breaker.failed("it is down".to_owned(), start);
            breaker.succeeded();
            breaker.admit(start).unwrap();
        }
    }

    #[test]
    fn lets_one_through_after_a_while_and_all_when_that_worked() {
        let start = Instant::now();
        let mut breaker = out_of_order(start);
        breaker.admit(after(start, 2)).unwrap();
        assert!(breaker.admit(after(start, 2)).is_err());
        breaker.succeeded();
        breaker.admit(after(start, 2)).unwrap();
        breaker.admit(after(start, 2)).unwrap();
    }

    #[test]
    fn waits_longer_each_time_but_never_for_long() {
        let start = Instant::now();
        let mut breaker = out_of_order(start);
        let mut at = start;
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            let refusal = breaker.admit(at).unwrap_err();
            assert_eq!(refusal.left, Duration::from_secs(expected));
            at += refusal.left;
            breaker.admit(at).unwrap();
            breaker.failed("still".to_owned(), at);
        }
    }

    #[derive(Debug, Default)]
    struct Switched {
        down: AtomicBool,
        calls: AtomicUsize,
    }

    impl Kek for &Switched {
        fn kind(&self) -> KmsKind {
            KmsKind::Transit
        }

        fn label(&self) -> String {
            "switched".to_owned()
        }

        fn encrypt(&self, _plaintext: &[u8]) -> Result<Wrapped> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            if self.down.load(Ordering::Relaxed) {
                let error = Error::new(ErrorKind::Unavailable, self.label(), "it is sealed");
                return Err(error.of_outage(Outage::Server));
            }
            Err(Error::new(ErrorKind::Denied, self.label(), "no"))
        }

        fn decrypt(&self, _wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
            Ok(Zeroizing::default())
        }

        fn probe(&self) -> Result<Probe> {
            Ok(Probe::default())
        }
    }

    #[test]
    fn fails_fast_with_the_reason_and_recovers_by_itself() {
        let kek = Switched::default();
        let limits = Limits { pause: Duration::from_millis(50), ..LIMITS };
        let guarded = Guarded::new(&kek, &limits);
        kek.down.store(true, Ordering::Relaxed);
        for _ in 0..10 {
            let error = guarded.encrypt(b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
        assert_eq!(kek.calls.load(Ordering::Relaxed), 3);
        assert!(guarded.encrypt(b"").unwrap_err().is_unreachable());
        let error = guarded.encrypt(b"").unwrap_err();
        assert!(error.to_string().starts_with("switched: it is out of order since 20"), "{error}");
        assert!(error.to_string().ends_with("Z: it is sealed"), "{error}");
        kek.down.store(false, Ordering::Relaxed);
        std::thread::sleep(limits.pause);
        for _ in 0..10 {
            assert_eq!(guarded.encrypt(b"").unwrap_err().kind(), ErrorKind::Denied);
        }
    }

    #[test]
    fn a_probe_always_goes_through_and_ends_the_pause() {
        let kek = Switched::default();
        let guarded = Guarded::new(&kek, &LIMITS);
        *guarded.breaker() = out_of_order(Instant::now());
        assert!(guarded.decrypt(&Wrapped::default()).is_err());
        guarded.probe().unwrap();
        guarded.decrypt(&Wrapped::default()).unwrap();
    }
}
