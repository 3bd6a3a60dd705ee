//! An opened volume as one file in user space.

use std::path::Path;

use crate::{Launcher, OpenedVolume, Result, Support};

/// Returns whether this machine has FUSE and lets us use it.
pub fn support() -> Support {
    Support::Missing { what: String::new(), remedy: String::new() }
}

/// Starts a server that shows the plaintext of a volume as `file`, which is made when it is not there.
/// Returns once the file can be used.
pub fn start(_launcher: &Launcher, _volume: &OpenedVolume, _file: &Path) -> Result<()> {
    unimplemented!()
}

/// Returns whether a server answers for `file`.
pub fn serves(_file: &Path) -> Result<bool> {
    unimplemented!()
}

/// Ends the server of `file`, once everything it was given is written, and removes the file. A file
/// without a server succeeds.
pub fn stop(_file: &Path) -> Result<()> {
    unimplemented!()
}
