//! The one ioctl of `/dev/fuse`: `linux/fuse.h`.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

/// Returns another descriptor of a connection, with a queue of its own, so that threads do not wait
/// for each other.
pub(crate) fn clone_connection(connection: &File) -> io::Result<File> {
    let clone = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let mut original = connection.as_raw_fd();
    let pointer = std::ptr::from_mut(&mut original);
    // JUSTIFICATION: no safe library has this ioctl.
    // SAFETY: it reads one number of 32 bits, which is borrowed for the call.
    let result = unsafe { libc::ioctl(clone.as_raw_fd(), CLONE as libc::Ioctl, pointer) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(clone) }
}

const CLONE: u32 = 0x8004_e500;
