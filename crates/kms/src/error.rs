//! What can go wrong between here and a KMS.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything a provider does.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a provider: its kind, the KMS that it is about, and what happened.
///
/// The text names the KMS and the key, never a secret, and never repeats the source. It fits any
/// terminal and any log: what a hostile envelope or server has put into a name is escaped and cut.
#[derive(Debug)]
pub struct Error {
    // Boxed so that results stay small.
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    /// The KMS, as people know it.
    label: String,
    problem: String,
    hint: Option<String>,
    outage: Outage,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The KMS cannot be reached or does not work just now: trying later may help.
    Unavailable,
    /// The KMS does not let these credentials do that.
    Denied,
    /// The KMS has no such key, or not any more.
    NotFound,
    /// An envelope, or what the KMS made of it, is not what it should be.
    Corrupt,
    /// What was said of the KMS is wrong or not enough.
    Misconfigured,
}

/// What an error says of the KMS as a whole, and not of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outage {
    /// Nothing: another request may well succeed.
    None,
    /// It is there, but has trouble of its own.
    Server,
    /// Nobody is there, or is asked for a while.
    Absence,
}

impl Error {
    /// Returns an error about the KMS that people know as `label`.
    pub fn new(kind: ErrorKind, label: impl Into<String>, problem: impl Into<String>) -> Self {
        let (label, problem) = (shown(label.into()), shown(problem.into()));
        Self {
            inner: Box::new(Inner {
                kind,
                label,
                problem,
                hint: None,
                outage: Outage::None,
                source: None,
            }),
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(shown(hint.into()));
        self
    }

    /// Adds why it happened.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Says that it is about the KMS as a whole.
    #[must_use]
    pub(crate) fn of_outage(mut self, outage: Outage) -> Self {
        self.inner.outage = outage;
        self
    }

    /// Returns what it says of the KMS as a whole.
    pub(crate) fn outage(&self) -> Outage {
        self.inner.outage
    }

    /// Returns whether the KMS cannot be reached at all, so that it is of no use to ask it for
    /// anything else just now. What an envelope holds never brings that about.
    pub fn is_unreachable(&self) -> bool {
        self.inner.outage == Outage::Absence
    }

    /// Returns what a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Returns what happened, without the KMS that it is about.
    pub(crate) fn problem(&self) -> &str {
        &self.inner.problem
    }

    /// Returns what to do about it, where somebody knew.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.label, self.inner.problem)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Returns a text without what moves a terminal's cursor, turns its lines around or fills it.
pub(crate) fn shown(text: String) -> String {
    let harmless = |c: char| !c.is_control() && !is_bidirectional(c);
    if text.len() <= MAX_LEN && text.chars().all(harmless) {
        return text;
    }
    let mut shown = String::with_capacity(text.len().min(MAX_LEN));
    for c in text.chars() {
        if shown.len() > MAX_LEN - CUT {
            shown.push('…');
            break;
        }
        match c {
            c if harmless(c) => shown.push(c),
            c => shown.extend(c.escape_unicode()),
        }
    }
    shown
}

/// Returns whether a character turns the direction of those around it.
pub(crate) fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The longest text in bytes that is shown.
const MAX_LEN: usize = 1000;

/// Room for one escaped character and the sign that more was there.
const CUT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_moves_no_cursor_and_has_an_end() {
        let hostile = format!("no key a\u{1b}[2J\u{202e}\n{}", "b".repeat(5000));
        let text = Error::new(ErrorKind::NotFound, "kms", hostile).to_string();
        assert!(text.starts_with("kms: no key a\\u{1b}[2J\\u{202e}\\u{a}bbb"), "{text}");
        assert!(text.ends_with("bb…") && text.len() < 1100, "{text}");
    }

    #[test]
    fn a_text_that_is_harmless_stays_as_it_is() {
        let text = "der Schlüssel fehlt";
        assert_eq!(
            Error::new(ErrorKind::NotFound, "kms", text).to_string(),
            format!("kms: {text}")
        );
    }
}
