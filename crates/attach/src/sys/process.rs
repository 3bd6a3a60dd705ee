//! Processes: descriptors that were inherited, and copies of a process.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::process::Pid;

/// Which of the two a process is after [`fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// The new one.
    Child,
    /// The one that was there; with the number of the new one.
    Parent(Pid),
}

/// Closes everything that was inherited besides standard input, output and error: locks and pipes of
/// whoever started us shall not live as long as we do.
///
/// # Assumptions
///
/// This process has opened nothing yet that it needs but `kept`.
pub(crate) fn close_inherited(kept: &File) {
    let kept = kept.as_raw_fd().cast_unsigned();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept.saturating_add(1).max(3), u32::MAX)] {
        if first > last {
            continue;
        }
        // JUSTIFICATION: no safe library closes descriptors that it does not own.
        // SAFETY: nothing in this process owns one of them, as this function demands.
        unsafe {
            // A kernel without the call (before 5.9) leaves them open, which only wastes them.
            let _ = libc::syscall(libc::SYS_close_range, first, last, 0_u32);
        }
    }
}

/// Makes a copy of this process.
///
/// # Assumptions
///
/// This process has one thread. The copy would else have locks that nobody gives back.
pub(crate) fn fork() -> io::Result<Fork> {
    // JUSTIFICATION: no safe library forks, because of threads.
    // SAFETY: there is one thread, as this function demands, so the copy is whole.
    let pid = unsafe { libc::fork() };
    match pid {
        ..0 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        _ => Ok(Pid::from_raw(pid).map_or(Fork::Child, Fork::Parent)),
    }
}
