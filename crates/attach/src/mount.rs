//! Mounts.
//!
//! Both kinds are made by the file descriptors of Linux's mount API (5.12 or later): what is mounted has
//! all its attributes before anybody sees it, and it goes onto what was looked at, whatever becomes of
//! the path meanwhile.

pub(crate) mod table;
pub(crate) mod users;

mod options;
mod place;

pub use options::Options;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount as unmount_path,
};
use strongroom_model::FileSystem;

use self::options::{Parsed, Setting};
use self::place::Place;
use self::table::Entry;
use crate::sys::mount_attributes;
use crate::{Error, ErrorKind, Result};

/// Mounts the file system on `device` at `target`, an existing directory. The last part of `target` is
/// not followed when it is a symbolic link. The same device mounted there already, in the same way, is
/// left as it is.
///
/// XFS is told not to mind a UUID that it knows already, so that a clone can be mounted beside its
/// source.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when something else is mounted there; [`ErrorKind::Contents`] when the kernel
/// finds no such file system; [`ErrorKind::Request`] when the target is no directory or an option is
/// unknown.
pub fn mount(device: &Path, target: &Path, fs: FileSystem, options: &Options) -> Result<()> {
    let parsed = options.parse();
    let place = Place::at(target)?.ok_or_else(|| missing(target))?;
    let numbers = device_numbers(device)?;
    if let Some(entry) = table::at(place.path())?.pop() {
        let same = entry.device == numbers && entry.root == OsStr::new("/");
        let is_read_only = entry.is_read_only || entry.has_read_only_file_system;
        return place.accept(&entry, same, is_read_only == parsed.is_read_only());
    }
    let directory = place.open()?;
    if place.file_type(&directory)? != FileType::Directory {
        return Err(wrong_type(target, "a directory"));
    }
    let tree = file_system_tree(device, fs, &parsed)?;
    attach(&tree, &directory, target)
}

/// Makes `source`, a directory, file or device node, appear at `target`, an existing directory or file.
/// `source` may be a symbolic link; the last part of `target` may not. The same source there already, in
/// the same way, is left as it is. Of the options those of a mount count (`ro`, `nosuid`), not those of
/// a file system.
///
/// A device node that appears read-only protects the node, not the device: for that the device has to
/// be read-only itself.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when something else is mounted there; [`ErrorKind::Request`] when only one of
/// source and target is a directory.
pub fn bind(source: &Path, target: &Path, options: &Options) -> Result<()> {
    let parsed = options.parse();
    let place = Place::at(target)?.ok_or_else(|| missing(target))?;
    let wanted = fs::metadata(source)
        .map_err(|error| Error::from_io(format!("cannot look at {}", source.display()), error))?;
    let there = place.open()?;
    if let Some(entry) = table::at(place.path())?.pop() {
        let found = place.stat(&there)?;
        let same = found.st_dev == wanted.dev() && found.st_ino == wanted.ino();
        return place.accept(&entry, same, entry.is_read_only == parsed.is_read_only());
    }
    let is_directory = place.file_type(&there)? == FileType::Directory;
    if is_directory != wanted.is_dir() {
        return Err(wrong_type(target, if wanted.is_dir() { "a directory" } else { "a file" }));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let failed =
        |errno| failure(format!("cannot show {} at {}", source.display(), target.display()), errno);
    let tree = open_tree(CWD, source, flags).map_err(failed)?;
    // Whatever the mount of the source has: what is read-only below stays so by its file system.
    let cleared = MountAttrFlags::MOUNT_ATTR_RDONLY.difference(parsed.attributes);
    mount_attributes::change(tree.as_fd(), parsed.attributes, cleared).map_err(failed)?;
    attach(&tree, &there, target)
}

/// Unmounts everything at `target`, one over the other, also what does not answer any more. Nothing
/// mounted there succeeds, and so does a target that does not exist.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when somebody uses it; the hint names who, where that can be told.
pub fn unmount(target: &Path) -> Result<()> {
    let Some(place) = Place::at(target)? else { return Ok(()) };
    for _ in 0..MOST_STACKED {
        let Some(entry) = table::at(place.path())?.pop() else { return Ok(()) };
        let problem = || format!("cannot unmount {}", target.display());
        match unmount_patiently(&place) {
            // Or somebody else was faster.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(Errno::BUSY) if place.is_dead() => {
                let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
                unmount_path(place.through_parent(), flags)
                    .map_err(|errno| failure(problem(), errno))?;
            }
            Err(Errno::BUSY) => return Err(busy(&place, &entry)),
            Err(errno) => return Err(failure(problem(), errno)),
        }
    }
    Err(failure(format!("{} is mounted again and again", target.display()), Errno::BUSY))
}

/// Unmounts the topmost mount of a place. A process that another thread is just starting has copies of
/// our open files for a moment: what is busy is tried again.
fn unmount_patiently(place: &Place) -> rustix::io::Result<()> {
    for _ in 0..BUSY_TRIES {
        match unmount_path(place.through_parent(), UnmountFlags::NOFOLLOW) {
            Err(Errno::BUSY) => thread::sleep(BUSY_PAUSE),
            result => return result,
        }
    }
    Err(Errno::BUSY)
}

/// Returns whether something is mounted at `target`, be it dead.
///
/// # Errors
///
/// When the table of mounts cannot be read.
pub fn is_mounted(target: &Path) -> Result<bool> {
    let Some(place) = Place::at(target)? else { return Ok(false) };
    Ok(!table::at(place.path())?.is_empty())
}

/// Returns whether what is uppermost at `target` is the file system on a block device, or the device
/// itself under another name.
///
/// # Errors
///
/// When the table of mounts cannot be read.
pub fn shows(target: &Path, device: &Path) -> Result<bool> {
    let Some(place) = Place::at(target)? else { return Ok(false) };
    let Ok(device) = rustix::fs::stat(device) else { return Ok(false) };
    let number = device.st_rdev;
    let Some(uppermost) = table::at(place.path())?.pop() else { return Ok(false) };
    if uppermost.device == (rustix::fs::major(number), rustix::fs::minor(number)) {
        return Ok(true);
    }
    let found = rustix::fs::stat(place.path());
    Ok(found.is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice && found.st_rdev == number
    }))
}

/// Returns whether what is mounted at `target` answers: a mount whose server or device is gone does
/// not, and has to be unmounted.
///
/// # Errors
///
/// When the table of mounts cannot be read.
pub fn answers(target: &Path) -> Result<bool> {
    let Some(place) = Place::at(target)? else { return Ok(false) };
    Ok(!table::at(place.path())?.is_empty() && !place.is_dead())
}

impl Place {
    /// Says whether what is mounted here already is what somebody asks for.
    fn accept(&self, entry: &Entry, is_same: bool, has_same_access: bool) -> Result<()> {
        let target = self.path().display();
        if self.is_dead() {
            let problem = format!("what is mounted at {target} does not answer any more");
            return Err(Error::new(ErrorKind::Contents, problem).hinted("unmount it first"));
        }
        if !is_same {
            let source = entry.source.display();
            let problem = format!("something else is mounted at {target} already: {source}");
            return Err(Error::new(ErrorKind::Busy, problem));
        }
        if !has_same_access {
            let (is, asked) = if entry.is_read_only {
                ("only read", "written")
            } else {
                ("written", "only read")
            };
            let problem = format!("{target} is mounted already, to be {is}, not {asked}");
            return Err(Error::new(ErrorKind::Busy, problem));
        }
        Ok(())
    }
}

/// Makes a mount of the file system on a device that is nowhere yet.
fn file_system_tree(device: &Path, fs: FileSystem, parsed: &Parsed) -> Result<OwnedFd> {
    let context = fsopen(fs.name(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| match errno {
        Errno::NODEV => Error::new(ErrorKind::Unsupported, format!("the kernel has no {fs}"))
            .hinted(format!("modprobe {fs}")),
        errno => failure(format!("cannot mount {}", device.display()), errno),
    })?;
    let failed = |what: &str, errno| config_failure(&context, device, fs, what, errno);
    fsconfig_set_string(&context, "source", device).map_err(|errno| failed("source", errno))?;
    if fs == FileSystem::Xfs {
        fsconfig_set_flag(&context, "nouuid").map_err(|errno| failed("nouuid", errno))?;
    }
    for Setting { key, value } in &parsed.settings {
        match value {
            None => fsconfig_set_flag(&context, key.as_str()),
            Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str()),
        }
        .map_err(|errno| failed(key, errno))?;
    }
    fsconfig_create(&context).map_err(|errno| failed("", errno))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, parsed.attributes)
        .map_err(|errno| failed("", errno))
}

/// Returns the error of a mount that failed, with what the kernel says about it.
fn config_failure(
    context: &OwnedFd,
    device: &Path,
    fs: FileSystem,
    option: &str,
    errno: Errno,
) -> Error {
    let words = messages(context.as_fd());
    let mut problem = match (option, errno) {
        ("" | "source", _) => format!("cannot mount {} as {fs}", device.display()),
        (option, _) => format!("{fs} does not take the mount option {option}"),
    };
    if !words.is_empty() {
        problem = format!("{problem}: {words}");
    }
    match (option, errno) {
        ("", Errno::INVAL | Errno::UCLEAN) => {
            Error::new(ErrorKind::Contents, problem).with_source(io::Error::from(errno))
        }
        ("" | "source", errno) => failure(problem, errno),
        _ => Error::new(ErrorKind::Request, problem).with_source(io::Error::from(errno)),
    }
}

/// Returns what the kernel tells about a mount that failed: lines like `e ext4: no such option`.
fn messages(context: BorrowedFd<'_>) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut line = [0; 512];
    // It holds eight at the most.
    while words.len() < 8
        && let Ok(len @ 1..) = rustix::io::read(context, &mut line)
    {
        let text = String::from_utf8_lossy(&line[..len]);
        let text = text.strip_prefix(['e', 'w', 'i']).unwrap_or(&text);
        words.push(text.trim().escape_debug().to_string());
    }
    words.join("; ")
}

fn attach(tree: &OwnedFd, place: &OwnedFd, target: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", flags)
        .map_err(|errno| failure(format!("cannot mount at {}", target.display()), errno))
}

fn device_numbers(device: &Path) -> Result<(u32, u32)> {
    let metadata = fs::metadata(device)
        .map_err(|error| Error::from_io(format!("cannot look at {}", device.display()), error))?;
    if !metadata.file_type().is_block_device() {
        return Err(wrong_type(device, "a block device"));
    }
    Ok((rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev())))
}

fn busy(place: &Place, entry: &Entry) -> Error {
    let problem = format!(
        "{} is in use, and {} cannot be unmounted",
        place.path().display(),
        entry.source.display()
    );
    let error = failure(problem, Errno::BUSY);
    match users::of(place.path()) {
        Some(who) => error.hinted(format!("it is used by {who}")),
        None => error,
    }
}

fn failure(problem: String, errno: Errno) -> Error {
    let error = Error::from_io(problem, io::Error::from(errno));
    match errno {
        Errno::NOSYS => error.hinted("Linux 5.12 or later is needed for mounts"),
        Errno::PERM | Errno::ACCESS => error.hinted("run it as root"),
        _ => error,
    }
}

fn missing(target: &Path) -> Error {
    Error::from_io(format!("cannot mount at {}", target.display()), Errno::NOENT)
}

fn wrong_type(path: &Path, expected: &str) -> Error {
    Error::new(ErrorKind::Request, format!("{} is not {expected}", path.display()))
}

/// How many mounts at one place are unmounted: more than anybody piles up, unless somebody mounts as
/// fast as we unmount.
const MOST_STACKED: u32 = 1000;

const BUSY_TRIES: u32 = 100;

const BUSY_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
