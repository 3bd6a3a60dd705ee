//! Disks made longer and shorter.

use super::Qcow2;
use super::header::{LARGEST_L1, LARGEST_SIZE, Version};
use crate::{Disk, Error, ErrorKind, Operation, Resizable, Result};

/// Whether a disk may lose what lies at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shrinking {
    /// Making it shorter is an error.
    Refuse,
    /// Its end is given up.
    Allow,
}

impl<D: Resizable> Qcow2<D> {
    /// Changes the length of the disk. What is new reads as zeros.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when it would become shorter and must not, when the length is no
    /// multiple of 512, or when version 2 has snapshots, which then know no length of their own.
    pub fn resize(&mut self, size: u64, shrinking: Shrinking) -> Result<()> {
        self.check_writable(Operation::Resize)?;
        self.check_size(size, shrinking)?;
        self.announce_changes()?;
        let old = self.len;
        if size < old {
            // From here on the end reads as zeros, so that it does so when the disk grows again.
            self.write_zeroes(size..old)?;
        }
        self.flush()?;
        if let Some(data) = &self.data_file
            && self.header.data_file_is_raw()
            && size > old
        {
            data.set_len(size)?;
        }
        if old < size {
            self.write_size(old, size)?;
            // What a longer backing file has there was never part of this disk, nor was what
            // others may have left in the tables behind the end. The header says that the disk is
            // longer only when all of that is durable.
            self.len = size;
            let zeroed = self.write_zeroes(old..size).and_then(|()| self.flush());
            self.len = old;
            zeroed?;
        }
        self.write_size(size, size)?;
        self.len = size;
        self.header.size = size;
        if let Some(data) = &self.data_file
            && self.header.data_file_is_raw()
            && size < old
        {
            data.set_len(size)?;
        }
        Ok(())
    }

    fn check_size(&self, size: u64, shrinking: Shrinking) -> Result<()> {
        let has_snapshots = !self.snapshots.is_empty();
        let reason = if size < self.len && shrinking == Shrinking::Refuse {
            "its end would be lost"
        } else if !size.is_multiple_of(512) {
            "the length must be a multiple of 512"
        } else if size > LARGEST_SIZE {
            "the size is beyond all limits"
        } else if has_snapshots && self.header.version == Version::V2 {
            "snapshots of version 2 have the length of the disk"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Unsupported, Operation::Resize, self.label()).because(reason))
    }

    /// Makes the L1 table long enough for `room` bytes, and the header say the length `size`.
    fn write_size(&self, size: u64, room: u64) -> Result<()> {
        let mut metadata = self.lock();
        let coverage = metadata.geometry().l2_coverage();
        let needed = room.div_ceil(coverage);
        let (mut offset, mut entries) = metadata.l1_place();
        let mut moved = None;
        if needed > entries {
            if needed * 8 > LARGEST_L1 {
                return Err(Error::new(ErrorKind::Unsupported, Operation::Resize, self.label())
                    .because("the L1 table would have more than 32 MiB; use larger clusters"));
            }
            let copy = metadata.copy_l1(&self.file, needed)?;
            (offset, entries) = copy.place();
            moved = Some(copy);
            // The copy is counted and durable before the header names it.
            self.commit(&mut metadata)?;
        }
        // Size, encryption method, and length and place of the L1 table lie together.
        let mut fields = [0; 24];
        self.file.read_at(&mut fields, SIZE_FIELD)?;
        fields[..8].copy_from_slice(&size.to_be_bytes());
        fields[12..16].copy_from_slice(&(entries as u32).to_be_bytes());
        fields[16..].copy_from_slice(&offset.to_be_bytes());
        self.file.write_at(&fields, SIZE_FIELD)?;
        self.file.flush()?;
        if let Some(copy) = moved {
            metadata.move_l1(&self.file, copy)?;
            self.commit(&mut metadata)?;
        }
        Ok(())
    }
}

/// Where the header has the length of the disk.
const SIZE_FIELD: u64 = 24;
