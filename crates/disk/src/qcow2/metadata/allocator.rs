//! Clusters of the file given out and taken back.

use std::ops::Range;

use super::slices::SliceKind;
use super::{Metadata, invalid, no_space};
use crate::qcow2::entry::HOST_LIMIT;
use crate::{Disk, Resizable, Result};

impl Metadata {
    /// Returns the reference count of a cluster of the file.
    pub(in crate::qcow2) fn refcount(&mut self, file: &dyn Disk, cluster: u64) -> Result<u64> {
        let width = self.width;
        let found = self.refcounts_from(file, cluster)?;
        Ok(found.map_or(0, |(slice, index)| width.read(slice, index)))
    }

    /// Gives out the first free clusters that lie together, at least one and at most `most`.
    pub(in crate::qcow2) fn allocate(
        &mut self,
        file: &dyn Resizable,
        most: u64,
    ) -> Result<Range<u64>> {
        let found = self.find_free(file, self.first_free, most)?;
        self.take(file, found.clone())?;
        self.first_free = found.end;
        Ok(found)
    }

    /// Gives out exactly `count` clusters that lie together.
    pub(in crate::qcow2) fn allocate_together(
        &mut self,
        file: &dyn Resizable,
        count: u64,
    ) -> Result<Range<u64>> {
        if count >= self.refcounts_per_block() {
            return self.allocate_behind_all(file, count);
        }
        let mut from = self.first_free;
        loop {
            let found = self.find_free(file, from, count)?;
            if found.end - found.start == count {
                self.take(file, found.clone())?;
                return Ok(found);
            }
            from = found.end;
        }
    }

    /// Returns room for a compressed cluster, which need not begin at any boundary.
    pub(in crate::qcow2) fn allocate_bytes(
        &mut self,
        file: &dyn Resizable,
        length: u64,
    ) -> Result<u64> {
        let (bits, cluster) = (self.geometry.cluster_bits, self.geometry.cluster());
        if let Some(start) = self.compressed_end {
            let shared = start >> bits;
            let end = start + length;
            let count = self.refcount(file, shared)?;
            let fits = count > 0 && count < self.width.largest();
            let goes_on = (end - 1) >> bits > shared;
            if fits && (!goes_on || self.is_free(file, shared + 1)?) {
                if goes_on {
                    self.take(file, shared + 1..shared + 2)?;
                }
                self.change_refcounts(file, shared..shared + 1, |count| count + 1)?;
                self.compressed_end = (!end.is_multiple_of(cluster)).then_some(end);
                return Ok(start);
            }
        }
        let start = self.allocate(file, 1)?.start << bits;
        self.compressed_end = (length < cluster).then_some(start + length);
        Ok(start)
    }

    /// Takes back a reference to each of these clusters once the file does not hold it any more.
    pub(in crate::qcow2) fn release(&mut self, clusters: Range<u64>) {
        match self.pending.last_mut() {
            Some(last) if last.end == clusters.start => last.end = clusters.end,
            _ => self.pending.push(clusters),
        }
    }

    /// Takes back at once what the file never referred to.
    pub(in crate::qcow2) fn release_unused(
        &mut self,
        file: &dyn Resizable,
        clusters: Range<u64>,
    ) -> Result<()> {
        self.first_free = self.first_free.min(clusters.start);
        self.compressed_end = None;
        self.change_refcounts(file, clusters, |count| count.saturating_sub(1))
    }

    /// Changes the counts of clusters whose refcount blocks are there.
    pub(super) fn change_refcounts(
        &mut self,
        file: &dyn Disk,
        clusters: Range<u64>,
        change: impl Fn(u64) -> u64,
    ) -> Result<()> {
        let width = self.width;
        let mut cluster = clusters.start;
        while cluster < clusters.end {
            let Some((place, index, count)) = self.place_of_refcounts(cluster) else {
                cluster += 1;
                continue;
            };
            let slice = self.slices.change(file, place, SliceKind::Refcounts)?;
            let end = (cluster + (count - index as u64)).min(clusters.end);
            for (index, _) in (index..).zip(cluster..end) {
                let count = change(width.read(slice, index));
                width.write(slice, index, count);
            }
            cluster = end;
        }
        Ok(())
    }

    fn is_free(&mut self, file: &dyn Resizable, cluster: u64) -> Result<bool> {
        Ok(self.find_free(file, cluster, 1)?.start == cluster)
    }

    /// Returns the first free clusters from `from` on. Makes refcount blocks on the way.
    fn find_free(&mut self, file: &dyn Resizable, from: u64, most: u64) -> Result<Range<u64>> {
        let width = self.width;
        let mut found = from..from;
        loop {
            let cluster = found.end;
            if cluster >= HOST_LIMIT >> self.geometry.cluster_bits {
                return Err(no_space(file));
            }
            let Some((slice, first)) = self.refcounts_from(file, cluster)? else {
                if !found.is_empty() {
                    return Ok(found);
                }
                self.add_refcount_block(file, cluster)?;
                continue;
            };
            let count = width.per(slice.len()) as usize;
            for index in first..count {
                if width.read(slice, index) == 0 {
                    found.end += 1;
                    if found.end - found.start == most {
                        return Ok(found);
                    }
                } else if found.is_empty() {
                    found = found.end + 1..found.end + 1;
                } else {
                    return Ok(found);
                }
            }
        }
    }

    /// Counts the first reference to free clusters, and makes the file long enough for them.
    fn take(&mut self, file: &dyn Resizable, clusters: Range<u64>) -> Result<()> {
        let bits = self.geometry.cluster_bits;
        if let Some(cluster) = clusters.clone().find(|&cluster| self.reserved.contains(cluster)) {
            return Err(invalid(
                file,
                format!("the cluster of metadata at {:#x} is counted as free", cluster << bits),
            ));
        }
        ensure_len(file, clusters.end << bits)?;
        self.change_refcounts(file, clusters, |_| 1)
    }

    /// Returns the slice with a cluster's count and its index there; `None` without a block.
    fn refcounts_from(&mut self, file: &dyn Disk, cluster: u64) -> Result<Option<(&[u8], usize)>> {
        let Some((place, index, _)) = self.place_of_refcounts(cluster) else { return Ok(None) };
        Ok(Some((self.slices.read(file, place, SliceKind::Refcounts)?, index)))
    }

    /// Returns where the slice with a cluster's count begins, the index in it, and how many counts
    /// it has.
    fn place_of_refcounts(&self, cluster: u64) -> Option<(u64, usize, u64)> {
        let in_block = self.refcounts_per_block();
        let block = *self.table.get(usize::try_from(cluster / in_block).ok()?)? & !511;
        let in_slice = self.width.per(self.slices.size() as usize);
        let index = cluster % in_block;
        let place = block + index / in_slice * self.slices.size();
        (block != 0).then_some((place, (index % in_slice) as usize, in_slice))
    }

    fn refcounts_per_block(&self) -> u64 {
        self.width.per(self.geometry.cluster() as usize)
    }

    /// Makes the block that counts a cluster. All clusters that it counts are free, so it lies in
    /// the first of them and counts itself.
    fn add_refcount_block(&mut self, file: &dyn Resizable, cluster: u64) -> Result<()> {
        let index = cluster / self.refcounts_per_block();
        if index >= self.table.len() as u64 {
            return self.grow_refcount_table(file, index);
        }
        let first = index * self.refcounts_per_block();
        self.write_refcount_block(file, first, 1)?;
        let place = first << self.geometry.cluster_bits;
        self.table[index as usize] = place;
        self.dirty_table.insert(index as usize);
        self.reserve(file, "refcount block", place..place + 1)
    }

    /// Writes to `cluster` a new block that counts the first `used` clusters of its own.
    fn write_refcount_block(
        &mut self,
        file: &dyn Resizable,
        cluster: u64,
        used: u64,
    ) -> Result<()> {
        let (bits, size) = (self.geometry.cluster_bits, self.geometry.cluster());
        if self.reserved.contains(cluster) {
            return Err(invalid(
                file,
                format!("the cluster of metadata at {:#x} is counted as free", cluster << bits),
            ));
        }
        let place = cluster << bits;
        ensure_len(file, place + size)?;
        let mut block = vec![0; size as usize];
        for index in 0..used.min(self.refcounts_per_block()) {
            self.width.write(&mut block, index as usize, 1);
        }
        self.slices.forget(place..place + size);
        file.write_at(&block, place)
    }

    /// Gives out clusters that need several refcount blocks, behind everything that is counted so
    /// far: nowhere else are so many sure to lie together, since blocks lie in what they count.
    fn allocate_behind_all(&mut self, file: &dyn Resizable, count: u64) -> Result<Range<u64>> {
        let (bits, in_block) = (self.geometry.cluster_bits, self.refcounts_per_block());
        let blocks = count.div_ceil(in_block - 1);
        loop {
            let region =
                self.table.iter().rposition(|&entry| entry != 0).map_or(0, |last| last + 1);
            if region as u64 + blocks > self.table.len() as u64 {
                self.grow_refcount_table(file, region as u64 + 2 * blocks)?;
                continue;
            }
            let first = region as u64 * in_block;
            let used = blocks + count;
            for number in 0..blocks {
                let counted = used.saturating_sub(number * in_block);
                self.write_refcount_block(file, first + number, counted)?;
                let index = region + number as usize;
                self.table[index] = (first + number) << bits;
                self.dirty_table.insert(index);
                let place = (first + number) << bits;
                self.reserve(file, "refcount block", place..place + 1)?;
            }
            ensure_len(file, (first + used) << bits)?;
            return Ok(first + blocks..first + used);
        }
    }

    /// Moves the refcount table to where the old one could not count any more, and makes it longer.
    fn grow_refcount_table(&mut self, file: &dyn Resizable, needed: u64) -> Result<()> {
        let (bits, size) = (self.geometry.cluster_bits, self.geometry.cluster());
        let in_block = self.refcounts_per_block();
        let old = self.table.len() as u64;
        // The blocks that count the new table come first; each counts itself and the others.
        let mut blocks = 1;
        let entries = loop {
            let entries = (needed + 1 + needed / 2).max(old + blocks).next_multiple_of(size / 8);
            if blocks * in_block >= blocks + entries * 8 / size {
                break entries;
            }
            blocks += 1;
        };
        if entries * 8 > crate::qcow2::header::LARGEST_REFCOUNT_TABLE.max(size) {
            return Err(no_space(file));
        }
        let first = old * in_block;
        let used = blocks + entries * 8 / size;
        for number in 0..blocks {
            let counted = used.saturating_sub(number * in_block);
            self.write_refcount_block(file, first + number, counted)?;
        }
        let mut table = self.table.clone();
        table.extend((0..blocks).map(|number| (first + number) << bits));
        table.resize(entries as usize, 0);
        let place = (first + blocks) << bits;
        ensure_len(file, (first + used) << bits)?;
        let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        // The new table may name blocks that are yet to be written.
        self.slices.write_back(file, SliceKind::Refcounts)?;
        file.write_at(&bytes, place)?;
        file.flush()?;
        let mut field = [0; 12];
        field[..8].copy_from_slice(&place.to_be_bytes());
        field[8..].copy_from_slice(&((entries * 8 / size) as u32).to_be_bytes());
        file.write_at(&field, REFCOUNT_TABLE_FIELD)?;
        file.flush()?;
        let old_clusters = self.table_offset >> bits..(self.table_offset + old * 8).div_ceil(size);
        old_clusters.clone().for_each(|cluster| self.reserved.remove(cluster));
        self.table = table;
        self.table_offset = place;
        self.dirty_table.clear();
        self.release(old_clusters);
        self.reserve(file, "refcount table", first << bits..(first + used) << bits)
    }
}

/// Makes the file at least so long.
fn ensure_len(file: &dyn Resizable, len: u64) -> Result<()> {
    if file.len() < len { file.set_len(len) } else { Ok(()) }
}

/// Where the header says where the refcount table lies, and behind that how long it is.
const REFCOUNT_TABLE_FIELD: u64 = 48;
