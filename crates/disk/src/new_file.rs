//! A target that gets its name only when it is whole.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::{Access, Disk, Error, ErrorKind, FormatPermit, Operation, Raw, Result};

/// A file in the directory of its final name that has no name at all until it is committed.
/// Dropped before that, it is gone.
///
/// So it is after `kill -9`, since the kernel frees a file without a name together with the last
/// process that has it open. After a loss of power the file system does so when it is next
/// mounted.
///
/// # Guarantees
///
/// - Nothing but [`commit`](Self::commit) changes what stands under the final name, and that
///   changes it in one step after everything in the file is durable.
/// - A symbolic link is never followed nor replaced, a device or pipe never written to.
/// - Later changes of the directory's own name do not matter: it is opened once.
///
/// # Assumptions
///
/// The file system has files without a name (`O_TMPFILE`; NFS has not) and `/proc` is mounted.
/// Elsewhere the file is called `.NAME.RANDOM.partial` until it is committed, and a process that
/// is killed leaves it behind. It has such a name everywhere for the moment in which it replaces
/// another one; by then it is whole and durable.
#[derive(Debug)]
pub struct NewFile {
    disk: Raw,
    directory: File,
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
    Unnamed,
    Partial(OsString),
    Committed,
}

impl NewFile {
    /// Creates the file for `target`, readable and writable by its owner only, of length zero.
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
        Self::create_by(target.as_ref(), overwrite, sources, |directory, name| {
            // Were there another reason to fail, a file with a name would fail for it as well.
            create_unnamed(directory).or_else(|_| create_partial(directory, name))
        })
    }

    fn create_by(
        target: &Path,
        overwrite: Overwrite,
        sources: &[&Raw],
        open: impl FnOnce(&File, &OsStr) -> io::Result<(File, Stage)>,
    ) -> Result<(Self, FormatPermit)> {
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
        let (file, stage) = open(&directory, name).map_err(failed)?;
        let disk = Raw::from_file(file, label, Access::ReadWrite)?;
        let new = Self {
            disk,
            directory,
            name: name.to_owned(),
            target: target.to_owned(),
            overwrite,
            stage,
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
        self.take_name()?;
        self.sync_directory()
    }

    /// Returns the final name.
    pub fn target(&self) -> &Path {
        &self.target
    }

    fn take_name(&mut self) -> Result<()> {
        check_target(&self.directory, &self.name, self.disk.label(), self.overwrite, &[])?;
        let named = match self.take_free_name() {
            Err(Errno::EXIST) if self.overwrite == Overwrite::Replace => self.replace(),
            result => result,
        };
        named.map_err(|errno| self.failed(errno.into()))?;
        self.stage = Stage::Committed;
        Ok(())
    }

    /// Takes the final name, if nobody has it.
    fn take_free_name(&self) -> rustix::io::Result<()> {
        let Self { disk, directory, name, .. } = self;
        let Stage::Partial(partial) = &self.stage else {
            return link(disk.file(), directory, name);
        };
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(directory, partial, directory, name, flags) {
            // File systems without that flag: a link replaces nothing either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                let flags = AtFlags::empty();
                rustix::fs::linkat(directory, partial, directory, name, flags)?;
                rustix::fs::unlinkat(directory, partial, flags)
            }
            result => result,
        }
    }

    /// Takes the final name from the file that has it. Only a file with a name can do that in one
    /// step.
    fn replace(&mut self) -> rustix::io::Result<()> {
        let Self { disk, directory, name, .. } = &*self;
        let partial = match &self.stage {
            Stage::Partial(partial) => partial.clone(),
            Stage::Unnamed | Stage::Committed => {
                under_partial_name(name, |partial| link(disk.file(), directory, partial))?.0
            }
        };
        let renamed = rustix::fs::renameat(directory, &partial, directory, name);
        self.stage = Stage::Partial(partial);
        renamed
    }

    fn sync_directory(&self) -> Result<()> {
        self.directory.sync_all().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::from_io(Operation::Commit, self.disk.label(), source)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Stage::Partial(partial) = &self.stage {
            // Nobody is left to tell: the error that led here is on its way already.
            let _ = rustix::fs::unlinkat(&self.directory, partial, AtFlags::empty());
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

/// Creates a file without a name, if one can be given to it later.
fn create_unnamed(directory: &File) -> io::Result<(File, Stage)> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(directory, ".", flags, Mode::RUSR | Mode::WUSR)?);
    let by_path = rustix::fs::statat(CWD, path_of(&file), AtFlags::empty())?;
    if identity(&by_path) == identity(&rustix::fs::fstat(&file)?) {
        Ok((file, Stage::Unnamed))
    } else {
        Err(Errno::NOENT.into())
    }
}

/// Creates a file under a name that nobody else has.
fn create_partial(directory: &File, name: &OsStr) -> io::Result<(File, Stage)> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let (partial, file) =
        under_partial_name(name, |partial| rustix::fs::openat(directory, partial, flags, mode))?;
    Ok((File::from(file), Stage::Partial(partial)))
}

/// Gives a name to a file that has none. This way needs no privilege.
fn link(file: &File, directory: &File, name: &OsStr) -> rustix::io::Result<()> {
    rustix::fs::linkat(CWD, path_of(file), directory, name, AtFlags::SYMLINK_FOLLOW)
}

/// Returns the path by which the kernel leads to an open file.
fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Tries partial names until `create` finds one free; returns it with what `create` returned.
fn under_partial_name<T>(
    name: &OsStr,
    create: impl Fn(&OsStr) -> rustix::io::Result<T>,
) -> rustix::io::Result<(OsString, T)> {
    loop {
        let partial = partial_name(name)?;
        match create(&partial) {
            Ok(created) => return Ok((partial, created)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Returns `.NAME.RANDOM.partial`, of a long name only as much as a file name can hold.
fn partial_name(name: &OsStr) -> rustix::io::Result<OsString> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
    let ending = format!(".{:016x}.partial", u64::from_ne_bytes(random));
    let kept = name.len().min(LONGEST_NAME - 1 - ending.len());
    let name = [b".", &name.as_bytes()[..kept], ending.as_bytes()].concat();
    Ok(OsString::from_vec(name))
}

/// `NAME_MAX` of Linux, in bytes.
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests;
