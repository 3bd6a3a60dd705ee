//! What can go wrong with a resource.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use strongroom_disk::ErrorKind;

/// An error of the crate. Every `url` in it is redacted: scheme, host, port and path alone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered with something that contradicts the request or itself.
    #[error("{url} gave an answer that cannot be trusted: {reason}")]
    Answer {
        /// Who answered.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file with further certificates is of no use.
    #[error("cannot use the CA file {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Someone asked to stop.
    #[error("the work was cancelled")]
    Cancelled,
    /// The server's certificate is not one that this machine trusts.
    #[error("the certificate of {url} is not trusted: {reason}")]
    Certificate {
        /// The server.
        url: String,
        /// What to do about it.
        reason: &'static str,
        /// What the TLS library says.
        source: Cause,
    },
    /// The resource is not the one any more that was opened.
    #[error("{url} has changed since it was opened: its {what} was {before} and is now {now}")]
    Changed {
        /// The resource.
        url: String,
        /// What differs.
        what: &'static str,
        /// What it was.
        before: String,
        /// What it is.
        now: String,
    },
    /// No connection came about, or it broke.
    #[error("cannot talk to {url}")]
    Connection {
        /// The server.
        url: String,
        /// What the network says.
        source: Cause,
    },
    /// The body ended too early.
    #[error("{url} ended the connection at byte {at} of {end}")]
    Cut {
        /// The resource.
        url: String,
        /// The first byte that did not come.
        at: u64,
        /// Where the answer should have ended.
        end: u64,
    },
    /// Every repetition failed.
    #[error("gave up on {url} after {attempts} attempts in a row")]
    GaveUp {
        /// The resource.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// How the last attempt ended.
        source: Box<Self>,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects {reason}")]
    Redirect {
        /// Who redirects.
        url: String,
        /// Where to, and why that is refused.
        reason: String,
    },
    /// This machine cannot start what fetching needs.
    #[error("cannot prepare to fetch anything")]
    Setup {
        /// Why not.
        source: Cause,
    },
    /// Nothing came for too long.
    #[error("{url} has sent nothing for {seconds} seconds")]
    Stalled {
        /// The server.
        url: String,
        /// How long that was.
        seconds: f64,
    },
    /// The server refuses.
    #[error("{url} answered {status}: {meaning}")]
    Status {
        /// Who answered.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What that means.
        meaning: &'static str,
    },
    /// The URL is not one that can be fetched. It is not repeated here.
    #[error("the URL cannot be used: {reason}")]
    Url {
        /// What is wrong with it.
        reason: String,
    },
}

/// What another library says about a failure.
pub type Cause = Arc<dyn StdError + Send + Sync>;

impl Error {
    /// Returns the error of this crate that is `error` or that caused it: a disk's error, or one
    /// of reading a stream.
    pub fn within<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|cause| cause.downcast_ref())
    }

    /// Returns whether the work ended because someone asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Returns whether it was refused because it leads where [`Reach::OtherHosts`](crate::Reach) does not go.
    pub fn is_out_of_reach(&self) -> bool {
        causes(self).any(crate::reach::is_refusal)
    }

    /// Returns the kind that fits best for a disk.
    pub(crate) fn disk_kind(&self) -> ErrorKind {
        match self {
            Self::GaveUp { source, .. } => source.disk_kind(),
            Self::Status { status: 401 | 403 | 407, .. } => ErrorKind::PermissionDenied,
            Self::Status { status: 404 | 410, .. } => ErrorKind::NotFound,
            _ => ErrorKind::Other,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        // Never `Interrupted`, not even for a cancellation: readers go on after that.
        let kind = match error.disk_kind() {
            ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Returns `error` and its causes. An `io::Error` passes over the one it wraps; this does not.
pub(crate) fn causes<'a>(
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

#[cfg(test)]
mod tests {
    use strongroom_disk::Operation;

    use super::*;

    #[test]
    fn is_found_again_in_errors_of_disks_and_streams() {
        let disk = strongroom_disk::Error::new(ErrorKind::Other, Operation::Read, "x")
            .with_source(Error::Cancelled);
        assert!(Error::within(&disk).unwrap().is_cancelled());
        let stream = io::Error::from(Error::Cancelled);
        assert!(Error::within(&stream).unwrap().is_cancelled());
        assert_ne!(stream.kind(), io::ErrorKind::Interrupted);
        assert!(Error::within(&io::Error::other("lamp broken")).is_none());
    }

    #[test]
    fn keeps_its_kind_after_the_last_attempt() {
        let source = Box::new(Error::Status { url: String::new(), status: 404, meaning: "" });
        let error = Error::GaveUp { url: String::new(), attempts: 2, source };
        assert_eq!(error.disk_kind(), ErrorKind::NotFound);
    }
}
