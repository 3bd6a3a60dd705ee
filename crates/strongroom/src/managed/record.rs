//! The record: the file with an envelope beside the header, which may be all that opens a volume.
//!
//! Whoever replaces it has the lock beside it, and only replaces what it has read: of two commands on
//! the same volume none writes an envelope that was out of date by then.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use strongroom_disk::{Disk, NewFile, Operation, Overwrite};
use strongroom_kms::Envelope;

use crate::{Error, ErrorKind, Result, envelopes};

/// The record of a volume, which nobody else replaces while this is there.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    found: Option<Envelope>,
    _lock: Lock,
}

impl Record {
    /// Locks a record and reads it, if there is one.
    ///
    /// # Errors
    ///
    /// When it could not be replaced, being a link for instance: better now than once the header is
    /// changed. When another process has the lock for too long.
    pub(super) fn lock(path: &Path) -> Result<Self> {
        drop(NewFile::create(path, Overwrite::Replace, &[])?);
        let lock = Lock::take(path)?;
        Ok(Self { path: path.to_owned(), found: read_if_there(path)?, _lock: lock })
    }

    /// Returns the envelope in it, if it is there.
    pub(super) fn envelope(&self) -> Option<&Envelope> {
        self.found.as_ref()
    }

    /// Replaces the record by a new envelope, durably: the old one is there until the new one is.
    ///
    /// # Errors
    ///
    /// [`Error::ChangedMeanwhile`] when it is not the one that was read.
    pub(super) fn replace(&mut self, new: &Envelope) -> Result<()> {
        let found = read_if_there(&self.path)?;
        if found != self.found {
            return Err(changed(&self.path));
        }
        if found.as_ref() != Some(new) {
            let overwrite = if found.is_some() { Overwrite::Replace } else { Overwrite::Refuse };
            replace(&self.path, format!("{}\n", new.to_json()).as_bytes(), overwrite)?;
            self.found = Some(new.clone());
        }
        Ok(())
    }
}

/// Replaces a record that was read without the lock: `old` by `new`.
///
/// # Errors
///
/// [`Error::ChangedMeanwhile`] when `old` is not what it holds by now.
pub(super) fn swap(path: &Path, old: Option<&Envelope>, new: &Envelope) -> Result<()> {
    let mut record = Record::lock(path)?;
    if record.found.as_ref() != old {
        return Err(changed(path));
    }
    record.replace(new)
}

/// Keeps an envelope that goes from a record, as `.NAME.old` beside it.
pub(super) fn keep(path: &Path, old: &Envelope) -> Result<()> {
    let text = format!("{}\n", old.to_json());
    replace(&beside(path, "old"), text.as_bytes(), Overwrite::Replace)
}

/// Returns the envelope in a file; `None` when there is no such file.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Envelope>> {
    match envelopes::read_file(path) {
        Ok(envelope) => Ok(Some(envelope)),
        Err(error @ Error::Disk(_)) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The lock on a record: `.NAME.lock` beside it, since the record itself is replaced. It goes with
/// whoever has it; one that is killed leaves the file, and nobody is kept away by it.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(record: &Path) -> Result<Self> {
        let path = beside(record, "lock");
        let lost = |error| failed(Operation::Lock, &path, error);
        let start = Instant::now();
        loop {
            let file = Self::open(&path)?;
            match file.try_lock() {
                Ok(()) => {
                    // Whoever had it before may have taken the file away, and another one made anew.
                    let held = file.metadata().map_err(lost)?;
                    let same = path
                        .symlink_metadata()
                        .is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()));
                    if same {
                        return Ok(Self { path, _file: file });
                    }
                }
                Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    let label = path.display().to_string();
                    let busy = strongroom_disk::ErrorKind::Busy;
                    return Err(strongroom_disk::Error::new(busy, Operation::Lock, label).into());
                }
                Err(TryLockError::Error(error)) => return Err(lost(error)),
            }
        }
    }

    fn open(path: &Path) -> Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(PLAIN_FILE)
            .open(path)
            .map_err(|error| failed(Operation::Lock, path, error))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // One that stays does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Returns `.NAME.suffix` beside the record.
pub(super) fn beside(record: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(record.file_name().unwrap_or_default());
    name.push(".");
    name.push(suffix);
    record.with_file_name(name)
}

fn changed(record: &Path) -> Error {
    Error::ChangedMeanwhile { label: record.display().to_string() }
}

/// Writes a file: the old one is there until the new one is, durably.
pub(super) fn replace(path: &Path, bytes: &[u8], overwrite: Overwrite) -> Result<()> {
    let (file, permit) = NewFile::create(path, overwrite, &[])?;
    // An envelope is no volume: nothing is formatted with this permit.
    drop(permit);
    file.disk().set_len(bytes.len() as u64)?;
    file.disk().write_at(bytes, 0)?;
    Ok(file.commit()?)
}

pub(super) fn failed(operation: Operation, path: &Path, source: io::Error) -> Error {
    strongroom_disk::Error::from_io(operation, path.display().to_string(), source).into()
}

/// Opens neither a link nor a pipe that lets its reader wait.
pub(super) const PLAIN_FILE: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();

/// How long to wait for a lock: a rotation asks its KMS while it has it.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// How often to ask for it.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
