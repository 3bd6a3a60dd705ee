//! Where something is or will be mounted.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, openat, readlink, stat};
use rustix::io::Errno;

use crate::{Error, ErrorKind, Result};

/// A directory that is held open, and a name in it. Mounting over the name changes nothing about
/// either, and swapping a directory of the path for a symbolic link does not lead elsewhere.
#[derive(Debug)]
pub(super) struct Place {
    parent: OwnedFd,
    name: OsString,
    path: PathBuf,
}

impl Place {
    /// Finds the place of `target`; `None` when there is nothing of that name, or no such directory.
    pub(super) fn at(target: &Path) -> Result<Option<Self>> {
        let failed = |errno| Error::from_io(format!("cannot open {}", target.display()), errno);
        let Some(name) = target.file_name() else {
            let problem = format!("nothing can be mounted at {}", target.display());
            return Err(Error::new(ErrorKind::Request, problem));
        };
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = match open(directory, flags, Mode::empty()) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let directory = readlink(descriptor_path(&parent), Vec::new()).map_err(failed)?;
        let directory = PathBuf::from(OsString::from_vec(directory.into_bytes()));
        let place = Self { path: directory.join(name), parent, name: name.to_owned() };
        match place.open() {
            Ok(_) => Ok(Some(place)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the path without symbolic links, as the table of mounts has it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a path that leads through the directory that is held open.
    pub(super) fn through_parent(&self) -> PathBuf {
        descriptor_path(&self.parent).join(&self.name)
    }

    /// Opens what is here, a mount if there is one, without following a symbolic link. It can be named
    /// by this, not read, and a mount is in use as long as it is open.
    pub(super) fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.parent, self.name.as_os_str(), flags, Mode::empty())
            .map_err(|errno| Error::from_io(format!("cannot open {}", self.path.display()), errno))
    }

    /// Looks at what [`open`](Self::open) returned.
    pub(super) fn stat(&self, opened: &OwnedFd) -> Result<Stat> {
        fstat(opened).map_err(|errno| {
            Error::from_io(format!("cannot look at {}", self.path.display()), errno)
        })
    }

    /// Returns what kind of file [`open`](Self::open) returned.
    pub(super) fn file_type(&self, opened: &OwnedFd) -> Result<FileType> {
        let file_type = FileType::from_raw_mode(self.stat(opened)?.st_mode);
        if file_type == FileType::Symlink {
            let problem = format!("{} is a symbolic link", self.path.display());
            return Err(Error::new(ErrorKind::Request, problem)
                .hinted("name the directory or file that it leads to"));
        }
        Ok(file_type)
    }

    /// Returns whether what is mounted here has lost what is below it.
    pub(super) fn is_dead(&self) -> bool {
        matches!(stat(self.through_parent()), Err(Errno::NOTCONN | Errno::IO | Errno::NXIO))
    }
}

fn is_missing(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|source| source.kind() == std::io::ErrorKind::NotFound)
}

fn descriptor_path(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}
