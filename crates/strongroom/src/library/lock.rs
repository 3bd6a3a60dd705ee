//! One at a time on each image, between threads and processes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use strongroom_model::ImageId;

use super::ImageProblem;
use super::folder::failed;
use crate::{Error, Result};

/// The right to work on an image, or on something else of a name. It goes with the process, however that
/// ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of an image of the library in `root`.
    ///
    /// # Errors
    ///
    /// [`ImageProblem::AtWork`] when somebody has it.
    pub(super) fn take(root: &Path, id: &ImageId) -> Result<Self> {
        let taken = Self::take_in(&root.join(FOLDER), id.as_str())?;
        taken.ok_or_else(|| Error::image(id, ImageProblem::AtWork))
    }

    /// Takes the lock of a name in a folder, which is made where it is not there. Returns `None` when
    /// somebody has it.
    ///
    /// # Errors
    ///
    /// When the folder or the file cannot be made.
    pub(crate) fn take_in(folder: &Path, name: &str) -> Result<Option<Self>> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| failed(folder, source))?;
        let path = folder.join(name);
        loop {
            let flags = OFlags::NOFOLLOW.bits().cast_signed();
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.custom_flags(flags).open(&path);
            let file = file.map_err(|source| failed(&path, source))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(failed(&path, errno.into())),
            }
            // A lock on a file that its last holder has removed keeps nobody out.
            if is_named(&file, &path)? {
                return Ok(Some(Self { file, path }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // As long as the lock is held nobody else removes the file. One that stays is taken by the next
        // who wants it.
        let _ = fs::remove_file(&self.path);
        // Closing the file would not do while a process that is just being started has it, too.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Tells whether a path leads to an open file.
fn is_named(file: &File, path: &Path) -> Result<bool> {
    let own = file.metadata().map_err(|source| failed(path, source))?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, error)),
    }
}

/// Where the locked files lie in a library: no identifier begins with a dot.
const FOLDER: &str = ".locks";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_lock_of_an_image() {
        let root = tempfile::tempdir().unwrap();
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        let lock = Lock::take(root.path(), &one).unwrap();
        let _other = Lock::take(root.path(), &other).unwrap();
        let error = Lock::take(root.path(), &one).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Busy);
        drop(lock);
        drop(Lock::take(root.path(), &one).unwrap());
        assert!(!root.path().join(FOLDER).join("one").exists());
    }

    #[test]
    fn threads_that_take_turns_never_meet() {
        let root = tempfile::tempdir().unwrap();
        let id: ImageId = "one".parse().unwrap();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut turns = 0;
                    while turns < 200 {
                        let Ok(_lock) = Lock::take(root.path(), &id) else { continue };
                        assert_eq!(inside.fetch_add(1, order), 0);
                        inside.fetch_sub(1, order);
                        turns += 1;
                    }
                });
            }
        });
    }
}
