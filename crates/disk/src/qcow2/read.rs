//! Reading, and telling data from zeros.

use std::ops::Range;

use super::metadata::{L1, Origin, Run, invalid};
use super::{Qcow2, compression};
use crate::disk::check_range;
use crate::{Disk, Error, ErrorKind, Extent, ExtentKind, Operation, Resizable, Result};

impl<D: Resizable> Qcow2<D> {
    /// Fills `buf` with what the tables under `l1` say; `None` is the active table. The range is
    /// within what they describe.
    pub(super) fn read_from(&self, l1: Option<L1>, buf: &mut [u8], offset: u64) -> Result<()> {
        let range = offset..offset + buf.len() as u64;
        let runs = self.lock().resolve(&self.file, l1, range)?;
        for Run { guest, origin } in runs {
            let start = (guest.start - offset) as usize;
            let piece = &mut buf[start..start + (guest.end - guest.start) as usize];
            match origin {
                Origin::Zero => piece.fill(0),
                Origin::Backing => self.read_backing(piece, guest.start)?,
                Origin::Data { host, .. } => self.read_data(piece, host)?,
                Origin::Compressed { offset, length, skip } => {
                    self.read_compressed(piece, offset..offset + length, skip as usize)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the extent at `offset` of a disk of `len` bytes, as the tables under `l1` have it.
    pub(super) fn extent_from(&self, l1: Option<L1>, offset: u64, len: u64) -> Result<Extent> {
        let mut found: Option<Extent> = None;
        // One L2 table at a time, and on past those that are not there.
        loop {
            let start = found.as_ref().map_or(offset, |extent| extent.range.end);
            let mut metadata = self.lock();
            let geometry = metadata.geometry();
            let coverage = geometry.l2_coverage();
            let first = start / coverage;
            let mut last = len.div_ceil(coverage);
            // A snapshot may claim any length; behind its table there is nothing to look at.
            if first < metadata.entries(l1) {
                last = last.min(first + TABLES_STEP);
            }
            let table = metadata.next_l2_table(&self.file, l1, first..last)?;
            let end = table.unwrap_or(last).saturating_mul(coverage).min(len);
            if table == Some(first) {
                let end = (first + 1).saturating_mul(coverage).min(len);
                drop(metadata);
                return self.extent_in_table(l1, found, start..end);
            }
            drop(metadata);
            let next = self.backing_extent(start..end)?;
            match &mut found {
                None => found = Some(next),
                Some(extent) if extent.kind == next.kind => extent.range.end = next.range.end,
                Some(_) => break,
            }
            let end = found.as_ref().map_or(len, |extent| extent.range.end);
            if end == len {
                break;
            }
        }
        found.ok_or_else(|| invalid(&self.file, "an empty disk has no extents"))
    }

    /// Returns what is known already, joined with what lies in a range of one L2 table as far as
    /// that is of one kind. Looks further and further, so that a short extent costs little.
    fn extent_in_table(
        &self,
        l1: Option<L1>,
        found: Option<Extent>,
        range: Range<u64>,
    ) -> Result<Extent> {
        let (mut found, mut start, mut clusters) = (found, range.start, FIRST_LOOK);
        let last = range.end.min(start.saturating_add(EXTENT_STEP << self.header.cluster_bits));
        loop {
            let end = last.min(start.saturating_add(clusters << self.header.cluster_bits));
            let runs = self.lock().resolve(&self.file, l1, start..end)?;
            let extent = self.join(found, runs)?;
            if extent.range.end != end || end == last {
                return Ok(extent);
            }
            (found, start, clusters) = (Some(extent), end, 2 * clusters);
        }
    }

    /// Joins what is known already with the runs behind it, as far as they are of one kind.
    fn join(&self, found: Option<Extent>, runs: Vec<Run>) -> Result<Extent> {
        let mut found = found;
        for Run { guest, origin } in runs {
            let mut start = guest.start;
            while start < guest.end {
                let next = match origin {
                    Origin::Zero => Extent { range: start..guest.end, kind: ExtentKind::Zero },
                    Origin::Backing => self.backing_extent(start..guest.end)?,
                    _ => Extent { range: start..guest.end, kind: ExtentKind::Data },
                };
                start = next.range.end;
                match &mut found {
                    None => found = Some(next),
                    Some(extent) if extent.kind == next.kind => extent.range.end = start,
                    Some(extent) => return Ok(extent.clone()),
                }
            }
        }
        found.ok_or_else(|| invalid(&self.file, "an empty disk has no extents"))
    }

    /// Returns what the backing file has at the start of a range that the image does not hold.
    pub(super) fn backing_extent(&self, range: Range<u64>) -> Result<Extent> {
        match &self.backing {
            Some(backing) if range.start < backing.len() => {
                let mut extent = backing.extent_at(range.start)?;
                extent.range.end = extent.range.end.min(range.end);
                Ok(extent)
            }
            _ => Ok(Extent { range, kind: ExtentKind::Unallocated }),
        }
    }

    fn read_backing(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let Some(backing) = &self.backing else {
            buf.fill(0);
            return Ok(());
        };
        // A backing file may be shorter than the disk; zeros follow.
        let there = backing.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        let (there, behind) = buf.split_at_mut(there);
        behind.fill(0);
        if there.is_empty() { Ok(()) } else { backing.read_at(there, offset) }
    }

    /// Reads the guest's data where it lies in the file.
    pub(super) fn read_data(&self, buf: &mut [u8], host: u64) -> Result<()> {
        if !self.is_encrypted() {
            return self.read_stored(buf, host);
        }
        let cipher = self.cipher(Operation::Read)?;
        if host.is_multiple_of(SECTOR) && (buf.len() as u64).is_multiple_of(SECTOR) {
            self.read_stored(buf, host)?;
            cipher.decrypt(buf, host / SECTOR);
            return Ok(());
        }
        let start = host / SECTOR * SECTOR;
        let end = (host + buf.len() as u64).next_multiple_of(SECTOR);
        let mut whole = vec![0; (end - start) as usize];
        self.read_stored(&mut whole, start)?;
        cipher.decrypt(&mut whole, start / SECTOR);
        let skip = (host - start) as usize;
        buf.copy_from_slice(&whole[skip..skip + buf.len()]);
        Ok(())
    }

    /// Reads bytes of the file. It may end within the last cluster, whose rest is zeros then, but
    /// a cluster that it does not have at all is an error: the file was cut short.
    fn read_stored(&self, buf: &mut [u8], host: u64) -> Result<()> {
        let data = self.data();
        let end = host.saturating_add(buf.len() as u64);
        let available = data.len();
        if end <= available {
            return data.read_at(buf, host);
        }
        if available.next_multiple_of(self.header.cluster_size()) < end {
            return Err(invalid(
                &self.file,
                format!("the data at {host:#x} lies past the end of the file, {available:#x}"),
            ));
        }
        let there = available.saturating_sub(host) as usize;
        let (there, behind) = buf.split_at_mut(there);
        behind.fill(0);
        if there.is_empty() { Ok(()) } else { data.read_at(there, host) }
    }

    fn read_compressed(&self, buf: &mut [u8], stored: Range<u64>, skip: usize) -> Result<()> {
        if self.is_encrypted() {
            return Err(invalid(&self.file, "it has a compressed cluster though it is encrypted"));
        }
        let size = self.header.cluster_size() as usize;
        if buf.len() == size && self.decompressed_cache().is_new(&stored) {
            return self.decompress(stored, buf);
        }
        let entry = self.decompressed_cache().entry(stored.clone());
        entry.read(buf, skip, || {
            let mut cluster = self.decompressed_cache().buffer();
            cluster.resize(size, 0);
            self.decompress(stored, &mut cluster)?;
            Ok(cluster)
        })
    }

    fn decompress(&self, stored: Range<u64>, cluster: &mut [u8]) -> Result<()> {
        check_range(Operation::Read, self.label(), self.file.len(), stored.start, 1)?;
        // The length is in sectors, of which the last may not be there.
        let end = stored.end.min(self.file.len());
        let mut compressed = self.decompressed_cache().buffer();
        compressed.resize((end - stored.start) as usize, 0);
        self.file.read_at(&mut compressed, stored.start)?;
        let done = compression::decompress(self.header.compression, &compressed, cluster);
        self.decompressed_cache().put_back(compressed);
        done.ok_or_else(|| {
            Error::new(ErrorKind::Invalid, Operation::Read, self.label())
                .at(stored.start, end - stored.start)
                .because("the compressed cluster there is damaged")
        })
    }
}

/// The clusters that are looked at first for an extent.
const FIRST_LOOK: u64 = 16;

/// The clusters that are looked at for one extent.
const EXTENT_STEP: u64 = 4096;

/// The L1 entries that are looked at before the backing file is asked about what they stand for.
pub(super) const TABLES_STEP: u64 = 4096;

/// The bytes of an encryption sector.
pub(super) const SECTOR: u64 = 512;
