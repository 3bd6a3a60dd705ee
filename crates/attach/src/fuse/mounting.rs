//! Mounts a connection to the kernel's FUSE over a file, and takes it away again.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::protocol::PAYLOAD;
use crate::loop_device::Access;
use crate::mount::table;
use crate::{Error, ErrorKind, Result};

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Only when nobody uses it.
    Regular,
    /// Out of sight, whoever uses it.
    Lazy,
}

/// Opens a connection and mounts it over `file`, which must be there.
pub(super) fn mount(file: &Path, access: Access) -> Result<File> {
    if !rustix::process::geteuid().is_root() {
        return mount_by_helper(file, access);
    }
    let failed = |source| cannot_mount(file).with_source(source);
    let connection = open_device().map_err(failed)?;
    let options = format!(
        "fd={},rootmode=100600,user_id=0,group_id=0,max_read={PAYLOAD}",
        connection.as_raw_fd(),
    );
    let options = CString::new(options).map_err(|error| failed(error.into()))?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if access == Access::ReadOnly {
        flags |= MountFlags::RDONLY;
    }
    rustix::mount::mount(NAME, file, KIND, flags, options.as_c_str())
        .map_err(|errno| failed(errno.into()))?;
    Ok(connection)
}

/// Unmounts a file. One that is not mounted succeeds.
pub(super) fn unmount(file: &Path, manner: Manner) -> io::Result<()> {
    let lazily = match manner {
        Manner::Regular => UnmountFlags::empty(),
        Manner::Lazy => UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(file, UnmountFlags::NOFOLLOW | lazily) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(Errno::PERM) => unmount_by_helper(file, manner),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns whether something of ours is mounted over `file`, whether or not its server lives.
pub(super) fn is_mounted(file: &Path) -> Result<bool> {
    Ok(table::at(file)?.pop().is_some_and(|entry| entry.kind == KIND))
}

/// Opens the kernel's end.
pub(super) fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE)
}

/// Returns the program that mounts for whoever is not root.
pub(super) fn helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(HELPER)).find(|program| program.is_file())
}

/// The helper opens the connection and passes it on by the socket that it is given, here as its
/// standard input.
fn mount_by_helper(file: &Path, access: Access) -> Result<File> {
    let failed = |source| cannot_mount(file).with_source(source);
    let helper = helper().ok_or_else(|| {
        cannot_mount(file)
            .with_source(io::Error::other(format!("there is no {HELPER}")))
            .hinted("install the package fuse3, or run this as root")
    })?;
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let access = match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    };
    let options =
        format!("{access},nosuid,nodev,noexec,fsname={NAME},subtype={NAME},max_read={PAYLOAD}");
    let output = Command::new(helper)
        .args(["-o", &options, "--"])
        .arg(file)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(io::Error::other(said)));
    }
    received(&ours).map_err(failed)
}

/// Takes the descriptor that comes by a socket.
fn received(socket: &UnixStream) -> io::Result<File> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut passed = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut passed,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in passed.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            return Ok(File::from(descriptor));
        }
    }
    Err(io::Error::other("no connection was passed on"))
}

fn unmount_by_helper(file: &Path, manner: Manner) -> io::Result<()> {
    let helper = helper().ok_or_else(|| io::Error::other(format!("there is no {HELPER}")))?;
    let mut command = Command::new(helper);
    command.args(if manner == Manner::Lazy { &["-u", "-z", "--"][..] } else { &["-u", "--"] });
    let output = command.arg(file).env("LC_ALL", "C").stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    match () {
        () if output.status.success() || !is_mounted(file).unwrap_or(true) => Ok(()),
        () if said.contains("busy") => Err(Errno::BUSY.into()),
        () => Err(io::Error::other(said.trim().to_owned())),
    }
}

fn cannot_mount(file: &Path) -> Error {
    Error::new(ErrorKind::Io, format!("cannot mount a volume over {}", file.display()))
}

/// What tells ours from other mounts.
const NAME: &str = "strongroom";

/// The type of the file system, as the kernel tells it.
const KIND: &str = "fuse.strongroom";

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";
