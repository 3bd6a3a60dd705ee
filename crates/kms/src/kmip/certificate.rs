//! How long certificates last.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Returns when the first of some certificates in PEM form runs out, which for a client is its own.
pub(crate) fn first_expiry(pem: &[u8]) -> Option<SystemTime> {
    CertificateDer::pem_slice_iter(pem).find_map(|found| expiry(&found.ok()?))
}

/// Returns when any of some certificates in PEM form runs out.
pub(crate) fn soonest_expiry(pem: &[u8]) -> Option<SystemTime> {
    CertificateDer::pem_slice_iter(pem).filter_map(|found| expiry(&found.ok()?)).min()
}

/// Returns when a certificate runs out (RFC 5280, section 4.1.2.5).
pub(crate) fn expiry(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    SystemTime::UNIX_EPOCH.checked_add(validity.not_after.to_unix_duration())
}

/// Returns a line about a certificate that has run out or soon will, when that is so.
///
/// `whose` begins the line, `todo` says what to do.
pub(crate) fn finding(
    whose: &str,
    expiry: Option<SystemTime>,
    now: SystemTime,
    todo: &str,
) -> Option<String> {
    let expiry = expiry?;
    let date = humantime::format_rfc3339_seconds(expiry);
    match expiry.duration_since(now) {
        Err(_) => Some(format!("{whose} expired at {date}: {todo}")),
        Ok(left) if left < SOON => {
            let days = left.as_secs() / (24 * 60 * 60);
            Some(format!("{whose} expires at {date}, in {days} days: {todo}"))
        }
        Ok(_) => None,
    }
}

/// What is left of a certificate when people are told.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_certificates_that_run_out_within_two_weeks() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let day = Duration::from_secs(24 * 60 * 60);
        let line = |expiry| finding("the CA certificate", Some(expiry), now, "renew it");
        assert_eq!(line(now + 15 * day), None);
        let soon = "the CA certificate expires at 2027-01-28T08:00:00Z, in 13 days: renew it";
        assert_eq!(line(now + 13 * day).as_deref(), Some(soon));
        let past = "the CA certificate expired at 2027-01-14T08:00:00Z: renew it";
        assert_eq!(line(now - day).as_deref(), Some(past));
    }

    #[test]
    fn reads_no_expiry_from_what_is_no_certificate() {
        assert_eq!(first_expiry(b"words"), None);
        assert_eq!(expiry(&CertificateDer::from(vec![0x30, 0x03, 1, 1, 0])), None);
    }
}
