//! Why there are no figures.

use std::io;
use std::process::ExitStatus;

/// An error of the program. A missed target is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line is not one that works.
    #[error(
        "usage: strongroom-benches STRONGROOM [aes] [ciphers] [images] [qcow2] [opening] \
         [fuse] [nbd], STRONGROOM being the release binary"
    )]
    Usage,
    /// A result is wrong, so its speed does not matter.
    #[error("wrong result: {0}")]
    Wrong(String),
    /// A process failed.
    #[error("`{command}` fails with {status}: {text}")]
    Process {
        /// What was run.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        text: String,
    },
    /// A file or process could not be used.
    #[error("{what} cannot be used: {reason}")]
    System {
        /// The file or process.
        what: String,
        /// What the system says.
        reason: io::Error,
    },
    /// The resource use of a process or thread could not be read.
    #[error("the kernel does not tell the use of resources: {0}")]
    Resources(nix::Error),
    /// OpenSSL failed.
    #[error(transparent)]
    OpenSsl(#[from] openssl::error::ErrorStack),
    /// Our own ciphers failed.
    #[error(transparent)]
    Crypto(#[from] strongroom_crypto::Error),
    /// Our own disks failed.
    #[error(transparent)]
    Disk(#[from] strongroom_disk::Error),
    /// A volume could not be attached.
    #[error(transparent)]
    Attach(#[from] strongroom_attach::Error),
    /// A header could not be read.
    #[error(transparent)]
    Luks(#[from] strongroom_luks::Error),
    /// Our own pipeline failed.
    #[error(transparent)]
    Clone(#[from] strongroom_clone::Error),
}

impl Error {
    /// Returns a function that turns an I/O error with `what` into one of these.
    pub(crate) fn system(what: &impl ToString) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |reason| Self::System { what, reason }
    }
}
