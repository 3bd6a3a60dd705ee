//! Every reference that an image has to clusters of its file.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::{Counts, Report};
use crate::qcow2::entry::{DataPlace, EXCLUSIVE, Geometry, Mapping, OFFSET, Plain};
use crate::qcow2::header::{AUTOCLEAR_BITMAPS, EXTENSION_BITMAPS, Header};
use crate::qcow2::malformed::{slice, u16_at, u32_at, u64_at};
use crate::qcow2::metadata::{invalid, read_table};
use crate::qcow2::snapshot::Snapshot;
use crate::qcow2::snapshot::{self, Table};
use crate::{Disk, Result};

/// The references of an image.
#[derive(Debug)]
pub(super) struct References {
    pub(super) counts: Counts,
    /// L2 tables by place: how many L1 tables refer to each.
    pub(super) tables: BTreeMap<u64, u16>,
    /// The active L1 table.
    pub(super) active: Vec<u64>,
    /// Clusters that hold metadata.
    metadata: HashSet<u64>,
    geometry: Geometry,
    /// Whether something was not understood, so that there may be more references.
    incomplete: bool,
}

/// Counts every reference, and reports those that cannot be.
pub(super) fn collect(
    file: &dyn Disk,
    header: &Header,
    snapshots: &[Snapshot],
    report: &mut Report,
) -> Result<References> {
    let mut references = References {
        counts: Counts::default(),
        tables: BTreeMap::new(),
        active: Vec::new(),
        metadata: HashSet::new(),
        geometry: Geometry::of(header),
        incomplete: false,
    };
    let cluster = header.cluster_size();
    report.total_clusters = header.size.div_ceil(cluster);
    references.area(file, "header", 0..cluster, report);
    let length = u64::from(header.refcount_table_clusters) * cluster;
    let start = header.refcount_table_offset;
    references.area(file, "refcount table", start..start.saturating_add(length), report);
    for block in super::refcount_table(file, header)? {
        let start = block & !511;
        if start.is_multiple_of(cluster) && start != 0 {
            references.area(file, "refcount block", start..start.saturating_add(cluster), report);
        } else if start != 0 {
            report.corruption(|| format!("the refcount block at {start:#x} is not at a cluster"));
        }
    }
    if let Some((offset, length)) = header.luks_area {
        references.area(file, "LUKS header", offset..offset.saturating_add(length), report);
    }
    references.snapshot_table(file, header, report)?;
    references.bitmaps(file, header, report)?;
    let l1 = (header.l1_offset, header.l1_entries);
    references.active = references.l1(file, "L1 table", l1, report)?;
    for found in snapshots {
        let l1 = (found.l1_offset, found.l1_entries);
        references.l1(file, "L1 table of a snapshot", l1, report)?;
    }
    references.l2(file, report)?;
    report.image_end = references.counts.end() * cluster;
    Ok(references)
}

impl References {
    /// Returns whether nothing can be referred to that was not counted.
    pub(super) fn is_complete(&self) -> bool {
        !self.incomplete
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Returns the L2 tables that the active L1 table refers to.
    pub(super) fn active_tables(&self) -> impl Iterator<Item = (usize, u64)> {
        let entries = self.active.iter().enumerate();
        entries.map(|(index, entry)| (index, entry & OFFSET)).filter(|(_, table)| *table != 0)
    }

    /// Counts metadata, which shares its clusters with nothing. Returns whether it can be read.
    fn area(
        &mut self,
        file: &dyn Disk,
        name: &str,
        range: Range<u64>,
        report: &mut Report,
    ) -> bool {
        if range.end > file.len().next_multiple_of(self.geometry.cluster()) {
            report.corruption(|| {
                format!("the {name} at {:#x} reaches past the end of the file", range.start)
            });
            self.incomplete = true;
            return false;
        }
        let bits = self.geometry.cluster_bits;
        let mut alone = true;
        for cluster in range.start >> bits..range.end.div_ceil(1 << bits) {
            self.counts.add(cluster, 1);
            alone &= self.metadata.insert(cluster);
        }
        if !alone {
            report
                .corruption(|| format!("the {name} at {:#x} overlaps other metadata", range.start));
            self.incomplete = true;
        }
        alone
    }

    fn snapshot_table(
        &mut self,
        file: &dyn Disk,
        header: &Header,
        report: &mut Report,
    ) -> Result<()> {
        if header.snapshots == 0 {
            return Ok(());
        }
        let start = header.snapshots_offset;
        let available = file.len().saturating_sub(start).min(snapshot::LARGEST_TABLE);
        let mut bytes = vec![0; available as usize];
        file.read_at(&mut bytes, start)?;
        match snapshot::parse(&bytes, header).map_err(|found| found.of(file.label()))? {
            Table::Whole(_, length) => {
                self.area(file, "table of snapshots", start..start + length, report);
                Ok(())
            }
            Table::NeedsMore => Err(invalid(file, "its table of snapshots is cut short")),
        }
    }

    /// Counts an L1 table and the L2 tables that it refers to.
    fn l1(
        &mut self,
        file: &dyn Disk,
        name: &str,
        (offset, entries): (u64, u32),
        report: &mut Report,
    ) -> Result<Vec<u64>> {
        let end = offset.saturating_add(u64::from(entries) * 8);
        if entries == 0 || !self.area(file, name, offset..end, report) {
            return Ok(Vec::new());
        }
        let l1 = read_table(file, name, offset, entries.into())?;
        let mut seen = HashSet::new();
        for table in l1.iter().map(|entry| entry & OFFSET).filter(|&table| table != 0) {
            if !table.is_multiple_of(self.geometry.cluster()) {
                report.corruption(|| format!("the L2 table at {table:#x} is not at a cluster"));
                self.incomplete = true;
            } else if !seen.insert(table) {
                report.corruption(|| format!("two L1 entries refer to the L2 table at {table:#x}"));
                self.incomplete = true;
            } else {
                let references = self.tables.entry(table).or_default();
                *references = references.saturating_add(1);
            }
        }
        Ok(l1)
    }

    /// Counts the L2 tables and what they refer to, each as often as it is referred to itself.
    fn l2(&mut self, file: &dyn Disk, report: &mut Report) -> Result<()> {
        let (cluster, bits) = (self.geometry.cluster(), self.geometry.cluster_bits);
        let mut tables = std::mem::take(&mut self.tables);
        let is_active: HashSet<u64> = self.active_tables().map(|(_, table)| table).collect();
        tables.retain(|&table, references| {
            let whole = table + cluster <= file.len();
            if whole && self.area(file, "L2 table", table..table + cluster, report) {
                self.counts.add(table >> bits, *references - 1);
                return true;
            }
            if !whole {
                report.corruption(|| format!("the L2 table at {table:#x} lies past the end"));
                self.incomplete = true;
            }
            false
        });
        for (&table, &references) in &tables {
            for (entry, mapping) in read_l2(file, self.geometry, table)? {
                match mapping {
                    Ok(mapping) => {
                        if is_active.contains(&table) {
                            tally(report, mapping);
                        }
                        self.data(file, mapping, references, report);
                    }
                    Err(reason) => {
                        let index = entry;
                        report.corruption(|| {
                            format!("entry {index} of the L2 table at {table:#x}: {reason}")
                        });
                        self.incomplete = true;
                    }
                }
            }
        }
        self.tables = tables;
        Ok(())
    }

    fn data(&mut self, file: &dyn Disk, mapping: Mapping, references: u16, report: &mut Report) {
        let bits = self.geometry.cluster_bits;
        if self.geometry.place == DataPlace::DataFile {
            return;
        }
        let Some(clusters) = mapping.host_clusters(bits) else { return };
        for cluster in clusters {
            let place = cluster << bits;
            // A compressed cluster's length is in sectors, of which the last may not be there.
            if place >= file.len().next_multiple_of(512) {
                if let Mapping::Plain(_) = mapping {
                    report.corruption(|| format!("the data at {place:#x} lies past the end"));
                }
                continue;
            }
            if self.metadata.contains(&cluster) {
                report.corruption(|| format!("the data at {place:#x} overlaps metadata"));
            }
            self.counts.add(cluster, references);
        }
    }

    /// Counts persistent dirty bitmaps, which are kept though nobody here changes them.
    fn bitmaps(&mut self, file: &dyn Disk, header: &Header, report: &mut Report) -> Result<()> {
        let Some(extension) = header.extension(EXTENSION_BITMAPS) else { return Ok(()) };
        if header.autoclear & AUTOCLEAR_BITMAPS == 0 {
            return Ok(());
        }
        let malformed = |found: crate::qcow2::malformed::Malformed| found.of(file.label());
        let number = u32_at(extension, 0).map_err(malformed)?;
        let length = u64_at(extension, 8).map_err(malformed)?.min(LARGEST_DIRECTORY);
        let start = u64_at(extension, 16).map_err(malformed)?;
        if !self.area(file, "bitmap directory", start..start.saturating_add(length), report) {
            return Ok(());
        }
        let mut bytes = vec![0; length as usize];
        file.read_at(&mut bytes, start)?;
        let mut at = 0;
        for _ in 0..number {
            let entry = slice(&bytes, at, 24).map_err(malformed)?;
            let (table, entries) =
                (u64_at(entry, 0).map_err(malformed)?, u32_at(entry, 8).map_err(malformed)?);
            let name = usize::from(u16_at(entry, 18).map_err(malformed)?);
            let extra = u32_at(entry, 20).map_err(malformed)? as usize;
            at = at.saturating_add(24).saturating_add(extra).saturating_add(name);
            at = at.checked_next_multiple_of(8).unwrap_or(usize::MAX);
            let end = table.saturating_add(u64::from(entries) * 8);
            if u64::from(entries) > MOST_BITMAP_CLUSTERS {
                return Err(invalid(file, "a bitmap of it is out of all limits"));
            }
            if self.area(file, "bitmap table", table..end, report) {
                for entry in read_table(file, "bitmap table", table, entries.into())? {
                    let place = entry & OFFSET;
                    if place != 0 {
                        let end = place.saturating_add(self.geometry.cluster());
                        self.area(file, "bitmap", place..end, report);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads an L2 table: the entries that say anything, by index.
pub(super) fn read_l2(
    file: &dyn Disk,
    geometry: Geometry,
    table: u64,
) -> Result<Vec<(u64, std::result::Result<Mapping, String>)>> {
    let mut bytes = vec![0; geometry.cluster() as usize];
    file.read_at(&mut bytes, table)?;
    let mut found = Vec::new();
    for (index, entry) in (0..).zip(bytes.chunks_exact(geometry.entry() as usize)) {
        let number = |at: usize| u64_at(entry, at).unwrap_or(0);
        let bitmap = if geometry.entry() == 16 { number(8) } else { 0 };
        if number(0) != 0 || bitmap != 0 {
            let mapping = geometry.decode(number(0), bitmap);
            found.push((index, mapping.map_err(|found| found.reason().to_owned())));
        }
    }
    Ok(found)
}

fn tally(report: &mut Report, mapping: Mapping) {
    match mapping {
        Mapping::Compressed { .. } => {
            report.allocated_clusters += 1;
            report.compressed_clusters += 1;
        }
        Mapping::Plain(Plain { allocated, .. }) if allocated != 0 => report.allocated_clusters += 1,
        Mapping::Plain(_) => {}
    }
}

/// Returns whether a reference says that it is the only one.
pub(super) fn claims_to_be_exclusive(entry: u64) -> bool {
    entry & EXCLUSIVE != 0
}

/// The most bytes of the directory of bitmaps: QEMU's limit.
const LARGEST_DIRECTORY: u64 = 64 << 20;

/// The most clusters of a bitmap.
const MOST_BITMAP_CLUSTERS: u64 = 4 << 20;
