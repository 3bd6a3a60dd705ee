//! What is in memory brought to the file.

use super::Metadata;
use super::slices::SliceKind;
use crate::{Disk, Resizable, Result};

impl Metadata {
    /// Returns whether so much is in memory alone that it should be written, to make room.
    pub(in crate::qcow2) fn is_crowded(&self) -> bool {
        self.slices.is_crowded() || self.pending.len() > MOST_PENDING
    }

    /// Returns whether the file lacks anything.
    pub(in crate::qcow2) fn is_dirty(&self) -> bool {
        self.slices.is_dirty(SliceKind::L2)
            || self.slices.is_dirty(SliceKind::Refcounts)
            || self.slices.is_dirty(SliceKind::L1)
            || !self.dirty_table.is_empty()
            || !self.pending.is_empty()
    }

    /// Brings everything to the file, durably.
    ///
    /// New references are counted before they are made, and made when what they point to is
    /// durable. References that are gone are counted off, and their clusters given out again, when
    /// the file holds them no more. `data` is the file that holds the guest's data, if that is
    /// another one.
    pub(in crate::qcow2) fn commit(
        &mut self,
        file: &dyn Resizable,
        data: Option<&dyn Resizable>,
    ) -> Result<()> {
        let flush = || {
            data.map_or(Ok(()), |data| data.flush())?;
            file.flush()
        };
        self.slices.write_back(file, SliceKind::Refcounts)?;
        if !self.dirty_table.is_empty() {
            file.flush()?;
            while let Some(&index) = self.dirty_table.first() {
                file.write_at(
                    &self.table[index].to_be_bytes(),
                    self.table_offset + index as u64 * 8,
                )?;
                self.dirty_table.remove(&index);
            }
        }
        if self.slices.is_dirty(SliceKind::L2) || self.slices.is_dirty(SliceKind::L1) {
            flush()?;
            // A new L2 table was written when it was made, so either may come first.
            self.slices.write_back(file, SliceKind::L2)?;
            self.slices.write_back(file, SliceKind::L1)?;
        }
        flush()?;
        if !self.pending.is_empty() {
            self.count_off(file)?;
            self.slices.write_back(file, SliceKind::Refcounts)?;
        }
        Ok(())
    }

    /// Takes back what nothing in the file refers to any more.
    fn count_off(&mut self, file: &dyn Resizable) -> Result<()> {
        let bits = self.geometry.cluster_bits;
        self.compressed_end = None;
        for clusters in std::mem::take(&mut self.pending) {
            self.change_refcounts(file, clusters.clone(), |count| count.saturating_sub(1))?;
            let mut freed = clusters.start..clusters.start;
            for cluster in clusters {
                if self.refcount(file, cluster)? == 0 && !self.reserved.contains(cluster) {
                    self.first_free = self.first_free.min(cluster);
                    freed.end = cluster + 1;
                    continue;
                }
                give_up(file, freed.start << bits..freed.end << bits);
                freed = cluster + 1..cluster + 1;
            }
            give_up(file, freed.start << bits..freed.end << bits);
        }
        Ok(())
    }
}

/// Tells the file below that nobody needs a range. It only costs space when it cannot.
fn give_up(file: &dyn Disk, range: std::ops::Range<u64>) {
    let range = range.start..range.end.min(file.len());
    if !range.is_empty() {
        let _ = file.discard(range);
    }
}

/// How many ranges may wait until they are free.
const MOST_PENDING: usize = 4096;
