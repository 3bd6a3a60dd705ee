//! The disk as an internal snapshot has it.

use std::ops::Range;

use super::metadata::L1;
use super::{Qcow2, Snapshot};
use crate::disk::{check_extent_offset, check_range};
use crate::{Disk, Error, ErrorKind, Extent, Operation, Resizable, Result};

/// The disk as it was when an internal snapshot was taken. For reading only.
pub struct SnapshotView<'a, D> {
    image: &'a Qcow2<D>,
    snapshot: &'a Snapshot,
    l1: L1,
}

impl<D: Resizable> Qcow2<D> {
    /// Returns the disk as the snapshot with this id has it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is none.
    pub fn snapshot(&self, id: &str) -> Result<SnapshotView<'_, D>> {
        let snapshot =
            self.snapshots.iter().find(|snapshot| snapshot.id == id).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, Operation::Open, self.label())
                    .because(format!("it has no snapshot {id:?}"))
            })?;
        let name = "L1 table of a snapshot";
        let l1 = L1::new(&self.file, name, snapshot.l1_offset, snapshot.l1_entries)?;
        Ok(SnapshotView { image: self, snapshot, l1 })
    }
}

impl<D: Resizable> SnapshotView<'_, D> {
    fn refuse(&self, operation: Operation) -> Error {
        Error::new(ErrorKind::ReadOnly, operation, self.label())
            .because("a snapshot stays what it is")
    }
}

impl<D: Resizable> Disk for SnapshotView<'_, D> {
    fn len(&self) -> u64 {
        self.snapshot.size
    }

    fn label(&self) -> &str {
        self.image.label()
    }

    fn read_at(&self, mut buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(Operation::Read, self.label(), self.len(), offset, buf.len() as u64)?;
        // What a snapshot refers to is neither changed nor moved, so no region is held.
        for range in self.image.by_region(offset..offset + buf.len() as u64) {
            let (piece, rest) = buf.split_at_mut((range.end - range.start) as usize);
            self.image.read_from(Some(self.l1), piece, range.start)?;
            buf = rest;
        }
        Ok(())
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> Result<()> {
        Err(self.refuse(Operation::Write))
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        self.image.extent_from(Some(self.l1), offset, self.len())
    }

    fn discard(&self, _range: Range<u64>) -> Result<()> {
        Err(self.refuse(Operation::Discard))
    }

    fn write_zeroes(&self, _range: Range<u64>) -> Result<()> {
        Err(self.refuse(Operation::WriteZeroes))
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}
