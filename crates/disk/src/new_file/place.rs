//! Where a file shall stand in the end.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::{Dropped, NewFile, Overwrite, Stage};
use crate::lock::LockGuard;
use crate::{Access, Error, ErrorKind, Operation, Raw, Result};

/// A name in a directory.
pub(super) struct Place {
    pub(super) directory: File,
    pub(super) name: OsString,
    pub(super) target: PathBuf,
    label: String,
    overwrite: Overwrite,
    replaced: Option<(u64, u64)>,
}

impl Place {
    /// Opens the directory of `target`, and refuses a name that cannot be taken.
    pub(super) fn find(target: &Path, overwrite: Overwrite, sources: &[&Raw]) -> Result<Self> {
        let label = target.display().to_string();
        let name = target.file_name().ok_or_else(|| {
            Error::new(ErrorKind::NotADisk, Operation::Create, label.clone())
                .because("it names a directory, not a file")
        })?;
        let directory = open_directory(target)?;
        let replaced = check_target(&directory, name, &label, overwrite, sources)?;
        Ok(Self {
            directory,
            name: name.to_owned(),
            target: target.to_owned(),
            label,
            overwrite,
            replaced: replaced.as_ref().map(identity),
        })
    }

    pub(super) fn put(self, file: File, stage: Stage, lock: Option<LockGuard>) -> Result<NewFile> {
        let Self { directory, name, target, label, overwrite, replaced } = self;
        let disk = Raw::from_file(file, label, Access::ReadWrite)?;
        let dropped = Dropped::Removed;
        Ok(NewFile {
            disk,
            directory,
            name,
            target,
            overwrite,
            replaced,
            stage,
            dropped,
            _lock: lock,
        })
    }

    pub(super) fn failed(&self, source: io::Error) -> Error {
        Error::from_io(Operation::Create, &self.label, source)
    }
}

/// Opens the directory in which a file stands or shall stand.
pub(super) fn open_directory(target: &Path) -> Result<File> {
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .map_err(|source| Error::from_io(Operation::Open, directory.display().to_string(), source))
}

/// Refuses a final name under which stands what must not be replaced; returns what may be.
pub(super) fn check_target(
    directory: &File,
    name: &OsStr,
    label: &str,
    overwrite: Overwrite,
    sources: &[&Raw],
) -> Result<Option<Stat>> {
    let refuse = |kind, reason: &'static str| {
        Err(Error::new(kind, Operation::Create, label).because(reason))
    };
    let found = find(directory, name)
        .map_err(|errno| Error::from_io(Operation::Create, label, errno.into()))?;
    let Some(found) = found else { return Ok(None) };
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
        Overwrite::Replace => Ok(Some(found)),
    }
}

/// Returns what stands under a name, be it a symbolic link.
pub(super) fn find(directory: &File, name: &OsStr) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

// The types of these fields differ between architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
pub(super) fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev as u64, found.st_ino as u64)
}
