//! Counts compared with references, and made right.

use std::collections::BTreeSet;

use super::references::{References, claims_to_be_exclusive, is_hole, read_l2};
use super::{Counted, Counts, Repair, Report, too_scattered};
use crate::qcow2::entry::{DataPlace, EXCLUSIVE, Geometry, Mapping, OFFSET};
use crate::qcow2::header::{
    Header, INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DIRTY, LARGEST_REFCOUNT_TABLE,
};
use crate::qcow2::metadata::{Added, ClusterSet};
use crate::{Disk, Resizable, Result};

/// Compares every count of the file with the references.
pub(super) fn compare(
    file: &dyn Disk,
    header: &Header,
    references: &References,
    table: &[u64],
    report: &mut Report,
) -> Result<()> {
    let (counts, in_block) = (&references.counts, per_block(header));
    // Which parts of the file have counts other than zero.
    let mut known = vec![false; table.len()];
    for (region, place) in blocks(file, header, table) {
        if is_hole(file, place..place + header.cluster_size())? {
            continue;
        }
        known[region as usize] = true;
        let block = read_block(file, header, place)?;
        for index in 0..in_block {
            let cluster = region * in_block + index;
            let stored = header.refcount_width.read(&block, index as usize);
            let found = counts.of(cluster);
            compare_one(report, header, cluster, stored, found);
        }
    }
    for (cluster, found) in counts.iter() {
        let region = usize::try_from(cluster / in_block).unwrap_or(usize::MAX);
        if !known.get(region).copied().unwrap_or(false) {
            compare_one(report, header, cluster, 0, found);
        }
    }
    check_exclusive(file, references, report)
}

/// Makes the counts right.
pub(super) fn run(
    file: &dyn Resizable,
    header: &Header,
    references: References,
    table: &[u64],
    repair: Repair,
    report: &Report,
) -> Result<()> {
    if repair == Repair::Leaks || report.corruptions == 0 {
        free_leaks(file, header, &references.counts, table)?;
    } else {
        let mut references = references;
        rebuild(file, header, &mut references.counts, table)?;
        mark_exclusive(file, header, &references)?;
    }
    file.flush()?;
    if repair == Repair::Everything && super::is_marked(header) {
        let kept = header.incompatible & !(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT);
        file.write_at(&kept.to_be_bytes(), INCOMPATIBLE_FIELD)?;
        file.flush()?;
    }
    Ok(())
}

fn compare_one(report: &mut Report, header: &Header, cluster: u64, stored: u64, found: u16) {
    let place = cluster << header.cluster_bits;
    // So many references are no longer counted.
    if stored == u64::from(found) || (found == u16::MAX && stored > u64::from(found)) {
        return;
    }
    let text = || format!("the cluster at {place:#x} counts {stored} references and has {found}");
    if stored > u64::from(found) { report.leak(text) } else { report.corruption(text) }
}

/// Checks that references which say that they are the only one are right, and the others too.
fn check_exclusive(file: &dyn Disk, references: &References, report: &mut Report) -> Result<()> {
    references.visit_active(file, |index, entry| {
        if let Some(expected) = wrong_l1(references, entry) {
            report
                .corruption(|| format!("L1 entry {index} is {} the only reference", is(expected)));
        }
        Ok(())
    })?;
    for table in references.active_tables() {
        for (index, expected) in wrong_l2(file, references, table)? {
            report.corruption(|| {
                let is = is(expected);
                format!("entry {index} of the L2 table at {table:#x} is {is} the only reference")
            });
        }
    }
    Ok(())
}

fn is(exclusive: bool) -> &'static str {
    if exclusive { "but does not say that it is" } else { "not, though it says so," }
}

/// Returns whether an active L1 entry should claim to be the only reference, if it says the wrong
/// thing.
fn wrong_l1(references: &References, entry: u64) -> Option<bool> {
    let cluster = (entry & OFFSET) >> references.geometry().cluster_bits;
    let expected = references.counts.of(cluster) == 1;
    (claims_to_be_exclusive(entry) != expected).then_some(expected)
}

/// Returns the entries of an active L2 table that say the wrong thing, likewise.
fn wrong_l2(file: &dyn Disk, references: &References, table: u64) -> Result<Vec<(u64, bool)>> {
    let geometry = references.geometry();
    if geometry.place == DataPlace::DataFile {
        return Ok(Vec::new());
    }
    let entries = read_l2(file, geometry, table)?.into_iter();
    Ok(entries
        .filter_map(|(index, mapping)| {
            let Ok(Mapping::Plain(plain)) = mapping else { return None };
            let expected = references.counts.of(plain.host? >> geometry.cluster_bits) == 1;
            (plain.exclusive != expected).then_some((index, expected))
        })
        .collect())
}

/// Makes references say whether they are the only one.
fn mark_exclusive(file: &dyn Disk, header: &Header, references: &References) -> Result<()> {
    let geometry: Geometry = references.geometry();
    let set = |place: u64, expected: bool| {
        let mut entry = [0; 8];
        file.read_at(&mut entry, place)?;
        let entry = u64::from_be_bytes(entry);
        let entry = if expected { entry | EXCLUSIVE } else { entry & !EXCLUSIVE };
        file.write_at(&entry.to_be_bytes(), place)
    };
    references.visit_active(file, |index, entry| match wrong_l1(references, entry) {
        Some(expected) => set(header.l1_offset + index * 8, expected),
        None => Ok(()),
    })?;
    for table in references.active_tables() {
        for (index, expected) in wrong_l2(file, references, table)? {
            set(table + index * geometry.entry(), expected)?;
        }
    }
    Ok(())
}

/// Lowers the counts of clusters that have fewer references.
fn free_leaks(file: &dyn Disk, header: &Header, counts: &Counts, table: &[u64]) -> Result<()> {
    let (width, in_block) = (header.refcount_width, per_block(header));
    for (region, place) in blocks(file, header, table) {
        let mut block = read_block(file, header, place)?;
        let mut changed = false;
        for index in 0..in_block {
            let found = counts.of(region * in_block + index);
            if found < u16::MAX && width.read(&block, index as usize) > u64::from(found) {
                width.write(&mut block, index as usize, found.into());
                changed = true;
            }
        }
        if changed {
            file.write_at(&block, place)?;
        }
    }
    Ok(())
}

/// Writes new refcount blocks and a new table behind everything that is in use. The old ones stay
/// what they are until the header names the new ones.
fn rebuild(
    file: &dyn Resizable,
    header: &Header,
    counts: &mut Counts,
    old_table: &[u64],
) -> Result<()> {
    let (cluster, bits) = (header.cluster_size(), header.cluster_bits);
    let (width, in_block) = (header.refcount_width, per_block(header));
    let start = counts.end().max(file.len().div_ceil(cluster));
    let old_start = header.refcount_table_offset >> bits;
    for number in old_start..old_start + u64::from(header.refcount_table_clusters) {
        counts.subtract(number, 1);
    }
    for (_, place) in blocks(file, header, old_table) {
        counts.subtract(place >> bits, 1);
    }
    let mut regions: BTreeSet<u64> = counts.iter().map(|(number, _)| number / in_block).collect();
    let table_clusters = loop {
        let last = regions.last().copied().unwrap_or(0);
        let table_clusters = ((last + 1) * 8).div_ceil(cluster);
        if table_clusters * cluster > LARGEST_REFCOUNT_TABLE.max(cluster) {
            return Err(too_scattered(file));
        }
        let end = start + regions.len() as u64 + table_clusters;
        let needed = start / in_block..=(end - 1) / in_block;
        if needed.clone().all(|region| regions.contains(&region)) {
            break table_clusters;
        }
        regions.extend(needed);
    };
    let blocks_end = start + regions.len() as u64;
    for number in start..blocks_end + table_clusters {
        if counts.add(number, 1) == Counted::TooMany {
            return Err(too_scattered(file));
        }
    }
    file.set_len((blocks_end + table_clusters) << bits)?;
    let mut table = vec![0; (table_clusters * cluster) as usize];
    for (place, &region) in (start..).zip(&regions) {
        let mut block = vec![0; cluster as usize];
        for index in 0..in_block {
            let count = u64::from(counts.of(region * in_block + index));
            width.write(&mut block, index as usize, count.min(width.largest()));
        }
        file.write_at(&block, place << bits)?;
        let entry = region as usize * 8;
        table[entry..entry + 8].copy_from_slice(&(place << bits).to_be_bytes());
    }
    file.write_at(&table, blocks_end << bits)?;
    file.flush()?;
    let mut field = [0; 12];
    field[..8].copy_from_slice(&(blocks_end << bits).to_be_bytes());
    field[8..].copy_from_slice(&(table_clusters as u32).to_be_bytes());
    file.write_at(&field, REFCOUNT_TABLE_FIELD)?;
    file.flush()
}

/// Returns the refcount blocks that can be read: which part of the file each counts, and its place.
/// A block that the table names twice counts once.
fn blocks<'a>(
    file: &'a dyn Disk,
    header: &Header,
    table: &'a [u64],
) -> impl Iterator<Item = (u64, u64)> + use<'a> {
    let cluster = header.cluster_size();
    let mut seen = ClusterSet::default();
    let places = (0..).zip(table.iter().map(|entry| entry & !511));
    places.filter(move |&(_, place)| {
        place != 0
            && place.is_multiple_of(cluster)
            && place.checked_add(cluster).is_some_and(|end| end <= file.len())
            && seen.insert(place / cluster) == Added::New
    })
}

fn read_block(file: &dyn Disk, header: &Header, place: u64) -> Result<Vec<u8>> {
    let mut block = vec![0; header.cluster_size() as usize];
    file.read_at(&mut block, place)?;
    Ok(block)
}

fn per_block(header: &Header) -> u64 {
    header.refcount_width.per(header.cluster_size() as usize)
}

/// Where the header has the incompatible features.
const INCOMPATIBLE_FIELD: u64 = 72;

/// Where the header says where the refcount table lies, and behind that how long it is.
const REFCOUNT_TABLE_FIELD: u64 = 48;
