//! Files that have the same blocks until one of them is written to (`FICLONE`, ioctl_ficlone(2)).

use std::fs::File;
use std::io;

use rustix::io::Errno;

/// Lets one file have the blocks of another instead of its own, and tells whether the file system could: `false`
/// changes nothing.
///
/// # Errors
///
/// Those of the file system that have other reasons.
pub fn share_blocks(from: &File, to: &File) -> io::Result<bool> {
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(
            Errno::OPNOTSUPP
            | Errno::XDEV
            | Errno::INVAL
            | Errno::NOTTY
            | Errno::NOSYS
            | Errno::PERM
            | Errno::TXTBSY,
        ) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
