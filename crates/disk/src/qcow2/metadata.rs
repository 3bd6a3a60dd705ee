//! The tables of an open image: what is in memory of them, and what is yet to be written.
//!
//! Changes stay in memory until [`Metadata::commit`] writes them in an order in which a crash
//! anywhere leaves an image that is consistent: it may hold clusters that nobody refers to, never
//! references to clusters that are free.

mod allocator;
mod commit;
mod slices;

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use self::slices::{SliceKind, Slices};
use super::entry::{EXCLUSIVE, Geometry, Mapping, OFFSET, Plain};
use super::header::Header;
use super::malformed::Malformed;
use super::refcount::RefcountWidth;
use crate::{Disk, Error, ErrorKind, Operation, Resizable, Result};

/// The tables of an open image.
#[derive(Debug)]
pub(super) struct Metadata {
    geometry: Geometry,
    width: RefcountWidth,
    l1: Vec<u64>,
    l1_offset: u64,
    dirty_l1: BTreeSet<usize>,
    /// The refcount table. Empty for an image that is only read.
    table: Vec<u64>,
    table_offset: u64,
    dirty_table: BTreeSet<usize>,
    slices: Slices,
    /// Clusters that hold metadata, by number: never the place of a guest's data.
    reserved: HashSet<u64>,
    /// Clusters that lose a reference once it is gone from the file.
    pending: Vec<Range<u64>>,
    /// No cluster below is free.
    first_free: u64,
    /// Where the next compressed cluster goes, if the last one left room in its cluster.
    compressed_end: Option<u64>,
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
    /// Reads the active L1 table.
    pub(super) fn load(file: &dyn Disk, header: &Header) -> Result<Self> {
        let geometry = Geometry::of(header);
        let l1 = read_table(file, "L1 table", header.l1_offset, header.l1_entries.into())?;
        Ok(Self {
            geometry,
            width: header.refcount_width,
            l1,
            l1_offset: header.l1_offset,
            dirty_l1: BTreeSet::new(),
            table: Vec::new(),
            table_offset: header.refcount_table_offset,
            dirty_table: BTreeSet::new(),
            slices: Slices::new(geometry.cluster()),
            reserved: HashSet::new(),
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
        self.reserve_table(file, "L1 table", self.l1_offset, self.l1.len())?;
        self.reserve_table(file, "refcount table", self.table_offset, self.table.len())?;
        for index in 0..self.l1.len() {
            self.reserve_cluster(file, "L2 table", self.l1[index] & OFFSET)?;
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
    pub(super) fn l1_place(&self) -> (u64, usize) {
        (self.l1_offset, self.l1.len())
    }

    /// Copies the active L1 table to where it has room for so many entries. Returns its place.
    pub(super) fn copy_l1(&mut self, file: &dyn Resizable, entries: usize) -> Result<(u64, usize)> {
        let bits = self.geometry.cluster_bits;
        let clusters = (entries as u64 * 8).div_ceil(self.geometry.cluster());
        let place = self.allocate_together(file, clusters)?;
        let mut bytes: Vec<u8> = self.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        bytes.resize((clusters << bits) as usize, 0);
        file.write_at(&bytes, place.start << bits)?;
        Ok((place.start << bits, entries))
    }

    /// Takes a copy of the active L1 table for the table, and gives up the old place.
    pub(super) fn move_l1(&mut self, offset: u64, entries: usize) {
        let (bits, cluster) = (self.geometry.cluster_bits, self.geometry.cluster());
        let clusters_of = |offset: u64, entries: usize| {
            offset >> bits..(offset + entries as u64 * 8).div_ceil(cluster)
        };
        let old = clusters_of(self.l1_offset, self.l1.len());
        old.clone().for_each(|cluster| {
            self.reserved.remove(&cluster);
        });
        self.release(old);
        self.reserved.extend(clusters_of(offset, entries));
        self.l1.resize(entries, 0);
        self.l1_offset = offset;
    }

    /// Returns where a part of the disk comes from, in order and without gaps. `l1` is that of a
    /// snapshot, `None` the active one.
    pub(super) fn resolve(
        &mut self,
        file: &dyn Disk,
        l1: Option<&[u64]>,
        range: Range<u64>,
    ) -> Result<Vec<Run>> {
        let geometry = self.geometry;
        let mut runs = Vec::new();
        let mut offset = range.start;
        while offset < range.end {
            let (l1_index, l2_index) = geometry.indices(offset >> geometry.cluster_bits);
            let table = self.l2_table(l1, l1_index) & OFFSET;
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
                let mapping = decode(geometry, entry).map_err(|found| found.of(file.label()))?;
                let start = offset & !(geometry.cluster() - 1);
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

    /// Returns whether `l1_index` has an L2 table at all.
    pub(super) fn has_l2_table(&self, l1: Option<&[u64]>, l1_index: u64) -> bool {
        self.l2_table(l1, l1_index) & OFFSET != 0
    }

    /// Returns what the active tables say about a cluster of the disk.
    pub(super) fn mapping(&mut self, file: &dyn Disk, guest_cluster: u64) -> Result<Mapping> {
        let geometry = self.geometry;
        let (l1_index, l2_index) = geometry.indices(guest_cluster);
        let table = self.l2_table(None, l1_index) & OFFSET;
        if table == 0 {
            return Ok(Mapping::UNALLOCATED);
        }
        self.check_table(file, table)?;
        let slice = self.slices.read(file, table + l2_index * geometry.entry(), SliceKind::L2)?;
        decode(geometry, slice).map_err(|found| found.of(file.label()))
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
        let table = self.l2_table_to_change(file, l1_index as usize)?;
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
        match clusters.find(|cluster| self.reserved.contains(cluster)) {
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
    fn l2_table_to_change(&mut self, file: &dyn Resizable, l1_index: usize) -> Result<u64> {
        let entry = self.l1[l1_index];
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
        self.reserved.insert(number);
        self.l1[l1_index] = new | EXCLUSIVE;
        self.dirty_l1.insert(l1_index);
        if old != 0 {
            self.reserved.remove(&(old >> bits));
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

    fn l2_table(&self, l1: Option<&[u64]>, l1_index: u64) -> u64 {
        let l1 = l1.unwrap_or(&self.l1);
        usize::try_from(l1_index).ok().and_then(|index| l1.get(index)).copied().unwrap_or(0)
    }

    fn check_table(&self, file: &dyn Disk, table: u64) -> Result<()> {
        match table.is_multiple_of(self.geometry.cluster()) {
            true => Ok(()),
            false => Err(invalid(file, format!("the L2 table at {table:#x} is not at a cluster"))),
        }
    }

    fn reserve_table(
        &mut self,
        file: &dyn Disk,
        name: &str,
        offset: u64,
        entries: usize,
    ) -> Result<()> {
        self.reserve(file, name, offset..offset + entries as u64 * 8)
    }

    fn reserve_cluster(&mut self, file: &dyn Disk, name: &str, offset: u64) -> Result<()> {
        if offset == 0 {
            return Ok(());
        }
        if !offset.is_multiple_of(self.geometry.cluster()) {
            return Err(invalid(file, format!("the {name} at {offset:#x} is not at a cluster")));
        }
        self.reserve(file, name, offset..offset + self.geometry.cluster())
    }

    fn reserve(&mut self, file: &dyn Disk, name: &str, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let bits = self.geometry.cluster_bits;
        for cluster in range.start >> bits..=(range.end - 1) >> bits {
            if !self.reserved.insert(cluster) {
                return Err(invalid(
                    file,
                    format!("the {name} at {:#x} overlaps other metadata", range.start),
                ));
            }
        }
        Ok(())
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
    let bytes = entries * 8;
    if offset.checked_add(bytes).is_none_or(|end| end > file.len()) {
        return Err(invalid(
            file,
            format!("its {name} of {bytes} bytes at {offset:#x} reaches past the end of the file"),
        ));
    }
    let mut raw = vec![0; usize::try_from(bytes).expect("callers bound tables to 32 MiB")];
    file.read_at(&mut raw, offset)?;
    let numbers = raw.chunks_exact(8);
    Ok(numbers
        .map(|bytes| u64::from_be_bytes(bytes.try_into().expect("the chunk has 8 bytes")))
        .collect())
}

/// Returns that no cluster of the file is left.
fn no_space(file: &dyn Disk) -> Error {
    Error::new(ErrorKind::NoSpace, Operation::Write, file.label())
        .because("no image can be longer than 64 PiB")
}

fn decode(geometry: Geometry, entry: &[u8]) -> super::malformed::Parsed<Mapping> {
    let number = |at: usize| super::malformed::u64_at(entry, at);
    let bitmap = if geometry.entry() == 16 { number(8)? } else { 0 };
    geometry.decode(number(0)?, bitmap)
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
