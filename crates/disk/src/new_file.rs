//! A target that gets its name only when it is whole.

mod partial;
mod permissions;
mod place;
mod replacing;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use self::place::{Place, check_target, find, identity};
use crate::lock::LockGuard;
use crate::{Disk, Error, ErrorKind, FormatPermit, Operation, Raw, Result};

/// A file in the directory of its final name that has no name at all until it is committed.
/// Dropped before that, it is gone.
///
/// Jobs that can be resumed have [another kind](Self::create_named), which is called
/// `.NAME.partial` until it is committed. What follows is about the one without a name.
///
/// It is gone after `kill -9`, since the kernel frees a file without a name together with the last
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
/// another one; by then it is whole and durable, and what a process that is killed in that moment
/// leaves is taken away by the next one that replaces the same file.
#[derive(Debug)]
pub struct NewFile {
    disk: Raw,
    directory: File,
    name: OsString,
    target: PathBuf,
    overwrite: Overwrite,
    /// Device and inode of the file that stood under the final name at creation.
    replaced: Option<(u64, u64)>,
    stage: Stage,
    dropped: Dropped,
    /// Keeps other jobs away from a file that has a name which they know.
    _lock: Option<LockGuard>,
}

/// What to do with a file that has the final name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overwrite {
    /// Keep it, and fail.
    Refuse,
    /// Replace it, if it is a plain file. The new file gets its permission bits, and its owner and
    /// group as far as this process may set them: with `0644` a decrypted image, too, is for all
    /// to read. It stays its owner's only when the old file was not there at creation, and when
    /// either has an access control list, which is not kept.
    Replace,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Unnamed,
    /// It has this name, until it is committed.
    Partial(OsString),
    /// It has a name that it shall keep: the final one, or that of a partial file.
    Named,
}

/// What becomes of a file with a partial name when it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dropped {
    Removed,
    Kept,
}

/// What giving a file its final name did to that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    Made,
    Replaced,
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
        let place = Place::find(target, overwrite, sources)?;
        let (file, stage) =
            open(&place.directory, &place.name).map_err(|source| place.failed(source))?;
        let new = place.put(file, stage, None)?;
        Ok((new, FormatPermit::for_exclusively_created_file()))
    }

    /// Returns the file as a disk. Its label is the final name.
    pub fn disk(&self) -> &Raw {
        &self.disk
    }

    /// Reads and writes the file past the page cache from now on, as
    /// [`Raw::bypass_cache`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Raw::bypass_cache`].
    pub fn bypass_cache(&mut self) -> Result<()> {
        self.disk.bypass_cache()
    }

    /// Lets everybody read the file: for what is no secret.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn let_all_read(&self) -> Result<()> {
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        rustix::fs::fchmod(self.disk.file(), mode).map_err(|errno| self.failed(errno.into()))
    }

    /// Makes the file durable and gives it its final name, durably.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] when someone else has taken the name meanwhile and it shall
    /// not be replaced. The file is gone after an error, unless the error is that the directory
    /// could not be made durable: then it is whole and has its name.
    pub fn commit(mut self) -> Result<()> {
        self.prepare()?;
        self.take_name()?;
        self.sync_directory()
    }

    /// Gives an image and its detached header their final names.
    ///
    /// Both files are durable before either has its name, and the name of `data` is durable before
    /// `header` has one: whoever finds a header made by this finds its data too. After an error,
    /// the name that `data` was given is removed again, unless it was taken from another file or
    /// the error is that the directory of `header` could not be made durable.
    ///
    /// # Assumptions
    ///
    /// No file is replaced. Otherwise a process that is killed between the two names, or an error
    /// there, leaves the new data beside the old header, which does not open it; what the old
    /// header did open is gone.
    ///
    /// # Errors
    ///
    /// Those of [`commit`](Self::commit), and [`ErrorKind::SameFile`] when both have the same
    /// place; nothing has been replaced then.
    pub fn commit_pair(mut data: Self, mut header: Self) -> Result<()> {
        if data.is_same_place(&header)? {
            return Err(header.is_its_own_data());
        }
        data.prepare()?;
        header.prepare()?;
        let naming = data.take_name()?;
        let named = data.sync_directory().and_then(|()| header.take_name_beside(&data));
        if named.is_err() && naming == Naming::Made {
            data.give_name_back();
        }
        named?;
        header.sync_directory()
    }

    /// Returns whether both would get the same name in the same directory, so that one of them
    /// would be lost.
    ///
    /// # Assumptions
    ///
    /// Names that differ only in a way that the file system ignores, as the case of letters, are
    /// known as the same when there is a file already, with one link;
    /// [`commit_pair`](Self::commit_pair) knows them always.
    pub fn is_same_place(&self, other: &Self) -> Result<bool> {
        if self.name == other.name {
            return Ok(self.directory_identity()? == other.directory_identity()?);
        }
        let (one, two) = (self.found()?, other.found()?);
        Ok(one
            .zip(two)
            .is_some_and(|(one, two)| identity(&one) == identity(&two) && one.st_nlink == 1))
    }

    /// Lets the file keep its partial name from now on, should it be dropped or fail to be committed.
    pub fn keep_when_dropped(&mut self) {
        self.dropped = Dropped::Kept;
    }

    /// Removes the file, though it may be one that is kept when it is dropped.
    pub fn remove(mut self) {
        self.dropped = Dropped::Removed;
    }

    /// Returns the final name.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Does everything that can fail before the file gets its name, and makes it durable.
    fn prepare(&self) -> Result<()> {
        // A file that someone has put there meanwhile does not tell who may read this one.
        if let Some(found) = self.check()?
            && self.replaced == Some(identity(&found))
        {
            permissions::keep(self.disk.file(), &self.directory, &self.name, &found);
        }
        self.disk.flush_with_metadata()
    }

    fn check(&self) -> Result<Option<Stat>> {
        check_target(&self.directory, &self.name, self.disk.label(), self.overwrite, &[])
    }

    /// Refuses to go on when another file has got the name that this one has until it is committed.
    fn check_partial(&self) -> Result<()> {
        let Stage::Partial(partial) = &self.stage else { return Ok(()) };
        let found = find(&self.directory, partial).map_err(|errno| self.failed(errno.into()))?;
        if found.as_ref().map(identity) == Some(self.disk.identity()?) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, Operation::Commit, self.disk.label())
            .because(format!("its unfinished file {} was taken away", partial.display())))
    }

    fn take_name(&mut self) -> Result<Naming> {
        // Again, since making much data durable takes its time.
        self.check()?;
        self.check_partial()?;
        let named = match self.take_free_name() {
            Err(Errno::EXIST) if self.overwrite == Overwrite::Replace => {
                self.replace().map(|()| Naming::Replaced)
            }
            result => result.map(|()| Naming::Made),
        };
        let naming = named.map_err(|errno| self.failed(errno.into()))?;
        self.stage = Stage::Named;
        Ok(naming)
    }

    /// Takes the final name unless it leads to `data`, which has just got its own.
    fn take_name_beside(&mut self, data: &Self) -> Result<()> {
        if let Some(found) = self.found()?
            && identity(&found) == data.disk.identity()?
        {
            return Err(self.is_its_own_data());
        }
        self.take_name().map(|_| ())
    }

    /// Removes the final name of a committed file, if it still is that of this file.
    fn give_name_back(&self) {
        // Nobody is left to tell: the error that led here is on its way already.
        if let (Ok(Some(found)), Ok(own)) = (self.found(), self.disk.identity())
            && identity(&found) == own
        {
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
            let _ = self.directory.sync_all();
        }
    }

    /// Takes the final name, if nobody has it.
    fn take_free_name(&self) -> rustix::io::Result<()> {
        self.take_if_free(&self.name)
    }

    fn take_if_free(&self, name: &OsStr) -> rustix::io::Result<()> {
        let Self { disk, directory, .. } = self;
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
        let (partial, _lock) = match &self.stage {
            Stage::Partial(partial) => (partial.clone(), None),
            Stage::Unnamed | Stage::Named => replacing::link(disk.file(), directory, name)?,
        };
        let renamed = rustix::fs::renameat(directory, &partial, directory, name);
        self.stage = Stage::Partial(partial);
        renamed
    }

    fn sync_directory(&self) -> Result<()> {
        self.directory.sync_all().map_err(|source| self.failed(source))
    }

    /// Returns what stands under the final name.
    fn found(&self) -> Result<Option<Stat>> {
        find(&self.directory, &self.name).map_err(|errno| self.failed(errno.into()))
    }

    fn directory_identity(&self) -> Result<(u64, u64)> {
        let found = rustix::fs::fstat(&self.directory);
        found.map(|found| identity(&found)).map_err(|errno| self.failed(errno.into()))
    }

    fn is_its_own_data(&self) -> Error {
        Error::new(ErrorKind::SameFile, Operation::Commit, self.disk.label())
            .because("it cannot be both the image and its header")
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::from_io(Operation::Commit, self.disk.label(), source)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let (Stage::Partial(partial), Dropped::Removed) = (&self.stage, self.dropped)
            && self.check_partial().is_ok()
        {
            // Nobody is left to tell: the error that led here is on its way already.
            let _ = rustix::fs::unlinkat(&self.directory, partial, AtFlags::empty());
        }
    }
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
