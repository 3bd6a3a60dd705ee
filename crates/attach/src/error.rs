//! What can go wrong while a volume is made to appear.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// An error: what was tried, with what, and why it failed.
#[derive(Debug)]
pub struct Error {
    // Boxed so that results stay small.
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    problem: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Somebody uses it.
    Busy,
    /// What is on a device is not what it should be.
    Contents,
    /// The system refused or failed.
    Io,
    /// This machine cannot do that.
    Unsupported,
    /// The request cannot be carried out as it was made.
    Request,
}

impl Error {
    /// Returns an error; `problem` names what was tried and with what.
    pub fn new(kind: ErrorKind, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { inner: Box::new(Inner { kind, problem: problem.into(), hint: None, source: None }) }
    }

    /// Returns the error of a system call that failed; its kind follows from `source`.
    pub fn from_io(problem: impl Into<Cow<'static, str>>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = match source.kind() {
            io::ErrorKind::ResourceBusy => ErrorKind::Busy,
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Io,
        };
        Self::new(kind, problem).with_source(source)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Adds why it happened.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Returns what kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Returns what to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.problem)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

impl From<strongroom_disk::Error> for Error {
    fn from(source: strongroom_disk::Error) -> Self {
        Self::new(ErrorKind::Io, "a disk failed").with_source(source)
    }
}
