//! Services that outlive the command which starts them: each is a process of its own.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;

use crate::Result;

/// How to start this program again, as a service.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// The arguments by which it knows that it is to run [`Service::run`]. They hold no secret: what
    /// the service needs, the volume key too, comes through its standard input.
    pub arguments: Vec<OsString>,
}

/// A service that was started by a [`Launcher`].
#[derive(Debug)]
pub struct Service(());

impl Service {
    /// Reads what to serve from `input`, tells whoever started it that it is ready, and serves until it
    /// is stopped.
    ///
    /// # Errors
    ///
    /// When the input is not what a launcher sends, or the service cannot begin.
    pub fn run(_input: impl Read) -> Result<()> {
        Ok(())
    }
}
