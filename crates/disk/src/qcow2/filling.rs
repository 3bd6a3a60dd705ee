//! A new image while a copy fills it.

use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::{Qcow2, Shrinking};
use crate::disk::check_range;
use crate::{Disk, Error, ErrorKind, Extent, Operation, Resizable, Result};

/// An image that is filled once, from a source whose length may not be known yet.
///
/// # Guarantees
///
/// - Its length can change while other threads write.
/// - With [`Clusters::Compressed`], whole clusters are stored compressed where that is smaller.
///   Compression holds no lock.
///
/// # Assumptions
///
/// Compressed clusters are written once each.
pub struct Filling<D> {
    image: RwLock<Qcow2<D>>,
    label: String,
    clusters: Clusters,
}

/// How whole clusters are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Clusters {
    /// As they are.
    Plain,
    /// Compressed, the way that the image's header says.
    Compressed,
}

impl<D: Resizable> Filling<D> {
    /// Returns the disk that fills `image`.
    pub fn new(image: Qcow2<D>, clusters: Clusters) -> Self {
        let label = image.label().to_owned();
        Self { image: RwLock::new(image), label, clusters }
    }

    /// Returns the image.
    pub fn into_image(self) -> Qcow2<D> {
        self.image.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    // Whoever panicked while it changed the length left the old or the new one.
    fn image(&self) -> RwLockReadGuard<'_, Qcow2<D>> {
        self.image.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whole clusters compressed and the rest as it is.
    fn write_compressed(&self, image: &Qcow2<D>, buf: &[u8], offset: u64) -> Result<()> {
        check_range(Operation::Write, &self.label, image.len(), offset, buf.len() as u64)?;
        let cluster = image.header().cluster_size();
        let end = offset + buf.len() as u64;
        let mut start = offset;
        while start < end {
            let next = ((start / cluster + 1) * cluster).min(end);
            let piece = &buf[(start - offset) as usize..(next - offset) as usize];
            let is_whole = next - start == cluster || next == image.len();
            if start.is_multiple_of(cluster) && is_whole {
                image.write_compressed_at(piece, start)?;
            } else {
                image.write_at(piece, start)?;
            }
            start = next;
        }
        Ok(())
    }
}

impl<D: Resizable> Resizable for Filling<D> {
    /// Changes the length, rounded up to a multiple of 512, of which every image is one.
    fn set_len(&self, len: u64) -> Result<()> {
        let len = len.checked_next_multiple_of(512).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, Operation::Resize, &self.label)
                .because("the size is beyond all limits")
        })?;
        let mut image = self.image.write().unwrap_or_else(PoisonError::into_inner);
        image.resize(len, Shrinking::Allow)
    }
}

impl<D: Resizable> Disk for Filling<D> {
    fn len(&self) -> u64 {
        self.image().len()
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.image().read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        match self.clusters {
            Clusters::Plain => self.image().write_at(buf, offset),
            Clusters::Compressed => self.write_compressed(&self.image(), buf, offset),
        }
    }

    fn write_scratch_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        match self.clusters {
            Clusters::Plain => self.image().write_scratch_at(buf, offset),
            Clusters::Compressed => self.write_compressed(&self.image(), buf, offset),
        }
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.image().extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.image().discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.image().write_zeroes(range)
    }

    fn flush(&self) -> Result<()> {
        self.image().flush()
    }
}

impl<D> std::fmt::Debug for Filling<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filling").field("label", &self.label).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qcow2::{Closed, CreateOptions, Repair, check, create};
    use crate::{Access, Memory, conformance};

    fn filling(size: u64, clusters: Clusters) -> Filling<Memory> {
        let file = Memory::new(0);
        create(&file, &CreateOptions::new(size)).unwrap();
        Filling::new(Qcow2::open(file, Access::ReadWrite, &Closed).unwrap(), clusters)
    }

    #[test]
    fn passes_the_conformance_suite() {
        for clusters in [Clusters::Plain, Clusters::Compressed] {
            conformance::run(512, &|len| Box::new(filling(len, clusters)));
        }
    }

    #[test]
    fn grows_while_it_is_filled_and_compresses_whole_clusters() {
        let disk = filling(0, Clusters::Compressed);
        for number in 0..8u64 {
            disk.set_len((number + 1) << 20).unwrap();
            disk.write_at(&vec![number as u8 + 1; 1 << 20], number << 20).unwrap();
        }
        disk.set_len((7 << 20) + 700).unwrap();
        assert_eq!(disk.len(), (7 << 20) + 1024);
        disk.flush().unwrap();
        let file = disk.into_image().close().unwrap();
        assert!(file.len() < 1 << 20, "{}", file.len());
        assert!(check(&file, Repair::Nothing).unwrap().findings.is_empty());
        let image = Qcow2::open(file, Access::ReadOnly, &Closed).unwrap();
        let mut found = [0; 2];
        image.read_at(&mut found, (3 << 20) - 1).unwrap();
        assert_eq!(found, [3, 4]);
    }
}
