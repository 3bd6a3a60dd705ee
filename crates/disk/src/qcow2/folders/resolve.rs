//! From the name of a file to the file, without leaving a directory.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::NamedFile;
use crate::{Access, Error, ErrorKind, Operation, Result};

/// A directory that the caller named.
#[derive(Debug)]
pub(super) struct Folder {
    directory: OwnedFd,
    /// The path as the caller wrote it, absolute.
    given: PathBuf,
    /// The same without symbolic links.
    canonical: PathBuf,
}

/// Where a name leads to, as far as text can tell: an absolute path. Only what follows the folder
/// that it is in is looked up, by [`open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place(PathBuf);

/// A file that was opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: fs::File,
    /// Its path. The names in it are relative to the directory of this path.
    pub(super) path: PathBuf,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |source: std::io::Error| {
            Error::from_io(Operation::Open, path.display().to_string(), source)
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        let given = std::path::absolute(path).map_err(failed)?;
        let canonical = fs::canonicalize(path).map_err(failed)?;
        Ok(Self { directory, given, canonical })
    }

    /// Returns what follows this folder in a path, if the path is within it.
    fn relative<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let within = path.strip_prefix(&self.canonical).or_else(|_| path.strip_prefix(&self.given));
        within.ok().filter(|rest| !rest.as_os_str().is_empty())
    }
}

impl Place {
    /// Returns where a name leads to that stands in the image at `image`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when the name is no path.
    pub(super) fn of(image: &Path, named: &NamedFile<'_>) -> Result<Self> {
        named.path_beside(image).map(Self)
    }
}

/// Opens a plain file that lies below one of the folders.
///
/// # Errors
///
/// [`ErrorKind::Denied`] when it does not; [`ErrorKind::NotADisk`] when it is something else.
pub(super) fn open(
    folders: &[Folder],
    place: &Place,
    named: &NamedFile<'_>,
    access: Access,
) -> Result<Found> {
    let mut refused = None;
    for folder in folders {
        let Some(relative) = folder.relative(&place.0) else { continue };
        match look_up(folder, relative) {
            Ok(handle) => {
                let path = folder.canonical.join(relative);
                let file = open_plain(&handle, named, access)?;
                return Ok(Found { file, path });
            }
            Err(errno) => refused = Some(errno),
        }
    }
    Err(match refused {
        None => denied(named, "does not lie below a directory whose files may be opened"),
        Some(Errno::XDEV) => denied(named, "leads out of the directory whose files may be opened"),
        Some(Errno::NOSYS) => Error::new(ErrorKind::Unsupported, Operation::Open, named.image)
            .because(format!(
                "it names the {} {:?}, and this kernel cannot keep names inside of a directory: \
                 Linux 5.6 or later is needed",
                named.role, named.name
            )),
        Some(errno) => failed(named, errno.into()),
    })
}

/// Returns device and inode of what a path leads to.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Finds a file without opening it, since opening some devices does something to them.
fn look_up(folder: &Folder, relative: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(&folder.directory, relative, flags, Mode::empty(), resolve) {
            // Something on the way was renamed at the same time.
            Err(Errno::AGAIN | Errno::INTR) if attempts < ATTEMPTS => attempts += 1,
            result => return result,
        }
    }
}

fn open_plain(handle: &OwnedFd, named: &NamedFile<'_>, access: Access) -> Result<fs::File> {
    let found = rustix::fs::fstat(handle).map_err(|errno| failed(named, errno.into()))?;
    if !rustix::fs::FileType::from_raw_mode(found.st_mode).is_file() {
        return Err(Error::new(ErrorKind::NotADisk, Operation::Open, named.image).because(
            format!("it names the {} {:?}, which is no plain file", named.role, named.name),
        ));
    }
    fs::OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags(OFlags::NOCTTY.bits().cast_signed())
        .open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
        .map_err(|source| failed(named, source))
}

fn denied(named: &NamedFile<'_>, why: &str) -> Error {
    Error::new(ErrorKind::Denied, Operation::Open, named.image)
        .because(format!("it names the {} {:?}, which {why}", named.role, named.name))
}

fn failed(named: &NamedFile<'_>, source: std::io::Error) -> Error {
    Error::from_io(Operation::Open, named.image, source)
        .because(format!("its {} {:?}", named.role, named.name))
}

/// How often a name is looked up anew.
const ATTEMPTS: usize = 16;
