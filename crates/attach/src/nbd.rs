//! An opened volume as an export over NBD.

use serde::{Deserialize, Serialize};

use crate::service::Readiness;
use crate::{Launcher, OpenedVolume, Result};

/// What a service needs to know besides the volume.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NbdTask {
    /// Where to listen.
    pub(crate) address: String,
}

/// Serves a volume until somebody ends it.
pub(crate) fn serve(_task: &NbdTask, _volume: OpenedVolume, _readiness: Readiness) -> Result<()> {
    unimplemented!()
}

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
