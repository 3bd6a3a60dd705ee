//! Files of jobs that can be resumed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use strongroom_crypto::Hash;

use super::place::{Place, find, identity, open_directory};
use super::{LONGEST_NAME, NewFile, Overwrite, Stage, create_unnamed, link};
use crate::lock::{LockGuard, LockMode, Wait};
use crate::unfinished::is_marked;
use crate::{Error, ErrorKind, FormatPermit, Operation, Raw, Result};

impl NewFile {
    /// Creates the file for `target` under the name [`partial_path`](Self::partial_path), readable
    /// and writable by its owner only, of length zero, and keeps other jobs away from it.
    ///
    /// Dropped without [`commit`](Self::commit) or [`keep`](Self::keep), it is removed. A process
    /// that is killed leaves it for [`reopen`](Self::reopen).
    ///
    /// # Assumptions
    ///
    /// The file bears the marker of [`Unfinished`](crate::Unfinished) until it is whole; without
    /// it nobody can go on with the file. [`Raw::lock`] on it waits for this very value.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create); [`ErrorKind::Busy`] when another job is at work on the
    /// same target, [`ErrorKind::AlreadyExists`] when one has left its file.
    pub fn create_named(
        target: impl AsRef<Path>,
        overwrite: Overwrite,
        sources: &[&Raw],
    ) -> Result<(Self, FormatPermit)> {
        Self::create_named_by(target.as_ref(), overwrite, sources, |directory, partial| {
            create_locked(directory, partial).unwrap_or_else(|| create_and_lock(directory, partial))
        })
    }

    fn create_named_by(
        target: &Path,
        overwrite: Overwrite,
        sources: &[&Raw],
        create: impl FnOnce(&File, &OsStr) -> io::Result<(File, LockGuard)>,
    ) -> Result<(Self, FormatPermit)> {
        let place = Place::find(target, overwrite, sources)?;
        let partial = partial_name(&place.name);
        let (file, lock) = match create(&place.directory, &partial) {
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                return Err(taken(&place.directory, &place.target, Operation::Create));
            }
            created => created.map_err(|source| place.failed(source))?,
        };
        let new = place.put(file, Stage::Partial(partial), Some(lock))?;
        // Whoever finds a journal shall find the file that it is about.
        new.sync_directory()?;
        Ok((new, FormatPermit::for_exclusively_created_file()))
    }

    /// Opens the file that an interrupted job has left for `target`, to go on with it. Dropped, it
    /// stays; [`remove`](Self::remove) takes it away.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create); [`ErrorKind::NotFound`] when there is none,
    /// [`ErrorKind::Busy`] when another job is at work on it, [`ErrorKind::PermissionDenied`] when
    /// it belongs to another user, [`ErrorKind::NotADisk`] when it is no plain file, and
    /// [`ErrorKind::Invalid`] when it does not bear the marker of
    /// [`Unfinished`](crate::Unfinished): then it was never begun, or is no file of ours.
    pub fn reopen(
        target: impl AsRef<Path>,
        overwrite: Overwrite,
        sources: &[&Raw],
    ) -> Result<(Self, FormatPermit)> {
        let new = Self::reopen_at_the_end(target, overwrite, sources)?;
        if is_marked(new.disk())? {
            return Ok((new, FormatPermit::for_unfinished_file()));
        }
        let path = Self::partial_path(&new.target).display().to_string();
        Err(Error::new(ErrorKind::Invalid, Operation::Open, path)
            .because("it does not bear the marker of an unfinished file; remove it to begin anew"))
    }

    /// Opens the file that an interrupted job has left for `target`, whether it bears its marker
    /// still or is whole but for its name.
    ///
    /// # Assumptions
    ///
    /// The caller knows from elsewhere that the job was about to finish the file.
    ///
    /// # Errors
    ///
    /// Those of [`reopen`](Self::reopen), but for the one about the marker.
    pub fn reopen_at_the_end(
        target: impl AsRef<Path>,
        overwrite: Overwrite,
        sources: &[&Raw],
    ) -> Result<Self> {
        let place = Place::find(target.as_ref(), overwrite, sources)?;
        let partial = partial_name(&place.name);
        let path = Self::partial_path(&place.target).display().to_string();
        let refuse = |kind, reason: &'static str| {
            Err(Error::new(kind, Operation::Open, path.clone()).because(reason))
        };
        let (file, lock) = open_locked(&place.directory, &partial, &path, Mutability::Writable)?;
        let failed = |errno: Errno| Error::from_io(Operation::Open, path.clone(), errno.into());
        let opened = rustix::fs::fstat(&file).map_err(failed)?;
        if opened.st_uid != rustix::process::geteuid().as_raw() {
            return refuse(ErrorKind::PermissionDenied, "it belongs to another user");
        }
        for source in sources {
            if source.identity()? == identity(&opened) {
                return refuse(ErrorKind::SameFile, "it is the source itself");
            }
        }
        let mut new = place.put(file, Stage::Partial(partial), Some(lock))?;
        new.keep_when_dropped();
        Ok(new)
    }

    /// Lets go of the file and leaves it under the name [`partial_path`](Self::partial_path), from
    /// where a later job can [go on](Self::reopen) with it. Returns that path.
    ///
    /// The name is durable after that, the content as far as it was flushed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] or [`ErrorKind::Busy`] when the file had no name or another
    /// one, and that name is taken. The file is gone after an error, unless the error is that the
    /// directory could not be made durable.
    pub fn keep(mut self) -> Result<PathBuf> {
        let partial = partial_name(&self.name);
        let named = match &self.stage {
            Stage::Partial(name) if *name == partial => Ok(()),
            Stage::Named => Ok(()),
            Stage::Unnamed | Stage::Partial(_) => self.take_if_free(&partial),
        };
        match named {
            Err(Errno::EXIST) => {
                return Err(taken(&self.directory, &self.target, Operation::Commit));
            }
            named => named.map_err(|errno| self.failed(errno.into()))?,
        }
        self.stage = Stage::Named;
        self.sync_directory()?;
        Ok(Self::partial_path(&self.target))
    }

    /// Returns the path of the file that an interrupted job has left for `target`, if there is one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when a job is at work on it.
    pub fn leftover(target: impl AsRef<Path>) -> Result<Option<PathBuf>> {
        let target = target.as_ref();
        let Some(name) = target.file_name() else { return Ok(None) };
        let directory = open_directory(target)?;
        let path = Self::partial_path(target);
        let label = path.display().to_string();
        match open_locked(&directory, &partial_name(name), &label, Mutability::Unchanged) {
            Ok(_) => Ok(Some(path)),
            Err(error) => match error.kind() {
                ErrorKind::NotFound => Ok(None),
                ErrorKind::Busy => Err(error),
                // It is there, whatever it is.
                _ => Ok(Some(path)),
            },
        }
    }

    /// Returns where the unfinished file of a job that can be resumed lies: `.NAME.partial` beside
    /// `target`. Of a name too long for that the end is replaced by a digest.
    pub fn partial_path(target: impl AsRef<Path>) -> PathBuf {
        let target = target.as_ref();
        target.with_file_name(partial_name(target.file_name().unwrap_or_default()))
    }

    /// Returns where the journal of a job that can be resumed lies: `.NAME.journal` beside
    /// `target`. Of a name too long for that the end is replaced by a digest.
    pub fn journal_path(target: impl AsRef<Path>) -> PathBuf {
        let target = target.as_ref();
        let name = target.file_name().unwrap_or_default();
        target.with_file_name(hidden_name(name, ".journal"))
    }
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutability {
    Unchanged,
    Writable,
}

fn partial_name(name: &OsStr) -> OsString {
    hidden_name(name, ".partial")
}

/// Returns `.NAME` with an ending. Long names differ in their digests, so that no job takes the
/// files of another one for its own.
fn hidden_name(name: &OsStr, ending: &str) -> OsString {
    let name = name.as_bytes();
    let longest = LONGEST_NAME - 1 - ending.len();
    if name.len() <= longest {
        return OsString::from_vec([b".", name, ending.as_bytes()].concat());
    }
    let digest = Hash::Sha256.digest(&[name]);
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let kept = &name[..longest - 1 - digest.len()];
    OsString::from_vec([b".", kept, b".", digest.as_bytes(), ending.as_bytes()].concat())
}

/// Creates a file that is locked before anyone can find it; `None` where the file system has no
/// files without a name.
fn create_locked(directory: &File, partial: &OsStr) -> Option<io::Result<(File, LockGuard)>> {
    let (file, _) = create_unnamed(directory).ok()?;
    let locked = LockGuard::on_file(&file, LockMode::Exclusive, Wait::Never)
        .and_then(|lock| Ok(link(&file, directory, partial).map(|()| lock)?));
    Some(locked.map(|lock| (file, lock)))
}

fn create_and_lock(directory: &File, partial: &OsStr) -> io::Result<(File, LockGuard)> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = File::from(rustix::fs::openat(directory, partial, flags, mode)?);
    // Whoever finds the empty file before it is locked lets go of it at once.
    match LockGuard::on_file(&file, LockMode::Exclusive, Wait::UntilFree) {
        Ok(lock) => Ok((file, lock)),
        Err(error) => {
            let _ = rustix::fs::unlinkat(directory, partial, AtFlags::empty());
            Err(error)
        }
    }
}

/// Opens a partial file and takes its lock.
fn open_locked(
    directory: &File,
    partial: &OsStr,
    path: &str,
    mutability: Mutability,
) -> Result<(File, LockGuard)> {
    let failed = |errno: Errno| Error::from_io(Operation::Open, path, errno.into());
    let found = find(directory, partial).map_err(failed)?.ok_or_else(|| failed(Errno::NOENT))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Error::new(ErrorKind::NotADisk, Operation::Open, path)
            .because("it is not a plain file"));
    }
    let access = match mutability {
        Mutability::Unchanged => OFlags::RDONLY,
        Mutability::Writable => OFlags::RDWR,
    };
    // Were it a pipe by now, opening it would wait for ever.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, partial, flags, Mode::empty()).map_err(failed)?;
    let file = File::from(file);
    let busy = || {
        Error::new(ErrorKind::Busy, Operation::Open, path).because("another job is at work on it")
    };
    let lock = match LockGuard::on_file(&file, LockMode::Exclusive, Wait::Never) {
        Err(source) if source.kind() == io::ErrorKind::WouldBlock => return Err(busy()),
        lock => lock.map_err(|source| Error::from_io(Operation::Lock, path, source))?,
    };
    // The job that had the lock may just have finished, and taken the file away under another name.
    let named = find(directory, partial).map_err(failed)?;
    let opened = rustix::fs::fstat(&file).map_err(failed)?;
    if named.as_ref().map(identity) == Some(identity(&opened)) {
        Ok((file, lock))
    } else {
        Err(busy())
    }
}

/// Says who has the name of a partial file: a job at work, or one that was interrupted.
fn taken(directory: &File, target: &Path, operation: Operation) -> Error {
    let path = NewFile::partial_path(target).display().to_string();
    let partial = partial_name(target.file_name().unwrap_or_default());
    match open_locked(directory, &partial, &path, Mutability::Unchanged) {
        Err(error) if error.kind() == ErrorKind::Busy => error,
        _ => Error::new(ErrorKind::AlreadyExists, operation, target.display().to_string())
            .because(format!("an interrupted job left {path}")),
    }
}

#[cfg(test)]
mod tests;
