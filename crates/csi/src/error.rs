//! What can go wrong before a call comes in.

use std::io;
use std::path::PathBuf;

/// The result of starting a driver.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a driver does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The endpoint is not one that can be served.
    #[error("endpoint {endpoint:?} is not possible: {problem}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What would be.
        problem: &'static str,
    },
    /// A name is not one that CSI allows.
    #[error("{what} {name:?} is not possible: {problem}")]
    Name {
        /// What was to be named.
        what: &'static str,
        /// The name.
        name: String,
        /// What would be.
        problem: &'static str,
    },
    /// Another process answers at the socket.
    #[error("somebody else serves {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// What lies where the socket is to be is none.
    #[error("{} exists and is no socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The system refused or failed.
    #[error("cannot {what}")]
    Io {
        /// What was to be done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The server failed.
    #[error("the server of {} failed", path.display())]
    Server {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Returns an [`Error::Io`].
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }
}
