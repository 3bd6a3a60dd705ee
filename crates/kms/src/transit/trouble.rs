//! Why there is no answer, and what may be tried again after how long.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, SystemTime};

use rustls::{AlertDescription, CertificateError};

use crate::error::Outage;
use crate::{Error, ErrorKind};

/// Why there is no answer.
pub(super) enum Trouble {
    /// It may go better next time. Holds for how long the server wants to be left alone.
    Passing(Error, Option<Duration>),
    /// It will not.
    Lasting(Error),
}

/// Tells a certificate that will be no better next time from a network that may be.
pub(super) fn classify(error: reqwest::Error, label: &str) -> Trouble {
    let error = error.without_url();
    let tls = causes(&error).find_map(|cause| cause.downcast_ref::<rustls::Error>()).cloned();
    let misconfigured = |problem: &str, hint: &str| {
        Error::new(ErrorKind::Misconfigured, label, problem).hinted(hint)
    };
    match tls {
        Some(rustls::Error::InvalidCertificate(refused)) => {
            let (problem, hint) = advice(&refused);
            let source = rustls::Error::InvalidCertificate(refused);
            Trouble::Lasting(misconfigured(problem, hint).with_source(source))
        }
        Some(rustls::Error::AlertReceived(alert)) if is_about_us(alert) => {
            let problem = "it does not accept our client certificate";
            let hint = "give one that it trusts with --kms-cert-file and --kms-key-file";
            let source = rustls::Error::AlertReceived(alert);
            Trouble::Lasting(misconfigured(problem, hint).with_source(source))
        }
        _ => {
            let problem = match (error.is_timeout(), error.is_connect()) {
                (true, true) => "no connection is made in time",
                (true, false) => "no answer comes in time",
                (false, true) => "it cannot be connected to",
                (false, false) => "the connection breaks",
            };
            let error = Error::new(ErrorKind::Unavailable, label, problem).with_source(error);
            Trouble::Passing(error.of_outage(Outage::Absence), None)
        }
    }
}

/// Returns how long a `Retry-After` asks to wait (RFC 9110, section 10.2.3).
pub(super) fn wished(retry_after: &str, now: SystemTime) -> Option<Duration> {
    let text = retry_after.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

/// Returns between half of and the whole of a time that doubles with each attempt, so that many
/// clients do not come back at the same moment.
pub(super) fn delay(backoff: Duration, attempt: u32, random: u64) -> Duration {
    let whole = backoff.saturating_mul(1 << attempt.min(16)).min(LONGEST_DELAY);
    whole.mul_f64(0.5 + random as f64 / u64::MAX as f64 / 2.0)
}

/// Without randomness everybody waits equally long, which is no reason to give up.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}

/// Returns what is wrong with the certificate of a server, and what to do about it.
fn advice(refused: &CertificateError) -> (&'static str, &'static str) {
    match refused {
        // The signature is bad when an authority that is trusted has the name of the one that signed.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "no authority that is trusted here has signed its certificate",
            "give the certificate of the one that has with --kms-ca-file",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "its certificate is for another name",
            "say which one with --kms-server-name, or name the endpoint so",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("its certificate has expired", "the server needs a new one")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("its certificate is not valid yet", "look whether the clock is right")
        }
        _ => ("its certificate does not stand up to the checks", "the server needs another one"),
    }
}

/// Returns whether an alert says that a server wants another client certificate.
fn is_about_us(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

/// Returns an error and what has caused it. I/O errors do not count what they wrap among that.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

const LONGEST_DELAY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_but_never_for_long() {
        let backoff = Duration::from_millis(100);
        for (attempt, most) in [(0, 100), (1, 200), (4, 1600), (7, 5000), (u32::MAX, 5000)] {
            let most = Duration::from_millis(most);
            assert_eq!(delay(backoff, attempt, u64::MAX), most);
            assert_eq!(delay(backoff, attempt, 0), most / 2);
        }
    }

    #[test]
    fn understands_seconds_and_dates() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(wished(" 12 ", now), Some(Duration::from_secs(12)));
        assert_eq!(wished("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(wished("soon", now), None);
    }
}
