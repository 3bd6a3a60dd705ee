//! Plain files and block devices.

mod direct;

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::Errno;

use self::direct::Direct;
use crate::disk::{check_extent_offset, check_range, check_within};
use crate::lock::{LockGuard, LockMode, Wait};
use crate::{Disk, Error, ErrorKind, Extent, ExtentKind, FormatPermit, Operation, Result};

/// A plain file or a block device, byte for byte.
#[derive(Debug)]
pub struct Raw {
    file: File,
    label: String,
    access: Access,
    backing: Backing,
    len: AtomicU64,
    direct: Option<Direct>,
}

/// What a disk is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backing {
    File,
    BlockDevice { major: u32, minor: u32 },
}

impl Raw {
    /// Opens what is there. The path is the label.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotADisk`] for directories, pipes, sockets and character devices.
    pub fn open(path: impl AsRef<Path>, access: Access) -> Result<Self> {
        let path = path.as_ref();
        let label = path.display().to_string();
        let failed = |source| Error::from_io(Operation::Open, label.clone(), source);
        // Looked at first, since merely opening some devices does something to them.
        check_file_type(&label, fs::metadata(path).map_err(failed)?.file_type())?;
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            // Were it a pipe by now, opening it would wait for ever.
            .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        Self::from_file(file, label, access)
    }

    /// Creates a file that is not there yet, readable and writable by its owner only, of length
    /// zero.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] when there is something under that name, be it a symbolic link
    /// to nowhere.
    pub fn create_new(path: impl AsRef<Path>) -> Result<(Self, FormatPermit)> {
        let path = path.as_ref();
        let label = path.display().to_string();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| Error::from_io(Operation::Create, label.clone(), source))?;
        let raw = Self::from_file(file, label, Access::ReadWrite)?;
        Ok((raw, FormatPermit::for_exclusively_created_file()))
    }

    /// Changes what errors call this disk.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Makes the file longer, by a hole, or shorter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a block device.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.check_resizable()?;
        self.file
            .set_len(len)
            .map_err(|source| Error::from_io(Operation::Resize, &self.label, source))?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Looks how long the file or device is by now, when somebody else may have made it longer, and
    /// returns that in bytes. One that has become shorter keeps the length it had, so that what is
    /// missing is an error.
    pub fn look_for_growth(&self) -> Result<u64> {
        let found = match self.backing {
            Backing::File => self.file.metadata().map(|metadata| metadata.len()),
            Backing::BlockDevice { .. } => (&self.file).seek(SeekFrom::End(0)),
        }
        .map_err(|source| Error::from_io(Operation::Open, &self.label, source))?;
        Ok(self.len.fetch_max(found, Ordering::AcqRel).max(found))
    }

    /// Reads and writes past the page cache from now on where it can: whole pages of the file, in
    /// buffers that begin at a page. What is left of a request goes through the cache, and is
    /// dropped from there by the next flush.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when the file system or device has no direct I/O.
    pub fn bypass_cache(&mut self) -> Result<()> {
        self.direct = Direct::open(&self.file, self.access)
            .map_err(|source| Error::from_io(Operation::Open, &self.label, source))?;
        if self.direct.is_some() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, Operation::Open, &self.label)
            .because("its file system cannot bypass the page cache (O_DIRECT)"))
    }

    /// Makes the file longer by `buf`. At no moment has it bytes at its end that nobody wrote, not
    /// even when the process is killed meanwhile: then it may have got a part of `buf`.
    ///
    /// # Assumptions
    ///
    /// Nobody else changes the length.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a block device.
    pub fn append(&self, buf: &[u8]) -> Result<()> {
        self.check_resizable()?;
        let (offset, length) = (self.len(), buf.len() as u64);
        self.file.write_all_at(buf, offset).map_err(|source| {
            Error::from_io(Operation::Write, &self.label, source).at(offset, length)
        })?;
        self.len.store(offset + length, Ordering::Release);
        Ok(())
    }

    /// Takes the lock of [`try_lock`](Self::try_lock) on an image, and makes sure that no program
    /// of QEMU's has it open: those lock some bytes of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when somebody else is using it.
    pub fn try_lock_image(&self, mode: LockMode) -> Result<LockGuard> {
        let guard = self.try_lock(mode)?;
        let found = crate::lock::is_open_in_qemu(&self.file, mode)
            .map_err(|source| Error::from_io(Operation::Lock, &self.label, source))?;
        if found {
            return Err(Error::new(ErrorKind::Busy, Operation::Lock, &self.label)
                .because("a program of QEMU's has it open"));
        }
        Ok(guard)
    }

    /// Waits for the lock that `cryptsetup` takes on the metadata of this disk.
    ///
    /// # Assumptions
    ///
    /// The guard says nothing about other users of this very value: locks are between openings.
    pub fn lock(&self, mode: LockMode) -> Result<LockGuard> {
        self.take_lock(mode, Wait::UntilFree)
    }

    /// Takes the lock that `cryptsetup` takes on the metadata of this disk, without waiting.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when someone else holds it.
    pub fn try_lock(&self, mode: LockMode) -> Result<LockGuard> {
        self.take_lock(mode, Wait::Never)
    }

    /// Tells the kernel that the file will be read from its beginning to its end.
    ///
    /// Advice only: a kernel that does not take it is no error.
    pub fn advise_sequential(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::Sequential);
    }

    /// Returns whether this is a block device.
    pub fn is_block_device(&self) -> bool {
        self.backing != Backing::File
    }

    /// Returns whether both are the same file or device, whatever their names.
    pub fn is_same_file(&self, other: &Self) -> Result<bool> {
        if self.backing != other.backing {
            return Ok(false);
        }
        // Two nodes of one block device have the same number but are different files.
        Ok(self.is_block_device() || self.identity()? == other.identity()?)
    }

    /// Returns the disk in a file that somebody has opened for at least this `access`, by whatever
    /// means; errors call it `label`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotADisk`] when it is neither a plain file nor a block device.
    pub fn from_file(mut file: File, label: String, access: Access) -> Result<Self> {
        let failed = |source| Error::from_io(Operation::Open, label.clone(), source);
        let metadata = file.metadata().map_err(failed)?;
        check_file_type(&label, metadata.file_type())?;
        let (backing, len) = if metadata.file_type().is_block_device() {
            let device = metadata.rdev();
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
            (Backing::BlockDevice { major, minor }, len)
        } else {
            (Backing::File, metadata.len())
        };
        Ok(Self { file, label, access, backing, len: AtomicU64::new(len), direct: None })
    }

    /// Makes data and everything about the file durable.
    pub(crate) fn flush_with_metadata(&self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|source| Error::from_io(Operation::Flush, &self.label, source))?;
        self.drop_cached();
        Ok(())
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Returns device and inode of the file.
    pub fn identity(&self) -> Result<(u64, u64)> {
        let metadata = self
            .file
            .metadata()
            .map_err(|source| Error::from_io(Operation::Open, &self.label, source))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    fn take_lock(&self, mode: LockMode, wait: Wait) -> Result<LockGuard> {
        match self.backing {
            Backing::File => LockGuard::on_file(&self.file, mode, wait),
            Backing::BlockDevice { major, minor } => {
                LockGuard::on_device(Path::new(LockGuard::DIRECTORY), major, minor, mode, wait)
            }
        }
        .map_err(|source| {
            let error = Error::from_io(Operation::Lock, &self.label, source);
            match error.kind() {
                ErrorKind::Busy => Error::new(ErrorKind::Busy, Operation::Lock, &self.label)
                    .because("another process is using its metadata"),
                _ => error,
            }
        })
    }

    fn check(&self, operation: Operation, offset: u64, length: u64) -> Result<()> {
        check_range(operation, &self.label, self.len(), offset, length)
    }

    fn check_writable(&self, operation: Operation) -> Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Error::new(ErrorKind::ReadOnly, operation, &self.label)
                .because("it was opened for reading only")),
        }
    }

    fn check_resizable(&self) -> Result<()> {
        self.check_writable(Operation::Resize)?;
        if self.is_block_device() {
            return Err(Error::new(ErrorKind::Unsupported, Operation::Resize, &self.label)
                .because("a block device has the length that it has"));
        }
        Ok(())
    }

    fn failed_at(&self, operation: Operation, offset: u64, length: u64, source: Errno) -> Error {
        Error::from_io(operation, &self.label, source.into()).at(offset, length)
    }

    /// Returns kind and end of the extent at `offset` as the file system tells it, `None` when it
    /// cannot. An end at or before `offset` shows that the file has become shorter.
    fn seek_extent(&self, offset: u64) -> rustix::io::Result<Option<(ExtentKind, u64)>> {
        let found = rustix::fs::fstat(&self.file)?;
        let len = found.st_size.cast_unsigned();
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Ok(Some((ExtentKind::Unallocated, data))),
            // A file with as many blocks as it has bytes seems to have no holes. Looking for one
            // would walk all of its pages, on tmpfs, before anyone can begin to read. It may have
            // blocks that were never written, though, so the next extent is to be asked for soon.
            Ok(_) if found.st_blocks.cast_unsigned().saturating_mul(512) >= len => {
                Ok(Some((ExtentKind::Data, len.min(offset.saturating_add(DENSE_EXTENT)))))
            }
            Ok(_) => {
                let hole = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(offset))?;
                Ok(Some((ExtentKind::Data, hole)))
            }
            // No more data: a hole up to the end, if the end is still where it was.
            Err(Errno::NXIO) => Ok(Some((ExtentKind::Unallocated, len))),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn read_buffered_or_not(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let direct = match &self.direct {
            Some(direct) => direct.read(buf, offset)?,
            None => 0..0,
        };
        let behind = offset + direct.end as u64;
        self.file.read_exact_at(&mut buf[..direct.start], offset)?;
        self.file.read_exact_at(&mut buf[direct.end..], behind)
    }

    fn write_buffered_or_not(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let direct = match &self.direct {
            Some(direct) => direct.write(buf, offset)?,
            None => 0..0,
        };
        let behind = offset + direct.end as u64;
        self.file.write_all_at(&buf[..direct.start], offset)?;
        self.file.write_all_at(&buf[direct.end..], behind)
    }

    /// Drops what went through the page cache in spite of all, which is durable by now.
    fn drop_cached(&self) {
        if self.direct.is_some() {
            // Advice only: a kernel that does not take it is no error.
            let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        }
    }

    fn fallocate(&self, flags: FallocateFlags, range: &Range<u64>) -> rustix::io::Result<()> {
        let flags = flags | FallocateFlags::KEEP_SIZE;
        loop {
            match rustix::fs::fallocate(&self.file, flags, range.start, range.end - range.start) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }

    fn write_zero_bytes(&self, range: Range<u64>) -> Result<()> {
        let mut offset = range.start;
        while offset < range.end {
            let length = (range.end - offset).min(ZEROES.len() as u64);
            self.write_at(&ZEROES[..length as usize], offset)?;
            offset += length;
        }
        Ok(())
    }
}

impl Disk for Raw {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let length = buf.len() as u64;
        self.check(Operation::Read, offset, length)?;
        self.read_buffered_or_not(buf, offset).map_err(|source| {
            let error = Error::from_io(Operation::Read, &self.label, source).at(offset, length);
            match error.kind() {
                ErrorKind::ShortRead => {
                    Error::new(ErrorKind::ShortRead, Operation::Read, &self.label)
                        .at(offset, length)
                        .because("the file has become shorter since it was opened")
                }
                _ => error,
            }
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let length = buf.len() as u64;
        self.check_writable(Operation::Write)?;
        self.check(Operation::Write, offset, length)?;
        self.write_buffered_or_not(buf, offset).map_err(|source| {
            Error::from_io(Operation::Write, &self.label, source).at(offset, length)
        })
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        let len = self.len();
        let answer = match self.backing {
            Backing::File => self.seek_extent(offset).map_err(|errno| {
                self.failed_at(Operation::FindExtent, offset, len - offset, errno)
            })?,
            Backing::BlockDevice { .. } => None,
        };
        let (kind, end) = answer.unwrap_or((ExtentKind::Data, len));
        if end <= offset {
            return Err(Error::new(ErrorKind::ShortRead, Operation::FindExtent, &self.label)
                .at(offset, len - offset)
                .because("the file has become shorter since it was opened"));
        }
        Ok(Extent { range: offset..end.min(len), kind })
    }

    /// Punches a hole: the range reads as zeros afterwards, except that a block device keeps what
    /// is not a whole block of 4096 bytes.
    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.check_writable(Operation::Discard)?;
        let length = check_within(self, Operation::Discard, &range)?;
        let punched = match self.backing {
            Backing::File => range.clone(),
            Backing::BlockDevice { .. } => {
                range.start.next_multiple_of(BLOCK)..range.end / BLOCK * BLOCK
            }
        };
        if punched.is_empty() {
            return Ok(());
        }
        self.fallocate(FallocateFlags::PUNCH_HOLE, &punched)
            .map_err(|errno| self.failed_at(Operation::Discard, range.start, length, errno))
    }

    /// Punches a hole in a file and asks a device to zero itself; writes zeros where that fails.
    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.check_writable(Operation::WriteZeroes)?;
        let length = check_within(self, Operation::WriteZeroes, &range)?;
        if length == 0 {
            return Ok(());
        }
        let flags = match self.backing {
            Backing::File => FallocateFlags::PUNCH_HOLE,
            Backing::BlockDevice { .. } => FallocateFlags::ZERO_RANGE,
        };
        match self.fallocate(flags, &range) {
            // A device also says "invalid" to what is no multiple of its sectors.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.write_zero_bytes(range),
            result => result.map_err(|errno| {
                self.failed_at(Operation::WriteZeroes, range.start, length, errno)
            }),
        }
    }

    fn flush(&self) -> Result<()> {
        if self.access == Access::ReadWrite {
            self.file
                .sync_data()
                .map_err(|source| Error::from_io(Operation::Flush, &self.label, source))?;
        }
        self.drop_cached();
        Ok(())
    }
}

/// Refuses what is neither a plain file nor a block device.
impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn check_file_type(label: &str, found: FileType) -> Result<()> {
    let reason = if found.is_file() || found.is_block_device() {
        return Ok(());
    } else if found.is_dir() {
        "it is a directory"
    } else if found.is_fifo() {
        "it is a pipe, and a disk must be readable at any offset"
    } else if found.is_socket() {
        "it is a socket"
    } else if found.is_char_device() {
        "it is a character device"
    } else {
        "it is neither a plain file nor a block device"
    };
    Err(Error::new(ErrorKind::NotADisk, Operation::Open, label).because(reason))
}

/// What discards of block devices are rounded to: no device has larger logical blocks.
const BLOCK: u64 = 4096;

/// How far a file without holes is taken for data before it is asked again.
const DENSE_EXTENT: u64 = 4 << 20;

static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

#[cfg(test)]
mod tests;
