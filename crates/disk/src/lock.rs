//! Locks between processes, the same ones that `cryptsetup` takes.
//!
//! On a plain file that is `flock(2)` on the file itself, on a block device on the file
//! `/run/cryptsetup/L_MAJOR:MINOR`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

/// Whom a lock keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockMode {
    /// Writers: for reading metadata.
    Shared,
    /// Everyone: for changing metadata.
    Exclusive,
}

/// Holds a lock until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard {
    file: File,
}

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Never,
    UntilFree,
}

impl LockGuard {
    /// Where the lock files of block devices lie.
    pub(crate) const DIRECTORY: &str = "/run/cryptsetup";

    /// Locks a plain file.
    pub(crate) fn on_file(file: &File, mode: LockMode, wait: Wait) -> io::Result<Self> {
        // A lock belongs to an opening, and the disk's own one may take several at a time. The
        // path would not do: the file may have got another name meanwhile.
        let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        flock(&file, mode, wait)?;
        Ok(Self { file })
    }

    /// Locks a block device by its number, through a file in `directory`.
    pub(crate) fn on_device(
        directory: &Path,
        major: u32,
        minor: u32,
        mode: LockMode,
        wait: Wait,
    ) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = directory.join(format!("L_{major}:{minor}"));
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)?;
            flock(&file, mode, wait)?;
            // The last holder removes the file; a lock on a removed file keeps nobody out.
            let locked = file.metadata()?;
            match path.symlink_metadata() {
                Ok(named) if (named.dev(), named.ino()) == (locked.dev(), locked.ino()) => {
                    return Ok(Self { file });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // Closing the file would not do while a process that is just being started has it, too.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Returns whether a program of QEMU's has a file open in a way that does not go with `mode`, as
/// far as the kernel's list of locks tells: it names files by device and inode, and not on every
/// file system by the device that is theirs.
///
/// Those programs hold a lock on one byte for each thing that they do (from byte 100 on: reading,
/// writing, changing the length, …) and for each that they want nobody else to do (from 200 on).
pub(crate) fn is_open_in_qemu(file: &File, mode: LockMode) -> io::Result<bool> {
    let found = file.metadata()?;
    let device = found.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let name = format!("{major:02x}:{minor:02x}:{}", found.ino());
    let bytes = match mode {
        // Somebody writes it.
        LockMode::Shared => QEMU_DOES + QEMU_WRITE..QEMU_DOES + QEMU_WRITE + 1,
        LockMode::Exclusive => QEMU_DOES..QEMU_REFUSES + (QEMU_REFUSES - QEMU_DOES),
    };
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return Ok(false) };
    Ok(locks.lines().any(|line| is_lock_within(line, &name, &bytes)))
}

/// Reads a line such as `1: OFDLCK ADVISORY READ -1 fe:01:4242 100 101`.
fn is_lock_within(line: &str, file: &str, bytes: &Range<u64>) -> bool {
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, kind, .., named, first, last] = words.as_slice() else { return false };
    let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) else { return false };
    *kind == "OFDLCK" && *named == file && first < bytes.end && last >= bytes.start
}

/// The byte from which on QEMU locks what it does.
const QEMU_DOES: u64 = 100;

/// The byte from which on QEMU locks what others must not do.
const QEMU_REFUSES: u64 = 200;

/// Which of these bytes stands for writing.
const QEMU_WRITE: u64 = 1;

fn flock(file: &File, mode: LockMode, wait: Wait) -> io::Result<()> {
    let operation = match (mode, wait) {
        (LockMode::Shared, Wait::Never) => FlockOperation::NonBlockingLockShared,
        (LockMode::Shared, Wait::UntilFree) => FlockOperation::LockShared,
        (LockMode::Exclusive, Wait::Never) => FlockOperation::NonBlockingLockExclusive,
        (LockMode::Exclusive, Wait::UntilFree) => FlockOperation::LockExclusive,
    };
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn try_device(directory: &Path, mode: LockMode) -> io::Result<LockGuard> {
        LockGuard::on_device(directory, 7, 3, mode, Wait::Never)
    }

    #[test]
    fn a_device_is_locked_through_the_file_that_cryptsetup_uses() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("cryptsetup");
        let guard = try_device(&directory, LockMode::Exclusive).unwrap();
        assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let other = File::open(directory.join("L_7:3")).unwrap();
        assert!(flock(&other, LockMode::Shared, Wait::Never).is_err());
        drop(guard);
        flock(&other, LockMode::Shared, Wait::Never).unwrap();
    }

    #[test]
    fn lines_of_the_list_of_locks_are_told_apart() {
        let name = "fe:00:4242";
        let exclusive = QEMU_DOES..300;
        let writing = 101..102;
        for (line, is_exclusive, is_writing) in [
            ("1: OFDLCK ADVISORY  READ -1 fe:00:4242 100 101", true, true),
            ("2: OFDLCK ADVISORY  READ -1 fe:00:4242 100 100", true, false),
            ("3: OFDLCK ADVISORY  READ -1 fe:00:4242 201 201", true, false),
            ("4: OFDLCK ADVISORY  READ -1 fe:00:4243 100 101", false, false),
            ("5: OFDLCK ADVISORY  READ -1 fe:01:4242 100 101", false, false),
            ("6: POSIX  ADVISORY  WRITE 77 fe:00:4242 100 101", false, false),
            ("7: FLOCK  ADVISORY  WRITE 77 fe:00:4242 0 EOF", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_lock_within(line, name, &exclusive), is_exclusive, "{line}");
            assert_eq!(is_lock_within(line, name, &writing), is_writing, "{line}");
        }
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let first = try_device(directory.path(), LockMode::Shared).unwrap();
        let second = try_device(directory.path(), LockMode::Shared).unwrap();
        let refused = try_device(directory.path(), LockMode::Exclusive).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop((first, second));
        drop(try_device(directory.path(), LockMode::Exclusive).unwrap());
    }

    #[test]
    fn a_lock_file_removed_by_its_last_holder_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("L_7:3");
        let old = File::create(&path).unwrap();
        flock(&old, LockMode::Exclusive, Wait::Never).unwrap();
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                LockGuard::on_device(directory.path(), 7, 3, LockMode::Exclusive, Wait::UntilFree)
            });
            std::thread::sleep(std::time::Duration::from_millis(50));
            fs::remove_file(&path).unwrap();
            drop(old);
            waiting.join().unwrap()
        });
        assert!(waiting.is_ok());
        assert!(try_device(directory.path(), LockMode::Shared).is_err());
    }

    #[test]
    fn follows_no_link_that_someone_left_as_a_lock_file() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        std::os::unix::fs::symlink(&victim, directory.path().join("L_7:3")).unwrap();
        assert!(try_device(directory.path(), LockMode::Shared).is_err());
        assert!(!victim.exists());
    }
}
