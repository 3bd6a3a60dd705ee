//! `mount_setattr`, which changes a mount that nobody sees yet.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;

/// Sets and clears attributes of a mount, the one that `open_tree` or `fsmount` returned as `mount`.
pub(crate) fn change(
    mount: BorrowedFd<'_>,
    set: MountAttrFlags,
    cleared: MountAttrFlags,
) -> Result<()> {
    let mut cleared = cleared;
    // The mode of access times is a number, not a flag: the old one has to be cleared as a whole.
    if set.intersects(MountAttrFlags::MOUNT_ATTR__ATIME) {
        cleared.insert(MountAttrFlags::MOUNT_ATTR__ATIME);
    }
    let attributes = libc::mount_attr {
        attr_set: set.bits().into(),
        attr_clr: cleared.bits().into(),
        propagation: 0,
        userns_fd: 0,
    };
    // JUSTIFICATION: no safe library has this call yet, and a remount instead would let a mount that
    // is to be read-only be written to for a moment.
    // SAFETY: the path is an empty string that ends in a zero byte, `attributes` is a whole `mount_attr` of
    // the size given, and the kernel only reads both, during the call.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if code == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
