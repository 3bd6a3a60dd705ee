//! Disks that can become longer.

use std::sync::Arc;

use crate::{Disk, Error, ErrorKind, Extent, Memory, Operation, Raw, Result};

/// A disk whose length can be changed: what a format that allocates as it goes lies in.
pub trait Resizable: Disk {
    /// Makes the disk longer, by zeros that take no space if it can, or shorter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when this disk has the length that it has.
    fn set_len(&self, len: u64) -> Result<()>;
}

/// A disk that nobody may change, for images that are only read.
#[derive(Debug)]
pub struct ReadOnly<D>(pub D);

impl Resizable for Raw {
    fn set_len(&self, len: u64) -> Result<()> {
        Self::set_len(self, len)
    }
}

impl Resizable for Memory {
    fn set_len(&self, len: u64) -> Result<()> {
        Self::set_len(self, len);
        Ok(())
    }
}

impl<D: Disk> ReadOnly<D> {
    fn refuse<T>(&self, operation: Operation) -> Result<T> {
        Err(Error::new(ErrorKind::ReadOnly, operation, self.label())
            .because("it was opened for reading only"))
    }
}

impl<D: Disk> Disk for ReadOnly<D> {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn label(&self) -> &str {
        self.0.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> Result<()> {
        self.refuse(Operation::Write)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.0.extent_at(offset)
    }

    fn discard(&self, _range: std::ops::Range<u64>) -> Result<()> {
        self.refuse(Operation::Discard)
    }

    fn write_zeroes(&self, _range: std::ops::Range<u64>) -> Result<()> {
        self.refuse(Operation::WriteZeroes)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl<D: Disk> Resizable for ReadOnly<D> {
    fn set_len(&self, _len: u64) -> Result<()> {
        self.refuse(Operation::Resize)
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<D: Resizable + ?Sized> Resizable for $pointer {
            fn set_len(&self, len: u64) -> Result<()> {
                (**self).set_len(len)
            }
        }
    )*};
}

forward!(&D, Box<D>, Arc<D>);
