//! Reading and writing past the page cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::{AtFlags, OFlags, StatxFlags};
use rustix::io::Errno;

use super::Access;

/// A second opening of a file, for what is aligned.
///
/// # Guarantees
///
/// Both openings see the same bytes: the kernel writes back and drops what it has of a range
/// before and after a direct write. What goes directly covers whole pages, so nothing of it shares
/// one with a buffered write to its neighbours.
#[derive(Debug)]
pub(super) struct Direct {
    pub(super) file: File,
    /// Of addresses, offsets and lengths; in bytes, a multiple of the page size.
    pub(super) alignment: usize,
}

impl Direct {
    /// Opens a file again; `None` when its file system or device has no direct I/O.
    pub(super) fn open(file: &File, access: Access) -> io::Result<Option<Self>> {
        let Some(alignment) = alignment_of(file)? else { return Ok(None) };
        let flags = OFlags::DIRECT | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            .custom_flags(flags.bits().cast_signed())
            // The file may have got another name meanwhile, or have none.
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()));
        match opened {
            Ok(file) => Ok(Some(Self { file, alignment })),
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the part of a buffer that can be read or written directly at `offset`, which the
    /// buffer's first byte belongs to. Empty when there is none.
    pub(super) fn part(&self, buf: &[u8], offset: u64) -> Range<usize> {
        let alignment = self.alignment as u64;
        let head = offset.next_multiple_of(alignment) - offset;
        let Some(rest) = (buf.len() as u64).checked_sub(head) else { return 0..0 };
        let body = rest / alignment * alignment;
        let address = buf.as_ptr().addr() as u64 + head;
        if body == 0 || !address.is_multiple_of(alignment) {
            return 0..0;
        }
        head as usize..(head + body) as usize
    }

    /// Reads the part of the buffer that can be read directly, and returns which that was. Nothing
    /// when the kernel finds it badly aligned after all.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<Range<usize>> {
        let part = self.part(buf, offset);
        if part.is_empty() {
            return Ok(part);
        }
        let read = self.file.read_exact_at(&mut buf[part.clone()], offset + part.start as u64);
        done_or_left(part, read)
    }

    /// As [`read`](Self::read), for writing.
    pub(super) fn write(&self, buf: &[u8], offset: u64) -> io::Result<Range<usize>> {
        let part = self.part(buf, offset);
        if part.is_empty() {
            return Ok(part);
        }
        let written = self.file.write_all_at(&buf[part.clone()], offset + part.start as u64);
        done_or_left(part, written)
    }
}

/// Leaves a part to the buffered way that the kernel has refused. It does so, too, in the middle of
/// a part that a file which became shorter, or a full one, has cut in two: that way knows why.
fn done_or_left(part: Range<usize>, result: io::Result<()>) -> io::Result<Range<usize>> {
    match result {
        Ok(()) => Ok(part),
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(0..0),
        Err(error) => Err(error),
    }
}

/// Returns what addresses and offsets must be multiples of; `None` without direct I/O.
fn alignment_of(file: &File) -> io::Result<Option<usize>> {
    let least = rustix::param::page_size().max(BLOCK);
    let found = match rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(found) => found,
        Err(Errno::NOSYS) => return Ok(Some(least)),
        Err(errno) => return Err(errno.into()),
    };
    // Kernels before 6.1 do not tell.
    if found.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return Ok(Some(least));
    }
    if found.stx_dio_offset_align == 0 {
        return Ok(None);
    }
    let told = found.stx_dio_offset_align.max(found.stx_dio_mem_align) as usize;
    Ok(Some(told.max(least).next_power_of_two()))
}

/// No device has larger logical blocks, mostly.
const BLOCK: usize = 4096;
