//! Every reference that an image has to clusters of its file.

use std::ops::Range;

use super::{Counted, Counts, Report, too_scattered};
use crate::qcow2::entry::{DataPlace, EXCLUSIVE, Geometry, Mapping, OFFSET, Plain};
use crate::qcow2::header::{AUTOCLEAR_BITMAPS, EXTENSION_BITMAPS, Header};
use crate::qcow2::malformed::{slice, u16_at, u32_at, u64_at};
use crate::qcow2::metadata::{Added, ClusterSet, invalid, visit_table};
use crate::qcow2::snapshot::Snapshot;
use crate::{Disk, Result};

/// The references of an image.
#[derive(Debug)]
pub(super) struct References {
    pub(super) counts: Counts,
    /// The L2 tables that can be read, in the order of their places.
    tables: Vec<TableReferences>,
    /// The active L1 table: where it lies and how many entries it has, none if it cannot be read.
    active: (u64, u64),
    /// Clusters that hold metadata.
    metadata: ClusterSet,
    geometry: Geometry,
    /// Whether something was not understood, so that there may be more references.
    incomplete: bool,
    /// Whether there are too many clusters to count.
    too_many: bool,
}

/// An L2 table and the references to it in one number: the cluster, whether the active L1 table
/// refers to it, and how many L1 tables do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TableReferences(u64);

/// Counts every reference, and reports those that cannot be.
pub(super) fn collect(
    file: &dyn Disk,
    header: &Header,
    (snapshots, snapshots_length): (&[Snapshot], u64),
    report: &mut Report,
) -> Result<References> {
    let mut references = References {
        counts: Counts::default(),
        tables: Vec::new(),
        active: (0, 0),
        metadata: ClusterSet::default(),
        geometry: Geometry::of(header),
        incomplete: false,
        too_many: false,
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
    let start = header.snapshots_offset;
    references.area(file, "table of snapshots", start..start + snapshots_length, report);
    references.bitmaps(file, header, report)?;
    references.l1(file, (header.l1_offset, header.l1_entries), L1Kind::Active, report)?;
    for found in snapshots {
        references.l1(file, (found.l1_offset, found.l1_entries), L1Kind::Snapshot, report)?;
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

    /// Returns the places of the L2 tables that the active L1 table refers to.
    pub(super) fn active_tables(&self) -> impl Iterator<Item = u64> {
        let active = self.tables.iter().filter(|table| table.is_active());
        active.map(|table| table.cluster() << self.geometry.cluster_bits)
    }

    /// Shows every entry of the active L1 table that refers to an L2 table which can be read: its
    /// index, and what it says.
    pub(super) fn visit_active(
        &self,
        file: &dyn Disk,
        mut visit: impl FnMut(u64, u64) -> Result<()>,
    ) -> Result<()> {
        visit_table(file, "L1 table", self.active, |index, entry| {
            let table = entry & OFFSET;
            let cluster = table >> self.geometry.cluster_bits;
            let is_aligned = table.is_multiple_of(self.geometry.cluster());
            let place = self.tables.partition_point(|found| found.cluster() < cluster);
            let is_known = self.tables.get(place).is_some_and(|found| found.cluster() == cluster);
            if table != 0 && is_aligned && is_known { visit(index, entry) } else { Ok(()) }
        })
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
        for cluster in range.start >> bits..range.end.div_ceil(1 << bits) {
            self.count(cluster, 1);
            match self.metadata.insert(cluster) {
                Added::New => {}
                Added::TooMany => self.too_many = true,
                Added::Again => {
                    let start = range.start;
                    report
                        .corruption(|| format!("the {name} at {start:#x} overlaps other metadata"));
                    self.incomplete = true;
                    return false;
                }
            }
            if self.too_many {
                return false;
            }
        }
        true
    }

    fn count(&mut self, cluster: u64, references: u16) {
        self.too_many |= self.counts.add(cluster, references) == Counted::TooMany;
    }

    /// Counts an L1 table and the L2 tables that it refers to.
    fn l1(
        &mut self,
        file: &dyn Disk,
        (offset, entries): (u64, u32),
        kind: L1Kind,
        report: &mut Report,
    ) -> Result<()> {
        let (name, entries) = (kind.name(), u64::from(entries));
        let end = offset.saturating_add(entries * 8);
        if entries == 0 || !self.area(file, name, offset..end, report) {
            return Ok(());
        }
        if kind == L1Kind::Active {
            self.active = (offset, entries);
        }
        let geometry = self.geometry;
        let mut found = Vec::new();
        visit_table(file, name, (offset, entries), |_, entry| {
            let table = entry & OFFSET;
            if !table.is_multiple_of(geometry.cluster()) {
                report.corruption(|| format!("the L2 table at {table:#x} is not at a cluster"));
                self.incomplete = true;
            } else if table != 0 {
                found.push(TableReferences::new(table >> geometry.cluster_bits, kind));
            }
            if found.len() > MOST_TABLES { Err(too_scattered(file)) } else { Ok(()) }
        })?;
        found.sort_unstable();
        for pair in found.windows(2).filter(|pair| pair[0] == pair[1]) {
            let table = pair[0].cluster() << geometry.cluster_bits;
            report.corruption(|| format!("two L1 entries refer to the L2 table at {table:#x}"));
            self.incomplete = true;
        }
        found.dedup();
        self.tables.extend(found);
        self.merge_tables();
        if self.tables.len() > MOST_TABLES { Err(too_scattered(file)) } else { Ok(()) }
    }

    /// Joins what different L1 tables say about one L2 table.
    fn merge_tables(&mut self) {
        self.tables.sort_unstable();
        self.tables.dedup_by(|next, first| {
            let same = next.cluster() == first.cluster();
            if same {
                *first = first.with(*next);
            }
            same
        });
    }

    /// Counts the L2 tables and what they refer to, each as often as it is referred to itself.
    fn l2(&mut self, file: &dyn Disk, report: &mut Report) -> Result<()> {
        let (cluster, bits) = (self.geometry.cluster(), self.geometry.cluster_bits);
        let mut tables = std::mem::take(&mut self.tables);
        tables.retain(|table| {
            let start = table.cluster() << bits;
            let whole = start + cluster <= file.len();
            if whole && self.area(file, "L2 table", start..start + cluster, report) {
                self.count(table.cluster(), table.references() - 1);
                return true;
            }
            if !whole {
                report.corruption(|| format!("the L2 table at {start:#x} lies past the end"));
                self.incomplete = true;
            }
            false
        });
        for table in &tables {
            let start = table.cluster() << bits;
            for (index, mapping) in read_l2(file, self.geometry, start)? {
                match mapping {
                    Ok(mapping) => {
                        if table.is_active() {
                            tally(report, mapping);
                        }
                        self.data(file, mapping, table.references(), report);
                    }
                    Err(reason) => {
                        report.corruption(|| {
                            format!("entry {index} of the L2 table at {start:#x}: {reason}")
                        });
                        self.incomplete = true;
                    }
                }
            }
            if self.too_many {
                return Err(too_scattered(file));
            }
        }
        self.tables = tables;
        if self.too_many { Err(too_scattered(file)) } else { Ok(()) }
    }

    fn data(&mut self, file: &dyn Disk, mapping: Mapping, references: u16, report: &mut Report) {
        let bits = self.geometry.cluster_bits;
        if self.geometry.place == DataPlace::DataFile {
            return;
        }
        let Some(clusters) = mapping.host_clusters(bits) else { return };
        if let Mapping::Compressed { offset, .. } = mapping
            && offset >= file.len()
        {
            report.corruption(|| format!("the compressed data at {offset:#x} lies past the end"));
            return;
        }
        for cluster in clusters {
            let place = cluster << bits;
            // A compressed cluster's length is in sectors, of which the last may not be there.
            if place >= file.len().next_multiple_of(512) {
                if let Mapping::Plain(_) = mapping {
                    report.corruption(|| format!("the data at {place:#x} lies past the end"));
                }
                continue;
            }
            if self.metadata.contains(cluster) {
                report.corruption(|| format!("the data at {place:#x} overlaps metadata"));
            }
            self.count(cluster, references);
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
                visit_table(file, "bitmap table", (table, entries.into()), |_, entry| {
                    let place = entry & OFFSET;
                    if place != 0 {
                        let end = place.saturating_add(self.geometry.cluster());
                        self.area(file, "bitmap", place..end, report);
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

/// What an L1 table is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum L1Kind {
    Active,
    Snapshot,
}

impl L1Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "L1 table",
            Self::Snapshot => "L1 table of a snapshot",
        }
    }
}

impl TableReferences {
    fn new(cluster: u64, kind: L1Kind) -> Self {
        Self(cluster << 17 | u64::from(kind == L1Kind::Active) << 16 | 1)
    }

    /// Returns the number of the cluster that the table lies in.
    fn cluster(self) -> u64 {
        self.0 >> 17
    }

    fn is_active(self) -> bool {
        self.0 >> 16 & 1 == 1
    }

    fn references(self) -> u16 {
        self.0 as u16
    }

    /// Adds the references of another L1 table to the same L2 table.
    fn with(self, other: Self) -> Self {
        let references = self.references().saturating_add(other.references());
        let active = (self.0 | other.0) & 1 << 16;
        Self(self.cluster() << 17 | active | u64::from(references))
    }
}

/// Reads an L2 table: the entries that say anything, by index.
pub(super) fn read_l2(
    file: &dyn Disk,
    geometry: Geometry,
    table: u64,
) -> Result<Vec<(u64, std::result::Result<Mapping, String>)>> {
    let mut found = Vec::new();
    if is_hole(file, table..table + geometry.cluster())? {
        return Ok(found);
    }
    let mut bytes = vec![0; geometry.cluster() as usize];
    file.read_at(&mut bytes, table)?;
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

/// Returns whether a range is zeros that need not be read: tables in the holes of a long file would
/// cost much time and say nothing.
pub(super) fn is_hole(file: &dyn Disk, range: Range<u64>) -> Result<bool> {
    let extent = file.extent_at(range.start)?;
    Ok(extent.kind.reads_as_zeros() && extent.range.end >= range.end)
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

/// The most L2 tables of an image that is checked: 16 MiB, and the same for those of one L1 table.
const MOST_TABLES: usize = 2 << 20;

/// The most bytes of the directory of bitmaps: thousands of them.
const LARGEST_DIRECTORY: u64 = 4 << 20;

/// The most clusters of a bitmap.
const MOST_BITMAP_CLUSTERS: u64 = 4 << 20;
