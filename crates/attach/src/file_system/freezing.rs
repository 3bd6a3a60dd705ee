//! File systems that hold still.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::sys::freezing;
use crate::{Error, ErrorKind, Result};

/// A file system that is frozen: its device holds everything that was written, and whoever writes
/// waits. It goes on when this is dropped.
#[derive(Debug)]
#[must_use = "it thaws when this is dropped"]
pub struct Frozen {
    directory: Option<OwnedFd>,
    mounted_at: PathBuf,
}

/// Freezes the file system that is mounted at `mounted_at`, so that a copy of its device has no torn
/// state.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] when that file system cannot be frozen, or we may not; [`ErrorKind::Busy`]
/// when somebody has frozen it already.
pub fn freeze(mounted_at: &Path) -> Result<Frozen> {
    let directory = opened(mounted_at)?;
    let problem = || format!("cannot freeze the file system at {}", mounted_at.display());
    match freezing::freeze(directory.as_fd()) {
        Ok(()) => Ok(Frozen { directory: Some(directory), mounted_at: mounted_at.to_owned() }),
        Err(errno @ (Errno::OPNOTSUPP | Errno::NOTTY | Errno::PERM | Errno::INVAL)) => {
            Err(Error::new(ErrorKind::Unsupported, problem())
                .with_source(std::io::Error::from(errno)))
        }
        Err(errno) => Err(Error::from_io(problem(), errno)),
    }
}

/// Thaws the file system that is mounted at `mounted_at`, for whoever froze it and was killed. One that
/// is not frozen succeeds.
///
/// # Errors
///
/// When there is none, or it cannot go on.
pub fn thaw(mounted_at: &Path) -> Result<()> {
    thaw_opened(&opened(mounted_at)?, mounted_at)
}

impl Frozen {
    /// Lets writes go on.
    ///
    /// # Errors
    ///
    /// When the file system cannot go on.
    pub fn thaw(mut self) -> Result<()> {
        let directory = self.directory.take();
        directory.map_or(Ok(()), |directory| thaw_opened(&directory, &self.mounted_at))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take() {
            // Whoever wants to know calls `thaw`.
            let _ = thaw_opened(&directory, &self.mounted_at);
        }
    }
}

fn opened(mounted_at: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(mounted_at, flags, Mode::empty())
        .map_err(|errno| Error::from_io(format!("cannot open {}", mounted_at.display()), errno))
}

fn thaw_opened(directory: &OwnedFd, mounted_at: &Path) -> Result<()> {
    match freezing::thaw(directory.as_fd()) {
        // It is not frozen.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => {
            let problem = format!("cannot thaw the file system at {}", mounted_at.display());
            Err(Error::from_io(problem, errno))
        }
    }
}
