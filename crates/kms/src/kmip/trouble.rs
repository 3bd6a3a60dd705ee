//! What can go wrong on the way to a server, and what to do about it.

use std::io;
use std::time::SystemTime;

use rustls::{AlertDescription, CertificateError};

use super::ttlv::Malformed;
use crate::error::Outage;
use crate::{Error, ErrorKind};

/// How far it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Up to the connection.
    Connect,
    /// Up to the end of the TLS handshake.
    Handshake,
    /// Up to the first byte of the first response: with TLS 1.3 a server says only then what it
    /// thinks of the client's certificate.
    First,
    /// Up to the first byte of a later response.
    Reuse,
    /// Up to the end of a response.
    Receive,
}

/// What went wrong.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// While talking.
    Io(Step, io::Error),
    /// In what came back.
    Malformed(Malformed),
}

impl Trouble {
    pub(crate) fn new(step: Step, error: io::Error) -> Self {
        Self::Io(step, error)
    }

    pub(crate) fn malformed(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }

    /// Returns whether the server had closed the connection before it was asked again.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, Self::Io(Step::Reuse, error) if error.kind() != io::ErrorKind::TimedOut)
    }

    /// Returns the error; `certificate_expiry` is when the client's own certificate runs out.
    pub(crate) fn into_error(self, label: &str, certificate_expiry: Option<SystemTime>) -> Error {
        let (step, error) = match self {
            Self::Io(step, error) => (step, error),
            Self::Malformed(malformed) => {
                let problem = "what answers there does not speak KMIP as it should";
                return Error::new(ErrorKind::Unavailable, label, problem).with_source(malformed);
            }
        };
        let expired = certificate_expiry.filter(|expiry| *expiry < SystemTime::now());
        let told = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        let said = match told {
            Some(rustls::Error::InvalidCertificate(flaw)) => server_certificate(flaw),
            Some(told) if step != Step::Receive => match (expired, tls(told)) {
                // Servers have many words for it, and some have none.
                (Some(expiry), Said { kind: ErrorKind::Misconfigured, .. }) => own(expiry),
                (_, said) => said,
            },
            Some(told) => tls(told),
            None => match (expired, step) {
                (Some(expiry), Step::Handshake | Step::First) => own(expiry),
                _ => plain(&error, step),
            },
        };
        let Said { kind, problem, hint } = said;
        let outage = match kind {
            ErrorKind::Unavailable => Outage::Absence,
            _ => Outage::None,
        };
        let mut shown = Error::new(kind, label, problem).of_outage(outage);
        // That the server closed the connection was said.
        if error.kind() != io::ErrorKind::UnexpectedEof {
            shown = shown.with_source(error);
        }
        if let Some(hint) = hint {
            shown = shown.hinted(hint);
        }
        shown
    }
}

impl Error {
    /// Returns whether it stays until somebody mends something.
    pub(crate) fn is_permanent(&self) -> bool {
        self.kind() != ErrorKind::Unavailable
    }
}

/// What is said about some trouble.
struct Said {
    kind: ErrorKind,
    problem: String,
    hint: Option<&'static str>,
}

impl Said {
    fn new(kind: ErrorKind, problem: &str, hint: impl Into<Option<&'static str>>) -> Self {
        Self { kind, problem: problem.to_owned(), hint: hint.into() }
    }
}

/// Returns what is said when our own certificate has run out.
fn own(expiry: SystemTime) -> Said {
    let problem = format!(
        "the client's certificate expired at {}, and the server does not accept it",
        humantime::format_rfc3339_seconds(expiry)
    );
    Said::new(ErrorKind::Misconfigured, &problem, "give a new one with --kms-cert-file")
}

/// Returns what is said about the server's certificate.
fn server_certificate(flaw: &CertificateError) -> Said {
    let (problem, hint) = match flaw {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("the server's certificate has expired", "let the server have a new certificate")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            "the server's certificate is not valid yet",
            "compare the clocks of this machine and the server",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "the server's certificate is for another name",
            "give the name that the certificate bears with --kms-server-name, if that is the \
             right server",
        ),
        // The signature is bad when the right CA has the name of the one that is trusted, as one does
        // that was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "no trusted CA vouches for the server's certificate",
            "give the certificate of the CA that does with --kms-ca-file",
        ),
        _ => ("the server's certificate is of no use", "let the server have a new certificate"),
    };
    Said::new(ErrorKind::Misconfigured, problem, hint)
}

/// Returns what is said about other trouble of TLS.
fn tls(error: &rustls::Error) -> Said {
    use AlertDescription as Alert;
    match error {
        rustls::Error::AlertReceived(Alert::CertificateExpired) => Said::new(
            ErrorKind::Misconfigured,
            "the server says that the client's certificate has expired",
            "give a new one with --kms-cert-file",
        ),
        rustls::Error::AlertReceived(
            Alert::AccessDenied
            | Alert::BadCertificate
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate,
        ) => Said::new(
            ErrorKind::Misconfigured,
            "the server does not accept the client's certificate",
            "give one that a CA of the server has signed, with its chain, with --kms-cert-file and \
             --kms-key-file",
        ),
        rustls::Error::AlertReceived(
            Alert::HandshakeFailure | Alert::InsufficientSecurity | Alert::ProtocolVersion,
        )
        | rustls::Error::PeerIncompatible(_) => Said::new(
            ErrorKind::Misconfigured,
            "the server accepts no version and cipher of TLS that is spoken here, or not the \
             client's certificate",
            "let it speak TLS 1.3, or 1.2 with ECDHE and AES-GCM, for which a PyKMIP server needs \
             an ECDSA certificate",
        ),
        rustls::Error::InvalidMessage(_) => Said::new(
            ErrorKind::Unavailable,
            "what answers there does not speak TLS",
            "see that --kms-endpoint names the port of KMIP",
        ),
        _ => Said::new(ErrorKind::Unavailable, "the TLS connection failed", None),
    }
}

/// Returns what is said about trouble below TLS.
fn plain(error: &io::Error, step: Step) -> Said {
    let problem = match (error.kind(), step) {
        (io::ErrorKind::TimedOut, Step::Connect) => "the server cannot be reached in time",
        (io::ErrorKind::TimedOut, _) => "the server takes too long to answer",
        (_, Step::Connect) => "the server cannot be reached",
        (_, Step::Handshake) => "the server closed the connection before TLS was set up",
        (_, _) => "the server closed the connection before it had answered",
    };
    let hint = match (error.kind(), step) {
        (_, Step::Connect) => Some("see that --kms-endpoint is right and the server runs"),
        (io::ErrorKind::TimedOut, _) => None,
        // Some servers end the connection so soon that their reason is lost on the way.
        (_, Step::Handshake | Step::First) => Some(
            "if that stays so, see that the server accepts the client's certificate, which \
             --kms-cert-file gives",
        ),
        _ => None,
    };
    Said::new(ErrorKind::Unavailable, problem, hint)
}
