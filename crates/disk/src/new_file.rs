//! A target that gets its name only when it is whole.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::{Access, Disk, Error, ErrorKind, FormatPermit, Operation, Raw, Result};

/// A file that lies beside its final name, as `.NAME.RANDOM.partial`, until it is committed.
/// Dropped before that, it is removed.
///
/// # Guarantees
///
/// - Nothing but [`commit`](Self::commit) changes what stands under the final name, and that
///   changes it in one step after everything in the file is durable.
/// - A symbolic link is never followed nor replaced, a device or pipe never written to.
/// - Later changes of the directory's own name do not matter: it is opened once.
#[derive(Debug)]
pub struct NewFile {
    disk: Raw,
    directory: File,
    partial: OsString,
    name: OsString,
    target: PathBuf,
    overwrite: Overwrite,
    stage: Stage,
}

/// What to do with a file that has the final name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overwrite {
    /// Keep it, and fail.
    Refuse,
    /// Replace it, if it is a plain file.
    Replace,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Partial,
    Committed,
}

impl NewFile {
    /// Creates the file beside `target`, readable and writable by its owner only, of length zero.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] when the target is there and shall not be replaced,
    /// [`ErrorKind::SameFile`] when it is one of `sources`, [`ErrorKind::NotADisk`] when it is
    /// no plain file.
    pub fn create(
        target: impl AsRef<Path>,
        overwrite: Overwrite,
        sources: &[&Raw],
    ) -> Result<(Self, FormatPermit)> {
        let target = target.as_ref();
        let label = target.display().to_string();
        let failed = |source: io::Error| Error::from_io(Operation::Create, label.clone(), source);
        let name = target.file_name().ok_or_else(|| {
            Error::new(ErrorKind::NotADisk, Operation::Create, label.clone())
                .because("it names a directory, not a file")
        })?;
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = File::open(directory).map_err(|source| {
            Error::from_io(Operation::Open, directory.display().to_string(), source)
        })?;
        check_target(&directory, name, &label, overwrite, sources)?;
        let (file, partial) = create_partial(&directory, name).map_err(failed)?;
        let disk = Raw::from_file(file, label, Access::ReadWrite)?;
        let new = Self {
            disk,
            directory,
            partial,
            name: name.to_owned(),
            target: target.to_owned(),
            overwrite,
            stage: Stage::Partial,
        };
        Ok((new, FormatPermit::for_exclusively_created_file()))
    }

    /// Returns the file as a disk. Its label is the final name.
    pub fn disk(&self) -> &Raw {
        &self.disk
    }

    /// Makes the file durable and gives it its final name, durably.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] when someone else has taken the name meanwhile and it shall
    /// not be replaced. The file is gone after an error, unless the error is that the directory
    /// could not be made durable: then it is whole and has its name.
    pub fn commit(mut self) -> Result<()> {
        self.disk.flush_with_metadata()?;
        let label = self.disk.label();
        check_target(&self.directory, &self.name, label, self.overwrite, &[])?;
        self.rename().map_err(|errno| self.failed(errno.into()))?;
        self.stage = Stage::Committed;
        self.directory.sync_all().map_err(|source| self.failed(source))
    }

    /// Returns the final name.
    pub fn target(&self) -> &Path {
        &self.target
    }

    fn rename(&self) -> rustix::io::Result<()> {
        let directory = &self.directory;
        let flags = match self.overwrite {
            Overwrite::Refuse => RenameFlags::NOREPLACE,
            Overwrite::Replace => RenameFlags::empty(),
        };
        match rustix::fs::renameat_with(directory, &self.partial, directory, &self.name, flags) {
            // File systems without that flag: a link replaces nothing either.
            Err(Errno::INVAL | Errno::NOSYS) if self.overwrite == Overwrite::Refuse => {
                let flags = AtFlags::empty();
                rustix::fs::linkat(directory, &self.partial, directory, &self.name, flags)?;
                rustix::fs::unlinkat(directory, &self.partial, flags)
            }
            result => result,
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::from_io(Operation::Commit, self.disk.label(), source)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.stage == Stage::Partial {
            // Nobody is left to tell: the error that led here is on its way already.
            let _ = rustix::fs::unlinkat(&self.directory, &self.partial, AtFlags::empty());
        }
    }
}

/// Refuses a final name under which stands what must not be replaced.
fn check_target(
    directory: &File,
    name: &OsStr,
    label: &str,
    overwrite: Overwrite,
    sources: &[&Raw],
) -> Result<()> {
    let refuse = |kind, reason: &'static str| {
        Err(Error::new(kind, Operation::Create, label).because(reason))
    };
    let found = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Error::from_io(Operation::Create, label, errno.into())),
    };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => {}
        FileType::BlockDevice => {
            return refuse(
                ErrorKind::NotADisk,
                "it is a block device; only the volume commands format devices",
            );
        }
        FileType::Symlink => {
            return refuse(
                ErrorKind::NotADisk,
                "it is a symbolic link; name the file that it points to",
            );
        }
        FileType::Directory => return refuse(ErrorKind::NotADisk, "it is a directory"),
        _ => return refuse(ErrorKind::NotADisk, "it is not a plain file"),
    }
    for source in sources {
        if source.identity()? == identity(&found) {
            return refuse(ErrorKind::SameFile, "it is the source itself");
        }
    }
    match overwrite {
        Overwrite::Refuse => refuse(ErrorKind::AlreadyExists, "the file exists"),
        Overwrite::Replace => Ok(()),
    }
}

// The types of these fields differ between architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev as u64, found.st_ino as u64)
}

/// Creates a file under a name that nobody else has.
fn create_partial(directory: &File, name: &OsStr) -> io::Result<(File, OsString)> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let partial = partial_name(name)?;
        match rustix::fs::openat(directory, &partial, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((File::from(file), partial)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Returns `.NAME.RANDOM.partial`, of a long name only as much as a file name can hold.
fn partial_name(name: &OsStr) -> io::Result<OsString> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    let ending = format!(".{:016x}.partial", u64::from_ne_bytes(random));
    let kept = name.len().min(LONGEST_NAME - 1 - ending.len());
    let name = [b".", &name.as_bytes()[..kept], ending.as_bytes()].concat();
    Ok(OsString::from_vec(name))
}

/// `NAME_MAX` of Linux, in bytes.
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests;
