//! Freezing and thawing of mounted file systems (`linux/fs.h`).
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;

use rustix::io;
use rustix::ioctl::{self, NoArg, Opcode};

/// Writes everything to the device below and holds writes back until [`thaw`].
pub(crate) fn freeze(directory: BorrowedFd<'_>) -> io::Result<()> {
    // JUSTIFICATION: no safe call freezes a file system.
    // SAFETY: FIFREEZE takes a number that it does not look at, and no memory of ours.
    unsafe { ioctl::ioctl(directory, NoArg::<FIFREEZE>::new()) }
}

/// Lets writes go on.
pub(crate) fn thaw(directory: BorrowedFd<'_>) -> io::Result<()> {
    // JUSTIFICATION: no safe call thaws a file system.
    // SAFETY: FITHAW takes a number that it does not look at, and no memory of ours.
    unsafe { ioctl::ioctl(directory, NoArg::<FITHAW>::new()) }
}

const FIFREEZE: Opcode = ioctl::opcode::read_write::<u32>(b'X', 119);

const FITHAW: Opcode = ioctl::opcode::read_write::<u32>(b'X', 120);
