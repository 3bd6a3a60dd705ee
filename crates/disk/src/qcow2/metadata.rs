//! The tables of an open image: what is in memory of them, and what is yet to be written.
//!
//! Changes stay in memory until [`Metadata::commit`] writes them in an order in which a crash
//! anywhere leaves an image that is consistent: it may hold clusters that nobody refers to, never
//! references to clusters that are free.

mod allocator;
mod cluster_set;
mod commit;
mod slices;

use std::collections::BTreeSet;
use std::ops::Range;

pub(super) use self::cluster_set::{Added, ClusterSet};
use self::slices::{SliceKind, Slices};
use super::entry::{EXCLUSIVE, Geometry, HOST_LIMIT, Mapping, OFFSET, Plain};
use super::header::Header;
use super::malformed::Malformed;
use super::refcount::RefcountWidth;
use crate::{Disk, Error, ErrorKind, Operation, Resizable, Result};

/// The tables of an open image.
#[derive(Debug)]
pub(super) struct Metadata {
    geometry: Geometry,
    width: RefcountWidth,
    l1: L1,
    /// The refcount table. Empty for an image that is only read.
    table: Vec<u64>,
    table_offset: u64,
    dirty_table: BTreeSet<usize>,
    slices: Slices,
    /// Clusters that hold metadata, by number: never the place of a guest's data.
    reserved: ClusterSet,
    /// Clusters that lose a reference once it is gone from the file.
    pending: Vec<Range<u64>>,
    /// No cluster below is free.
    first_free: u64,
    /// Where the next compressed cluster goes, if the last one left room in its cluster.
    compressed_end: Option<u64>,
}

/// Where an L1 table lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct L1 {
    offset: u64,
    entries: u64,
}

/// A part of the disk and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The part of the disk. Never empty.
    pub(super) guest: Range<u64>,
    /// Where it comes from.
    pub(super) origin: Origin,
}

/// Where a part of the disk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The backing file; zeros without one.
    Backing,
    /// Nowhere: it reads as zeros.
    Zero,
    /// The file, from this byte on.
    Data { host: u64, exclusive: bool },
    /// A compressed cluster, of which the run is the bytes from `skip` on.
    Compressed { offset: u64, length: u64, skip: u64 },
}

impl Metadata {
    /// Returns the tables of the active disk, of which nothing was read yet.
    pub(super) fn load(file: &dyn Disk, header: &Header) -> Result<Self> {
        let geometry = Geometry::of(header);
        let l1 = L1::new(file, "L1 table", header.l1_offset, header.l1_entries)?;
        Ok(Self {
            geometry,
            width: header.refcount_width,
            l1,
            table: Vec::new(),
            table_offset: header.refcount_table_offset,
            dirty_table: BTreeSet::new(),
            slices: Slices::new(geometry.cluster()),
            reserved: ClusterSet::default(),
            pending: Vec::new(),
            first_free: 0,
            compressed_end: None,
        })
    }

    /// Reads the refcount table, and refuses an image whose tables overlap: a write to one would
    /// damage the other.
    pub(super) fn prepare_for_writes(
        &mut self,
        file: &dyn Disk,
        header: &Header,
        areas: &[(&'static str, Range<u64>)],
    ) -> Result<()> {
        let entries = u64::from(header.refcount_table_clusters) * self.geometry.cluster() / 8;
        self.table = read_table(file, "refcount table", self.table_offset, entries)?;
        for (name, range) in areas {
            self.reserve(file, name, range.clone())?;
        }
        self.reserve(file, "L1 table", self.l1.range())?;
        let table = self.table_offset..self.table_offset + self.table.len() as u64 * 8;
        self.reserve(file, "refcount table", table)?;
        let mut index = 0;
        while let Some(next) = self.next_l2_table(file, None, index..self.l1.entries)? {
            let table = self.l2_table(file, None, next)?;
            self.reserve_cluster(file, "L2 table", table)?;
            index = next + 1;
        }
        for index in 0..self.table.len() {
            self.reserve_cluster(file, "refcount block", self.table[index] & !511)?;
        }
        Ok(())
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Returns where the active L1 table lies and how many entries it has.
    pub(super) fn l1_place(&self) -> (u64, u64) {
        (self.l1.offset, self.l1.entries)
    }

    /// Copies the active L1 table to where it has room for so many entries. Returns the copy.
    pub(super) fn copy_l1(&mut self, file: &dyn Resizable, entries: u64) -> Result<L1> {
        let bits = self.geometry.cluster_bits;
        let clusters = (entries * 8).div_ceil(self.geometry.cluster());
        let place = self.allocate_together(file, clusters)?;
        let new = L1 { offset: place.start << bits, entries };
        self.slices.forget(place.start << bits..place.end << bits);
        file.write_zeroes(place.start << bits..place.end << bits)?;
        for within in (0..self.l1.entries * 8).step_by(self.slices.size() as usize) {
            let length = (self.l1.entries * 8 - within).min(self.slices.size()) as usize;
            let slice = self.slices.read(file, self.l1.offset + within, SliceKind::L1)?;
            let slice = slice[..length].to_vec();
            file.write_at(&slice, new.offset + within)?;
        }
        Ok(new)
    }

    /// Takes a copy of the active L1 table for the table, and gives up the old place.
    pub(super) fn move_l1(&mut self, file: &dyn Disk, new: L1) -> Result<()> {
        let (bits, cluster) = (self.geometry.cluster_bits, self.geometry.cluster());
        let old = self.l1.range();
        let old = old.start >> bits..old.end.div_ceil(cluster);
        self.slices.forget(old.start << bits..old.end << bits);
        old.clone().for_each(|cluster| self.reserved.remove(cluster));
        self.release(old);
        self.l1 = new;
        self.reserve(file, "L1 table", new.range())
    }

    /// Returns where a part of the disk comes from, in order and without gaps. `l1` is that of a
    /// snapshot, `None` the active one.
    pub(super) fn resolve(
        &mut self,
        file: &dyn Disk,
        l1: Option<L1>,
        range: Range<u64>,
    ) -> Result<Vec<Run>> {
        let geometry = self.geometry;
        let mut runs = Vec::new();
        let mut offset = range.start;
        while offset < range.end {
            let (l1_index, l2_index) = geometry.indices(offset >> geometry.cluster_bits);
            let table = self.l2_table(file, l1, l1_index)?;
            if table == 0 {
                let end = (l1_index + 1).saturating_mul(geometry.l2_coverage()).min(range.end);
                push(&mut runs, Run { guest: offset..end, origin: Origin::Backing });
                offset = end;
                continue;
            }
            self.check_table(file, table)?;
            let place = table + l2_index * geometry.entry();
            let slice = self.slices.read(file, place, SliceKind::L2)?;
            for entry in slice.chunks_exact(geometry.entry() as usize) {
                let start = offset & !(geometry.cluster() - 1);
                let mapping = decode(geometry, entry, start);
                let mapping = mapping.map_err(|found| found.of(file.label()))?;
                let end = (start + geometry.cluster()).min(range.end);
                push_mapping(&mut runs, geometry, mapping, start, offset..end);
                offset = end;
                if offset == range.end {
                    break;
                }
            }
        }
        Ok(runs)
    }

    /// Returns how many entries an L1 table has.
    pub(super) fn entries(&self, l1: Option<L1>) -> u64 {
        l1.unwrap_or(self.l1).entries
    }

    /// Returns the first of these entries of an L1 table that has an L2 table.
    pub(super) fn next_l2_table(
        &mut self,
        file: &dyn Disk,
        l1: Option<L1>,
        indices: Range<u64>,
    ) -> Result<Option<u64>> {
        let l1 = l1.unwrap_or(self.l1);
        let mut index = indices.start;
        let end = indices.end.min(l1.entries);
        while index < end {
            let slice = self.slices.read(file, l1.offset + index * 8, SliceKind::L1)?;
            for entry in slice.chunks_exact(8).take((end - index) as usize) {
                if number(entry) & OFFSET != 0 {
                    return Ok(Some(index));
                }
                index += 1;
            }
        }
        Ok(None)
    }

    /// Returns what the active tables say about a cluster of the disk.
    pub(super) fn mapping(&mut self, file: &dyn Disk, guest_cluster: u64) -> Result<Mapping> {
        let geometry = self.geometry;
        let (l1_index, l2_index) = geometry.indices(guest_cluster);
        let table = self.l2_table(file, None, l1_index)?;
        if table == 0 {
            return Ok(Mapping::UNALLOCATED);
        }
        self.check_table(file, table)?;
        let slice = self.slices.read(file, table + l2_index * geometry.entry(), SliceKind::L2)?;
        let start = guest_cluster << geometry.cluster_bits;
        decode(geometry, slice, start).map_err(|found| found.of(file.label()))
    }

    /// Changes what the active tables say about a cluster of the disk.
    pub(super) fn set_mapping(
        &mut self,
        file: &dyn Resizable,
        guest_cluster: u64,
        mapping: Mapping,
    ) -> Result<()> {
        let geometry = self.geometry;
        let (l1_index, l2_index) = geometry.indices(guest_cluster);
        let table = self.l2_table_to_change(file, l1_index)?;
        let place = table + l2_index * geometry.entry();
        let slice = self.slices.change(file, place, SliceKind::L2)?;
        let (entry, bitmap) = geometry.encode(mapping);
        slice[..8].copy_from_slice(&entry.to_be_bytes());
        if geometry.entry() == 16 {
            slice[8..16].copy_from_slice(&bitmap.to_be_bytes());
        }
        Ok(())
    }

    /// Refuses a range of the file that holds metadata: a guest's data cannot lie there.
    pub(super) fn check_data(&self, file: &dyn Disk, host: Range<u64>) -> Result<()> {
        let bits = self.geometry.cluster_bits;
        let mut clusters = host.start >> bits..=(host.end - 1) >> bits;
        match clusters.find(|&cluster| self.reserved.contains(cluster)) {
            None => Ok(()),
            Some(cluster) => Err(invalid(
                file,
                format!(
                    "the guest's data and metadata share the cluster at {:#x}",
                    cluster << bits
                ),
            )),
        }
    }

    /// Returns the offset of an L2 table that only the active L1 table refers to.
    fn l2_table_to_change(&mut self, file: &dyn Resizable, l1_index: u64) -> Result<u64> {
        let entry = self.l1_entry(file, None, l1_index)?;
        let old = entry & OFFSET;
        if old != 0 && entry & EXCLUSIVE != 0 {
            self.check_table(file, old)?;
            return Ok(old);
        }
        let (bits, cluster) = (self.geometry.cluster_bits, self.geometry.cluster());
        let number = self.allocate(file, 1)?.start;
        let new = number << bits;
        // What was known of an earlier table in that place.
        self.slices.forget(new..new + cluster);
        let copied = match old {
            0 => file.write_zeroes(new..new + cluster),
            _ => self.copy_table(file, old, new),
        };
        if let Err(error) = copied {
            self.release_unused(file, number..number + 1)?;
            return Err(error);
        }
        self.reserve_cluster(file, "L2 table", new)?;
        self.set_l1_entry(file, l1_index, new | EXCLUSIVE)?;
        if old != 0 {
            self.reserved.remove(old >> bits);
            self.release(old >> bits..(old >> bits) + 1);
        }
        Ok(new)
    }

    /// Copies an L2 table, with what is yet to be written of it.
    fn copy_table(&mut self, file: &dyn Resizable, old: u64, new: u64) -> Result<()> {
        self.check_table(file, old)?;
        let step = self.slices.size();
        for within in (0..self.geometry.cluster()).step_by(step as usize) {
            let slice = self.slices.read(file, old + within, SliceKind::L2)?.to_vec();
            file.write_at(&slice, new + within)?;
        }
        Ok(())
    }

    /// Returns where an L2 table lies, 0 when there is none.
    fn l2_table(&mut self, file: &dyn Disk, l1: Option<L1>, l1_index: u64) -> Result<u64> {
        Ok(self.l1_entry(file, l1, l1_index)? & OFFSET)
    }

    fn l1_entry(&mut self, file: &dyn Disk, l1: Option<L1>, index: u64) -> Result<u64> {
        let l1 = l1.unwrap_or(self.l1);
        if index >= l1.entries {
            return Ok(0);
        }
        Ok(number(self.slices.read(file, l1.offset + index * 8, SliceKind::L1)?))
    }

    fn set_l1_entry(&mut self, file: &dyn Resizable, index: u64, entry: u64) -> Result<()> {
        let offset = self.l1.offset + index * 8;
        // A file may end with the table, within a slice.
        let end = (offset / self.slices.size() + 1) * self.slices.size();
        if file.len() < end {
            file.set_len(end)?;
        }
        let slice = self.slices.change(file, offset, SliceKind::L1)?;
        slice[..8].copy_from_slice(&entry.to_be_bytes());
        Ok(())
    }

    fn check_table(&self, file: &dyn Disk, table: u64) -> Result<()> {
        match table.is_multiple_of(self.geometry.cluster()) {
            true => Ok(()),
            false => Err(invalid(file, format!("the L2 table at {table:#x} is not at a cluster"))),
        }
    }

    fn reserve_cluster(&mut self, file: &dyn Disk, name: &str, offset: u64) -> Result<()> {
        if offset == 0 {
            return Ok(());
        }
        if !offset.is_multiple_of(self.geometry.cluster()) {
            return Err(invalid(file, format!("the {name} at {offset:#x} is not at a cluster")));
        }
        if offset >= HOST_LIMIT {
            return Err(invalid(file, format!("the {name} at {offset:#x} lies beyond all limits")));
        }
        self.reserve(file, name, offset..offset + self.geometry.cluster())
    }

    fn reserve(&mut self, file: &dyn Disk, name: &str, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let bits = self.geometry.cluster_bits;
        for cluster in range.start >> bits..=(range.end - 1) >> bits {
            let reason = match self.reserved.insert(cluster) {
                Added::New => continue,
                Added::Again => "overlaps other metadata",
                Added::TooMany => "is one of too many places that hold metadata",
            };
            return Err(invalid(file, format!("the {name} at {:#x} {reason}", range.start)));
        }
        Ok(())
    }
}

impl L1 {
    /// Returns the place of an L1 table, after a look at whether the file has it at all.
    pub(super) fn new(file: &dyn Disk, name: &str, offset: u64, entries: u32) -> Result<Self> {
        check_table_place(file, name, offset, u64::from(entries) * 8)?;
        Ok(Self { offset, entries: entries.into() })
    }

    /// Returns its bytes in the file.
    fn range(self) -> Range<u64> {
        self.offset..self.offset + self.entries * 8
    }

    /// Returns where it lies, and how many entries it has.
    pub(super) fn place(self) -> (u64, u64) {
        (self.offset, self.entries)
    }
}

/// Returns the error about an image that breaks a rule.
pub(super) fn invalid(file: &dyn Disk, reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Malformed::invalid(reason).of(file.label())
}

/// Reads a table of numbers, after a look at whether the file has it at all.
pub(super) fn read_table(
    file: &dyn Disk,
    name: &str,
    offset: u64,
    entries: u64,
) -> Result<Vec<u64>> {
    let mut table = Vec::new();
    visit_table(file, name, (offset, entries), |_, entry| {
        table.push(entry);
        Ok(())
    })?;
    Ok(table)
}

/// Shows every number of a table with its index, likewise. Takes little memory.
pub(super) fn visit_table(
    file: &dyn Disk,
    name: &str,
    (offset, entries): (u64, u64),
    mut visit: impl FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    let bytes = entries * 8;
    check_table_place(file, name, offset, bytes)?;
    let mut piece = vec![0; bytes.min(PIECE) as usize];
    for start in (0..bytes).step_by(PIECE as usize) {
        let piece = &mut piece[..PIECE.min(bytes - start) as usize];
        file.read_at(piece, offset + start)?;
        for (index, entry) in (start / 8..).zip(piece.chunks_exact(8)) {
            visit(index, number(entry))?;
        }
    }
    Ok(())
}

fn check_table_place(file: &dyn Disk, name: &str, offset: u64, bytes: u64) -> Result<()> {
    match offset.checked_add(bytes) {
        Some(end) if end <= file.len() => Ok(()),
        _ => Err(invalid(
            file,
            format!("its {name} of {bytes} bytes at {offset:#x} reaches past the end of the file"),
        )),
    }
}

/// Returns the first number of a slice, which has whole ones only.
fn number(slice: &[u8]) -> u64 {
    u64::from_be_bytes(*slice.first_chunk().expect("a slice has whole entries"))
}

/// The bytes of a table that are read at once.
const PIECE: u64 = 64 << 10;

/// Returns that no cluster of the file is left.
fn no_space(file: &dyn Disk) -> Error {
    Error::new(ErrorKind::NoSpace, Operation::Write, file.label())
        .because("no image can be longer than 64 PiB")
}

/// Returns what an entry says about the cluster of the disk that begins at `start`.
fn decode(geometry: Geometry, entry: &[u8], start: u64) -> super::malformed::Parsed<Mapping> {
    let number = |at: usize| super::malformed::u64_at(entry, at);
    let bitmap = if geometry.entry() == 16 { number(8)? } else { 0 };
    geometry.decode_at(number(0)?, bitmap, start)
}

/// Adds the part `guest` of the cluster that begins at `start`.
fn push_mapping(
    runs: &mut Vec<Run>,
    geometry: Geometry,
    mapping: Mapping,
    start: u64,
    guest: Range<u64>,
) {
    let plain = match mapping {
        Mapping::Compressed { offset, length } => {
            let origin = Origin::Compressed { offset, length, skip: guest.start - start };
            return runs.push(Run { guest, origin });
        }
        Mapping::Plain(plain) => plain,
    };
    let mut offset = guest.start;
    while offset < guest.end {
        let unit = (offset - start) / geometry.unit();
        let end = (start + (unit + 1) * geometry.unit()).min(guest.end);
        let origin = origin(plain, unit, offset - start);
        push(runs, Run { guest: offset..end, origin });
        offset = end;
    }
}

fn origin(plain: Plain, unit: u64, within: u64) -> Origin {
    match plain.host {
        Some(host) if plain.allocated >> unit & 1 == 1 => {
            Origin::Data { host: host + within, exclusive: plain.exclusive }
        }
        _ if plain.zero >> unit & 1 == 1 => Origin::Zero,
        _ => Origin::Backing,
    }
}

/// Adds a run, joined with the one before where that goes on.
fn push(runs: &mut Vec<Run>, run: Run) {
    if let Some(last) = runs.last_mut() {
        let goes_on = match (last.origin, run.origin) {
            (Origin::Backing, Origin::Backing) | (Origin::Zero, Origin::Zero) => true,
            (
                Origin::Data { host, exclusive },
                Origin::Data { host: next, exclusive: next_exclusive },
            ) => host + (last.guest.end - last.guest.start) == next && exclusive == next_exclusive,
            _ => false,
        };
        if goes_on {
            last.guest.end = run.guest.end;
            return;
        }
    }
    runs.push(run);
}
