//! The file with the bytes of an item.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{SeekFrom, Timespec, Timestamps};
use rustix::io::Errno;

use super::handle::failed;
use crate::{Error, Item, Result};

/// An open file, and what errors call it.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Data {
    pub(super) fn len(&self) -> Result<u64> {
        Ok(self.metadata()?.len())
    }

    /// Returns how many bytes it takes on the medium.
    pub(super) fn allocated(&self) -> Result<u64> {
        Ok(self.metadata()?.blocks() * 512)
    }

    /// Makes the file longer by a hole. One that nobody has written to stays untouched.
    pub(super) fn extend(&self, item: &Item, len: u64) -> Result<()> {
        let untouched = self.is_untouched()?;
        self.set_len(item, len)?;
        if untouched {
            self.set_untouched()?;
        }
        self.sync()
    }

    pub(super) fn set_len(&self, item: &Item, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => Error::Size {
                item: item.clone(),
                len,
                problem: "the file system has no files that long",
            },
            _ => self.failed("change the length of", source),
        })
    }

    /// Tells whether nobody has ever written to the file. The file system must say that it has no data,
    /// that it has no blocks, and that it was not changed since it was made: one that was written to and
    /// then emptied has a time of its own.
    pub(super) fn is_untouched(&self) -> Result<bool> {
        let found = self.metadata()?;
        if (found.mtime(), found.mtime_nsec()) != UNTOUCHED || found.blocks() != 0 {
            return Ok(false);
        }
        match rustix::fs::seek(&self.file, SeekFrom::Data(0)) {
            Err(Errno::NXIO) => Ok(true),
            // Data, or a file system that keeps no books about them.
            Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(self.failed("map", errno.into())),
        }
    }

    /// Records that nobody has written to the file.
    ///
    /// # Assumptions
    ///
    /// Nobody has. Who does so from now on is told by the blocks that this takes.
    pub(super) fn set_untouched(&self) -> Result<()> {
        let (tv_sec, tv_nsec) = UNTOUCHED;
        let time = Timespec { tv_sec, tv_nsec };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&self.file, &times)
            .map_err(|errno| self.failed("set the time of", errno.into()))
    }

    /// Makes everything about the file durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|source| self.failed("flush", source))
    }

    pub(super) fn failed(&self, what: &'static str, source: io::Error) -> Error {
        failed(what, &self.path, source)
    }

    fn metadata(&self) -> Result<Metadata> {
        self.file.metadata().map_err(|source| self.failed("look at", source))
    }
}

/// When a file was changed last that nobody has written to: the beginning of 1970, seconds and
/// nanoseconds.
const UNTOUCHED: (i64, i64) = (0, 0);
