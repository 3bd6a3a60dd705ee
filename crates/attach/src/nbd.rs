//! An opened volume as an export over NBD.

use crate::{Launcher, OpenedVolume, Result};

/// Starts a server that exports the plaintext of a volume at `address`: the path of a unix socket, or
/// `host:port` of this machine. Returns once clients can connect.
pub fn start(_launcher: &Launcher, _volume: &OpenedVolume, _address: &str) -> Result<()> {
    unimplemented!()
}

/// Returns whether a server of ours answers at `address`.
pub fn serves(_address: &str) -> Result<bool> {
    unimplemented!()
}

/// Ends the server at `address`, once everything it was given is written. No server succeeds.
pub fn stop(_address: &str) -> Result<()> {
    unimplemented!()
}
