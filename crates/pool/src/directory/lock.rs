//! Locks of items, between threads and processes, as locked files in a directory of their own.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::handle::{Handle, failed};
use crate::Result;

/// A locked file; the lock goes with the process, however it ends. The file goes when the lock is given
/// back, so that none remains for every item that ever was.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    name: String,
    directory: Arc<Handle>,
}

impl Lock {
    /// Takes the lock of that name, `None` when somebody has it.
    pub(super) fn try_take(directory: &Arc<Handle>, name: &str) -> Result<Option<Self>> {
        loop {
            let Some(file) = directory.file(name, OFlags::RDWR | OFlags::CREATE)? else {
                // The directory itself is gone.
                let source = std::io::ErrorKind::NotFound.into();
                return Err(failed("lock", &directory.path().join(name), source));
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => {
                    return Err(failed("lock", &directory.path().join(name), errno.into()));
                }
            }
            // A lock on a file that its last holder has removed keeps nobody out.
            if directory.is_named(name, &file)? {
                let directory = Arc::clone(directory);
                return Ok(Some(Self { file, name: name.to_owned(), directory }));
            }
        }
    }

    /// Takes the lock of that name, and waits a little for whoever has it.
    pub(super) fn take(directory: &Arc<Handle>, name: &str) -> Result<Option<Self>> {
        let start = Instant::now();
        loop {
            match Self::try_take(directory, name)? {
                None if start.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
                answer => return Ok(answer),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // As long as the lock is held nobody else removes the file or makes another of its name. One
        // that stays is taken by the next who wants it.
        let _ = self.directory.remove_file(&self.name);
        // Closing the file would not do while a process that is just being started has it, too.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// How long a change of an item waits for another that is under way. Only copies take longer.
const PATIENCE: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &std::path::Path) -> Arc<Handle> {
        Arc::new(Handle::open(path).unwrap())
    }

    #[test]
    fn one_of_many_has_it_and_no_file_stays() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(place.path());
        let lock = Lock::try_take(&directory, "a").unwrap().unwrap();
        assert!(Lock::try_take(&directory, "a").unwrap().is_none());
        let other = Lock::try_take(&directory, "b").unwrap().unwrap();
        drop((lock, other));
        assert_eq!(directory.names().unwrap(), Vec::<String>::new());
        assert!(Lock::try_take(&directory, "a").unwrap().is_some());
    }

    #[test]
    fn threads_that_take_and_drop_it_without_pause_never_have_it_together() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(place.path());
        let holders = std::sync::atomic::AtomicUsize::new(0);
        let taken = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        use std::sync::atomic::Ordering::SeqCst;
                        let Some(lock) = Lock::try_take(&directory, "a").unwrap() else { continue };
                        assert_eq!(holders.fetch_add(1, SeqCst), 0, "two have the lock");
                        taken.fetch_add(1, SeqCst);
                        holders.fetch_sub(1, SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(taken.into_inner() > 4);
    }
}
