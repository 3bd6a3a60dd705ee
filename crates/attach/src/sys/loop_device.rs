//! The ioctls of loop devices: `linux/loop.h`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// What a loop device is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// The device number of the file system that its file lies on.
    pub(crate) device: u64,
    /// The inode of its file.
    pub(crate) inode: u64,
}

/// Whether a loop device can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only read.
    ReadOnly,
    /// Read and written.
    ReadWrite,
}

/// Returns the number of a device that is free, which is made when there is none. Somebody else may
/// take it first.
pub(crate) fn free_number(control: &File) -> io::Result<u32> {
    let number = call(control, GET_FREE, 0)?;
    u32::try_from(number).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Makes a file the contents of a free device, past the page cache where the kernel can.
pub(crate) fn configure(device: &File, file: &File, block_size: u32, mode: Mode) -> io::Result<()> {
    let read_only = if mode == Mode::ReadOnly { FLAG_READ_ONLY } else { 0 };
    let mut config = Config {
        fd: file.as_raw_fd().cast_unsigned(),
        block_size,
        info: Info { flags: FLAG_DIRECT_IO | read_only, ..Info::default() },
        reserved: [0; 8],
    };
    pass(device, CONFIGURE, &mut config)
}

/// Returns what a device is about.
///
/// # Errors
///
/// `ENXIO` when nothing, and whatever the file system of its file answers: `ENOTCONN` when that was
/// in user space and its server is gone.
pub(crate) fn status(device: &File) -> io::Result<Status> {
    let mut info = Info::default();
    pass(device, GET_STATUS64, &mut info)?;
    Ok(Status { device: info.device, inode: info.inode })
}

/// Makes a device free, or has that done when the last one who uses it is gone.
pub(crate) fn clear(device: &File) -> io::Result<()> {
    call(device, CLR_FD, 0).map(drop)
}

/// Takes back that a device becomes free by itself.
pub(crate) fn keep(device: &File) -> io::Result<()> {
    let mut info = Info::default();
    pass(device, GET_STATUS64, &mut info)?;
    info.flags &= !FLAG_AUTOCLEAR;
    pass(device, SET_STATUS64, &mut info)
}

/// Makes a device as long as its file is by now.
pub(crate) fn set_capacity(device: &File) -> io::Result<()> {
    call(device, SET_CAPACITY, 0).map(drop)
}

/// A structure that the kernel reads or fills.
trait Structure {}

/// `struct loop_info64`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

impl Structure for Info {}

impl Structure for Config {}

impl Default for Info {
    fn default() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// Calls an ioctl that takes a number.
fn call(file: &File, request: u32, number: libc::c_ulong) -> io::Result<i32> {
    // JUSTIFICATION: no safe library has the ioctls of loop devices.
    // SAFETY: the requests that are passed here take a number or nothing, and touch no memory of ours.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as libc::Ioctl, number) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls an ioctl that takes a structure.
fn pass(file: &File, request: u32, structure: &mut impl Structure) -> io::Result<()> {
    let pointer = std::ptr::from_mut(structure);
    // JUSTIFICATION: no safe library has the ioctls of loop devices.
    // SAFETY: the structure is the one of this request, laid out as in C, and is borrowed for the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as libc::Ioctl, pointer) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const CLR_FD: u32 = 0x4c01;
const SET_STATUS64: u32 = 0x4c04;
const GET_STATUS64: u32 = 0x4c05;
const SET_CAPACITY: u32 = 0x4c07;
const CONFIGURE: u32 = 0x4c0a;
const GET_FREE: u32 = 0x4c82;

const FLAG_READ_ONLY: u32 = 1;
const FLAG_AUTOCLEAR: u32 = 4;
const FLAG_DIRECT_IO: u32 = 16;

// The sizes are part of the interface.
const _: () = assert!(size_of::<Info>() == 232 && size_of::<Config>() == 304);
