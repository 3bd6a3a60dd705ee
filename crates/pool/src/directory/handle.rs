//! Open directories, and what lies in them by name.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::{Error, Result};

/// An open directory. Nothing that is done through it follows a symbolic link, and a directory that is
/// renamed meanwhile stays the one that was opened.
#[derive(Debug)]
pub(super) struct Handle {
    file: File,
    path: PathBuf,
}

impl Handle {
    /// Opens a directory by its path, in which links are followed: it is what somebody named.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| failed("open", path, source))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Opens a directory in this one, `None` when there is nothing of that name.
    pub(super) fn child(&self, name: &str) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let file = self.open_at(name, flags, Mode::empty())?;
        Ok(file.map(|file| Self { file, path: self.path.join(name) }))
    }

    /// Makes a directory in this one that only its owner can enter.
    pub(super) fn make_child(&self, name: &str) -> Result<Self> {
        rustix::fs::mkdirat(&self.file, name, Mode::RWXU)
            .map_err(|errno| self.failed("create", name, errno))?;
        self.child(name)?.ok_or_else(|| self.failed("open", name, Errno::NOENT))
    }

    /// Opens a directory in this one, and makes it when it is not there.
    pub(super) fn child_or_new(&self, name: &str) -> Result<Self> {
        if let Some(child) = self.child(name)? {
            return Ok(child);
        }
        match rustix::fs::mkdirat(&self.file, name, Mode::RWXU) {
            Err(errno) if errno != Errno::EXIST => return Err(self.failed("create", name, errno)),
            _ => self.sync()?,
        }
        self.child(name)?.ok_or_else(|| self.failed("open", name, Errno::NOENT))
    }

    /// Opens a plain file in this directory, `None` when there is nothing of that name.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it is something else.
    pub(super) fn file(&self, name: &str, flags: OFlags) -> Result<Option<File>> {
        let Some(file) = self.open_at(name, flags | NEVER_WAIT, FILE_MODE)? else {
            return Ok(None);
        };
        let found = rustix::fs::fstat(&file).map_err(|errno| self.failed("open", name, errno))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            let path = self.path.join(name);
            return Err(Error::Damaged { path, problem: "it is no plain file".into() });
        }
        Ok(Some(file))
    }

    /// Makes a plain file in this directory, which only its owner can read and write.
    pub(super) fn make_file(&self, name: &str) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.open_at(name, flags, FILE_MODE)?
            .ok_or_else(|| self.failed("create", name, Errno::NOENT))
    }

    /// Makes a file without a name on the file system of this directory, `None` where there is no such
    /// thing.
    pub(super) fn nameless_file(&self) -> Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.file, ".", flags, FILE_MODE) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("create a file in", &self.path, errno.into())),
        }
    }

    /// Makes a file with these contents appear at once and durably, in the place of one that may be
    /// there. Nobody else may do so at the same time.
    pub(super) fn replace_file(&self, name: &str, contents: &[u8]) -> Result<()> {
        let new = hidden(name, NEW);
        self.remove_file(&new)?;
        let file = self.make_file(&new)?;
        io::Write::write_all(&mut &file, contents)
            .and_then(|()| file.sync_all())
            .map_err(|source| failed("write", &self.path.join(&new), source))?;
        self.rename(&new, name)?;
        self.sync()
    }

    /// Returns what lies in this directory, without itself and its parent. What is no UTF-8 is none of
    /// ours and left out.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let read = || -> rustix::io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.file)? {
                if let Ok(name) = entry?.file_name().to_str()
                    && !matches!(name, "." | "..")
                {
                    names.push(name.to_owned());
                }
            }
            Ok(names)
        };
        read().map_err(|errno| failed("list", &self.path, errno.into()))
    }

    /// Returns what the file system knows of a name, `None` when there is nothing of that name.
    pub(super) fn stat(&self, name: &str) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("look at", name, errno)),
        }
    }

    /// Tells whether a name in this directory is that of an open file or directory.
    pub(super) fn is_named(&self, name: &str, open: &File) -> Result<bool> {
        let open = rustix::fs::fstat(open).map_err(|errno| self.failed("look at", name, errno))?;
        let same = |named: Stat| (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino);
        Ok(self.stat(name)?.is_some_and(same))
    }

    /// Gives what lies here another name. An empty directory of that name is replaced, and a file.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<()> {
        rustix::fs::renameat(&self.file, from, &self.file, to)
            .map_err(|errno| self.failed("rename", from, errno))
    }

    /// Removes a file; one that is not there is no error.
    pub(super) fn remove_file(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.file, name, AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => Err(self.failed("remove", name, errno)),
            _ => Ok(()),
        }
    }

    /// Removes a directory and the files in it; one that is not there is no error.
    pub(super) fn remove_child(&self, name: &str) -> Result<()> {
        let Some(child) = self.child(name)? else { return Ok(()) };
        for file in child.names()? {
            child.remove_file(&file)?;
        }
        match rustix::fs::unlinkat(&self.file, name, AtFlags::REMOVEDIR) {
            // NFS keeps a file that is open elsewhere under a name of its own until it is closed. It
            // goes with the next cleaning.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// Makes the names in this directory durable.
    pub(super) fn sync(&self) -> Result<()> {
        match rustix::fs::fsync(&self.file) {
            // What a file system says that knows no way to do so for directories.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(failed("flush", &self.path, errno.into())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn as_file(&self) -> &File {
        &self.file
    }

    fn open_at(&self, name: &str, flags: OFlags, mode: Mode) -> Result<Option<File>> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            match rustix::fs::openat(self.file.as_fd(), name, flags, mode) {
                Ok(file) => return Ok(Some(file.into())),
                Err(Errno::INTR) => {}
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(self.failed("open", name, errno)),
            }
        }
    }

    fn failed(&self, what: &'static str, name: &str, errno: Errno) -> Error {
        failed(what, &self.path.join(name), errno.into())
    }
}

/// Returns the name that something has while it is made or goes away. No item is called so.
pub(super) fn hidden(name: &str, stage: &str) -> String {
    format!(".{name}.{stage}")
}

/// Returns the error of an operation on a path.
pub(super) fn failed(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { what, path: path.to_owned(), source }
}

/// What is not whole yet.
pub(super) const NEW: &str = "new";

/// Were it a pipe or a terminal, opening it would wait or take it over.
const NEVER_WAIT: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
