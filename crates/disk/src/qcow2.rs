//! Disk images in QEMU's format qcow2, versions 2 and 3.
//!
//! [`Qcow2`] is the guest's disk inside an image; the image lies in any other [`Disk`].
//! [`create`] makes an empty image, [`check`] finds what is wrong with one. The format is that of
//! QEMU's `docs/interop/qcow2.txt` ("specification" here).
//!
//! Other files that an image names are opened by the caller's [`Gate`] or not at all.

mod check;
mod compression;
mod create;
mod entry;
mod filling;
mod folders;
mod gate;
mod header;
mod luks;
mod malformed;
mod metadata;
mod read;
mod refcount;
mod resize;
mod snapshot;
mod snapshot_view;
mod write;
mod zero;

use std::ops::Range;
use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use strongroom_crypto::SectorCipher;

pub use self::check::{Finding, Repair, Report, Severity, check};
pub use self::create::{CreateOptions, DataFile, create};
pub use self::filling::{Clusters, Filling};
pub use self::folders::{BackingFormat, Folders, UnknownFormat};
pub use self::gate::{Closed, Gate, NamedFile, Role};
pub use self::header::{BackingName, Compression, Extension, Header, ImageEncryption, Version};
pub use self::refcount::RefcountWidth;
pub use self::resize::Shrinking;
pub use self::snapshot::Snapshot;
pub use self::snapshot_view::SnapshotView;

use self::compression::Decompressed;
use self::metadata::{L1, Metadata, invalid};
use self::write::Source;
use crate::disk::{check_extent_offset, check_range, check_within};
use crate::{Access, Disk, Error, ErrorKind, Extent, Operation, Resizable, Result};

/// The guest's disk inside an image.
///
/// # Guarantees
///
/// - A crash at any moment leaves a consistent image, with old or new bytes in what was not
///   flushed. Clusters may be left that nobody refers to; [`check`] finds and frees them.
/// - Metadata takes a bounded part of memory: the L1 table, the refcount table, and 8 MiB.
/// - No lock is held over the whole image while data is read or written.
///
/// # Assumptions
///
/// Nobody else has the file open for writing. What was not flushed when the value is dropped may
/// be lost, as after a crash.
pub struct Qcow2<D> {
    file: D,
    header: Header,
    access: Access,
    len: u64,
    data_file: Option<Box<dyn Resizable>>,
    backing: Option<Box<dyn Disk>>,
    snapshots: Vec<Snapshot>,
    cipher: Option<SectorCipher>,
    metadata: Mutex<Metadata>,
    decompressed: Mutex<Decompressed>,
    /// Filled once the features that a change invalidates were cleared.
    announced: OnceLock<()>,
    /// Every region of the guest's disk has one, shared with others: held by whoever reads or
    /// changes data where it lies, and alone by whoever changes where it lies.
    regions: Box<[RwLock<()>]>,
}

impl<D: Resizable> Qcow2<D> {
    /// Opens the image in `file`; `gate` decides about the files that it names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when it breaks a rule of the format, [`ErrorKind::Unsupported`] when
    /// it needs what is unknown here, [`ErrorKind::Denied`] when the gate does not open a file.
    /// An image that is marked dirty or corrupt is not opened for writing: [`check`] repairs it.
    pub fn open(file: D, access: Access, gate: &dyn Gate) -> Result<Self> {
        let header = read_header(&file)?;
        if access == Access::ReadWrite {
            refuse_damaged(&file, &header)?;
        }
        let (snapshots, _) = read_snapshots(&file, &header)?;
        let data_file = open_data_file(&file, &header, gate)?;
        let backing = open_backing(&file, &header, gate)?;
        let mut metadata = Metadata::load(&file, &header)?;
        if access == Access::ReadWrite {
            for Snapshot { l1_offset, l1_entries, .. } in &snapshots {
                L1::new(&file, "L1 table of a snapshot", *l1_offset, *l1_entries)?;
            }
            metadata.prepare_for_writes(&file, &header, &areas(&header, &snapshots))?;
        }
        Ok(Self {
            access,
            len: header.size,
            data_file,
            backing,
            snapshots,
            cipher: None,
            metadata: Mutex::new(metadata),
            decompressed: Mutex::default(),
            announced: OnceLock::new(),
            regions: (0..REGION_LOCKS).map(|_| RwLock::default()).collect(),
            header,
            file,
        })
    }

    /// Returns the header as it was when the image was opened.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the internal snapshots in the order of the image.
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// Returns what the image lies in.
    pub fn file(&self) -> &D {
        &self.file
    }

    /// Returns the disk that is read where the image holds nothing.
    pub fn backing(&self) -> Option<&dyn Disk> {
        self.backing.as_deref()
    }

    /// Makes everything durable and returns what the image lies in.
    ///
    /// # Errors
    ///
    /// When the file fails.
    pub fn close(self) -> Result<D> {
        self.flush()?;
        Ok(self.file)
    }

    // A thread that panicked may have left a change half done in memory; what it would write was
    // ordered before, so it is what a crash may leave.
    fn lock(&self) -> MutexGuard<'_, Metadata> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what holds the guest's data.
    fn data(&self) -> &dyn Resizable {
        match &self.data_file {
            Some(data) => data,
            None => &self.file,
        }
    }

    fn commit(&self, metadata: &mut Metadata) -> Result<()> {
        // Clusters of the file may get other contents from now on.
        self.decompressed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        metadata.commit(&self.file, self.data_file.as_deref())
    }

    fn check_writable(&self, operation: Operation) -> Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Error::new(ErrorKind::ReadOnly, operation, self.label())
                .because("it was opened for reading only")),
        }
    }

    /// Clears the autoclear features that nobody here keeps true, before the first change.
    fn announce_changes(&self) -> Result<()> {
        if self.announced.get().is_some() {
            return Ok(());
        }
        // Every thread waits until it is done.
        let _alone = self.lock();
        if self.announced.get().is_none() {
            let kept = self.header.autoclear & header::AUTOCLEAR_RAW_DATA_FILE;
            if kept != self.header.autoclear {
                self.file.write_at(&kept.to_be_bytes(), AUTOCLEAR_FIELD)?;
                self.file.flush()?;
            }
            let _ = self.announced.set(());
        }
        Ok(())
    }

    fn share(&self, offset: u64) -> RwLockReadGuard<'_, ()> {
        self.region(offset).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self, offset: u64) -> RwLockWriteGuard<'_, ()> {
        self.region(offset).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn region(&self, offset: u64) -> &RwLock<()> {
        &self.regions[(offset / self.region_size()) as usize % self.regions.len()]
    }

    fn region_size(&self) -> u64 {
        self.header.cluster_size().max(REGION)
    }

    /// Cuts a range at the borders of regions.
    fn by_region(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + use<D> {
        let size = self.region_size();
        let mut start = range.start;
        std::iter::from_fn(move || {
            let end = (start / size + 1).saturating_mul(size).min(range.end);
            let piece = start..end;
            start = end;
            (!piece.is_empty()).then_some(piece)
        })
    }

    fn check_range(&self, operation: Operation, offset: u64, length: usize) -> Result<()> {
        check_range(operation, self.label(), self.len, offset, length as u64)
    }
}

impl<D: Resizable> Disk for Qcow2<D> {
    fn len(&self) -> u64 {
        self.len
    }

    fn label(&self) -> &str {
        self.file.label()
    }

    fn read_at(&self, mut buf: &mut [u8], offset: u64) -> Result<()> {
        self.check_range(Operation::Read, offset, buf.len())?;
        for range in self.by_region(offset..offset + buf.len() as u64) {
            let (piece, rest) = buf.split_at_mut((range.end - range.start) as usize);
            let _nothing_moves = self.share(range.start);
            self.read_from(None, piece, range.start)?;
            buf = rest;
        }
        Ok(())
    }

    fn write_at(&self, mut buf: &[u8], offset: u64) -> Result<()> {
        self.check_range(Operation::Write, offset, buf.len())?;
        for range in self.by_region(offset..offset + buf.len() as u64) {
            let (piece, rest) = buf.split_at((range.end - range.start) as usize);
            self.write_piece(Source::Kept(piece), range.start)?;
            buf = rest;
        }
        Ok(())
    }

    fn write_scratch_at(&self, mut buf: &mut [u8], offset: u64) -> Result<()> {
        self.check_range(Operation::Write, offset, buf.len())?;
        for range in self.by_region(offset..offset + buf.len() as u64) {
            let (piece, rest) = buf.split_at_mut((range.end - range.start) as usize);
            self.write_piece(Source::Scratch(piece), range.start)?;
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        self.extent_from(None, offset, self.len)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::Discard, &range)?;
        self.discard_range(range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        check_within(self, Operation::WriteZeroes, &range)?;
        self.zero_range(range)
    }

    fn flush(&self) -> Result<()> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        {
            let mut metadata = self.lock();
            if metadata.is_dirty() {
                return self.commit(&mut metadata);
            }
        }
        self.data_file.as_ref().map_or(Ok(()), |data| data.flush())?;
        self.file.flush()
    }
}

impl<D> std::fmt::Debug for Qcow2<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qcow2").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Reads the header of the image in `file` and nothing else.
///
/// # Errors
///
/// Those of [`Qcow2::open`] about the header.
pub fn read_header(file: &dyn Disk) -> Result<Header> {
    let malformed = |found: malformed::Malformed| found.of(file.label());
    let mut head = vec![0; file.len().min(SMALLEST_CLUSTER) as usize];
    file.read_at(&mut head, 0)?;
    let needed = Header::head_len(&head).map_err(malformed)?;
    head = vec![0; file.len().min(needed) as usize];
    file.read_at(&mut head, 0)?;
    Header::parse(&head).map_err(malformed)
}

/// Reads the internal snapshots of the image in `file` and nothing else.
///
/// # Errors
///
/// Those of [`Qcow2::open`] about the table of snapshots.
pub fn list_snapshots(file: &dyn Disk, header: &Header) -> Result<Vec<Snapshot>> {
    read_snapshots(file, header).map(|(snapshots, _)| snapshots)
}

/// Returns the snapshots and the length of their table in bytes.
fn read_snapshots(file: &dyn Disk, header: &Header) -> Result<(Vec<Snapshot>, u64)> {
    let mut length = 64 << 10;
    loop {
        let available = file.len().saturating_sub(header.snapshots_offset);
        let mut bytes = vec![0; available.min(length) as usize];
        file.read_at(&mut bytes, header.snapshots_offset.min(file.len()))?;
        match snapshot::parse(&bytes, header).map_err(|found| found.of(file.label()))? {
            snapshot::Table::Whole(snapshots, length) => return Ok((snapshots, length)),
            snapshot::Table::NeedsMore
                if available > length && length < snapshot::LARGEST_TABLE =>
            {
                length *= 2;
            }
            snapshot::Table::NeedsMore => {
                return Err(invalid(file, "its table of snapshots is too long or cut short"));
            }
        }
    }
}

fn open_data_file(
    file: &dyn Disk,
    header: &Header,
    gate: &dyn Gate,
) -> Result<Option<Box<dyn Resizable>>> {
    if !header.has_data_file() {
        return Ok(None);
    }
    let name = header.data_file.as_deref().unwrap_or_default();
    let named = NamedFile { image: file.label(), role: Role::DataFile, name, format: Some("raw") };
    gate.data_file(&named).map(Some)
}

fn open_backing(
    file: &dyn Disk,
    header: &Header,
    gate: &dyn Gate,
) -> Result<Option<Box<dyn Disk>>> {
    let Some(BackingName { name, format }) = &header.backing else { return Ok(None) };
    let format = format.as_deref();
    let named = NamedFile { image: file.label(), role: Role::Backing, name, format };
    gate.backing(&named).map(Some)
}

fn refuse_damaged(file: &dyn Disk, header: &Header) -> Result<()> {
    let state = if header.is_corrupt() {
        "it is marked as corrupt"
    } else if header.is_dirty() {
        "it was not closed, so its reference counts may be out of date"
    } else {
        return Ok(());
    };
    Err(invalid(file, format!("{state}; it can be read, and be written after a repair")))
}

/// Returns the parts of the file with metadata, other than the tables of the active disk.
fn areas(header: &Header, snapshots: &[Snapshot]) -> Vec<(&'static str, Range<u64>)> {
    let mut areas = vec![("header", 0..header.cluster_size())];
    if let Some((offset, length)) = header.luks_area {
        areas.push(("LUKS header", offset..offset.saturating_add(length)));
    }
    if header.snapshots > 0 {
        // The length of the table matters little: it ends in the cluster that it begins in, or
        // more clusters belong to it that are counted as used.
        areas.push(("table of snapshots", header.snapshots_offset..header.snapshots_offset + 1));
    }
    for snapshot in snapshots {
        let end = snapshot.l1_offset.saturating_add(u64::from(snapshot.l1_entries) * 8);
        areas.push(("L1 table of a snapshot", snapshot.l1_offset..end));
    }
    areas
}

/// The least bytes of a cluster; headers have no more.
const SMALLEST_CLUSTER: u64 = 512;

/// Where the header has the autoclear features.
const AUTOCLEAR_FIELD: u64 = 88;

/// The bytes of the guest's disk that share a lock, unless clusters are larger.
const REGION: u64 = 1 << 20;

/// How many locks there are; regions far apart share one.
const REGION_LOCKS: usize = 64;

#[cfg(test)]
mod tests;
