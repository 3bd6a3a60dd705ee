//! An opened volume as one file in user space.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use strongroom_disk::Access;

use crate::message::Task;
use crate::plaintext::Plaintext;
use crate::service::Readiness;
use crate::{Launcher, OpenedVolume, Result, Support};

/// What a service needs to know besides the volume.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FuseTask {
    /// The file to appear as.
    pub(crate) file: PathBuf,
}

/// Serves a volume until its file is unmounted.
pub(crate) fn serve(_task: &FuseTask, volume: OpenedVolume, readiness: Readiness) -> Result<()> {
    let plaintext = Plaintext::open(volume, Access::ReadWrite)?;
    plaintext.disk().flush()?;
    plaintext.follow_backing()?;
    readiness.tell()?;
    unimplemented!()
}

/// Returns whether this machine has FUSE and lets us use it.
pub fn support() -> Support {
    Support::Missing { what: String::new(), remedy: String::new() }
}

/// Starts a server that shows the plaintext of a volume as `file`, which is made when it is not there.
/// Returns once the file can be used.
pub fn start(launcher: &Launcher, volume: &OpenedVolume, file: &Path) -> Result<()> {
    launcher.start(&Task::Fuse(FuseTask { file: file.to_owned() }), volume)
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
