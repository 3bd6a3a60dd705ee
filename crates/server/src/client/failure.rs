//! Why a server did not do what it was asked for.

use std::fmt;

use serde_json::Value;

/// Why a server did not do what it was asked for. The text names the server, or is what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What a caller can act on.
    pub kind: FailureKind,
    /// What happened.
    pub message: String,
    /// What is wrong with which field of a document, where that is the reason.
    pub causes: Vec<FailureCause>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureCause {
    /// Its path, empty for the document as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// What was asked for, or said of the server, cannot be.
    Request,
    /// Nobody answers there, or the answer broke off.
    Unreachable,
    /// It cannot prove who it is.
    Certificate,
    /// It does not know who asks.
    Unknown,
    /// Whoever asks may not do that.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// There is such a thing already.
    Exists,
    /// Somebody has changed it meanwhile, or uses it.
    Conflict,
    /// The document is refused.
    Invalid,
    /// What was asked for was too long ago.
    Expired,
    /// What came is not what it should be.
    Checksum,
    /// The server has a trouble of its own.
    Server,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, message: String) -> Self {
        Self { kind, message, causes: Vec::new() }
    }

    /// Returns why nobody answers.
    pub(super) fn of_network(server: &str, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut chain = Vec::new();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(found) = cause {
            chain.push(found.to_string());
            cause = found.source();
        }
        let certificate = chain.iter().any(|text| text.contains("certificate"));
        let last = chain.pop().unwrap_or_default();
        if chain.iter().chain([&last]).any(|text| text.contains(AUTHORITY_ITSELF)) {
            let problem = format!(
                "{server} cannot prove who it is: its certificate is one of an authority, which vouches for \
                 others and not for a server: make it with basicConstraints=CA:FALSE, or have that authority \
                 sign one for the server and name the authority's with --ca-file"
            );
            return Self::new(FailureKind::Certificate, problem);
        }
        match certificate {
            true => Self::new(
                FailureKind::Certificate,
                format!("{server} cannot prove who it is: {last}"),
            ),
            false if error.is_timeout() => {
                Self::new(FailureKind::Unreachable, format!("{server} does not answer in time"))
            }
            false => {
                Self::new(FailureKind::Unreachable, format!("{server} cannot be reached: {last}"))
            }
        }
    }

    /// Returns what a server says in a `Status` of Kubernetes' API.
    pub(super) fn of_answer(server: &str, status: u16, text: &[u8]) -> Self {
        let said: Value = serde_json::from_slice(text).unwrap_or_default();
        Self::of_status(server, status, &said)
    }

    /// Returns what a server says in a `Status` that came with a stream.
    pub(super) fn of_status(server: &str, code: u16, said: &Value) -> Self {
        let reason = said["reason"].as_str().unwrap_or_default();
        let message = match said["message"].as_str().filter(|text| !text.is_empty()) {
            Some(message) => message.to_owned(),
            None => format!("{server} answers with status {code}"),
        };
        let causes = said["details"]["causes"].as_array().into_iter().flatten().map(|cause| {
            let text = |key: &str| cause[key].as_str().unwrap_or_default().to_owned();
            FailureCause { field: text("field"), message: text("message") }
        });
        Self { kind: FailureKind::of(code, reason), message, causes: causes.collect() }
    }
}

impl FailureKind {
    fn of(code: u16, reason: &str) -> Self {
        match (code, reason) {
            (_, "AlreadyExists") => Self::Exists,
            (401, _) => Self::Unknown,
            (403, _) => Self::Forbidden,
            (404, _) => Self::NotFound,
            (409, _) => Self::Conflict,
            (410, _) => Self::Expired,
            (422, _) => Self::Invalid,
            (400..=499, _) => Self::Request,
            _ => Self::Server,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// How TLS calls it when a server shows the certificate of an authority as its own.
const AUTHORITY_ITSELF: &str = "CaUsedAsEndEntity";
