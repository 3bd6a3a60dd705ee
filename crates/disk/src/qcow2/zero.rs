//! Zeroing and discarding: clusters are freed, not filled.

use std::ops::Range;

use super::Qcow2;
use super::entry::{Mapping, Plain};
use super::header::Version;
use super::metadata::{Metadata, Origin};
use super::read::TABLES_STEP;
use super::write::Source;
use crate::{Disk, Error, ErrorKind, Operation, Resizable, Result};

impl<D: Resizable> Qcow2<D> {
    /// Makes a range read as zeros.
    pub(super) fn zero_range(&self, range: Range<u64>) -> Result<()> {
        self.check_writable(Operation::WriteZeroes)?;
        let mut start = range.start;
        while start < range.end {
            let there = self.skip_zeros(start..range.end)?;
            if let Some(piece) = self.by_region(there.clone()).next() {
                self.zero_piece(&piece)?;
                start = piece.end;
            } else {
                start = there.end;
            }
        }
        Ok(())
    }

    /// Makes what lies within one region read as zeros.
    fn zero_piece(&self, range: &Range<u64>) -> Result<()> {
        self.announce_changes()?;
        let _alone = self.own(range.start);
        self.zero_data_file(range)?;
        for part in self.free_clusters(range)? {
            self.write_zero_bytes(part)?;
        }
        Ok(())
    }

    /// Frees the whole clusters in a range. They read as zeros afterwards.
    pub(super) fn discard_range(&self, range: Range<u64>) -> Result<()> {
        self.check_writable(Operation::Discard)?;
        if self.header.version == Version::V2 && self.backing.is_some() {
            return Err(Error::new(ErrorKind::Unsupported, Operation::Discard, self.label())
                .at(range.start, range.end - range.start)
                .because("what version 2 discards would come back from the backing file"));
        }
        let unit = self.lock().geometry().unit();
        // The last cluster of the disk may be shorter.
        let end = match range.end == self.len {
            true => range.end,
            false => range.end / unit * unit,
        };
        let start = range.start.next_multiple_of(unit);
        if start < end { self.zero_range(start..end) } else { Ok(()) }
    }

    /// Returns what is left of a range behind what has no L2 table, and reads as zeros therefore.
    /// A disk of exabytes with nothing in it is skipped in one step.
    fn skip_zeros(&self, range: Range<u64>) -> Result<Range<u64>> {
        let mut start = range.start;
        while start < range.end {
            let mut metadata = self.lock();
            let coverage = metadata.geometry().l2_coverage();
            let first = start / coverage;
            let last = range.end.div_ceil(coverage).min(first + TABLES_STEP);
            let table = metadata.next_l2_table(&self.file, None, first..last)?;
            drop(metadata);
            let end = table.unwrap_or(last).saturating_mul(coverage).clamp(start, range.end);
            let is_raw = self.header.data_file_is_raw() && start < self.data().len();
            if start == end || is_raw {
                break;
            }
            let extent = self.backing_extent(start..end)?;
            if !extent.kind.reads_as_zeros() {
                break;
            }
            start = extent.range.end;
        }
        Ok(start..range.end)
    }

    /// Zeroes a range of a data file that can be read without the image.
    fn zero_data_file(&self, range: &Range<u64>) -> Result<()> {
        match &self.data_file {
            Some(data) if self.header.data_file_is_raw() => {
                let end = range.end.min(data.len());
                if range.start < end { data.write_zeroes(range.start..end) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Makes whole clusters and subclusters zero in the tables. Returns the parts of the range
    /// that the tables cannot say it of.
    fn free_clusters(&self, range: &Range<u64>) -> Result<Vec<Range<u64>>> {
        let mut metadata = self.lock();
        self.make_room(&mut metadata)?;
        let geometry = metadata.geometry();
        let mut parts: Vec<Range<u64>> = Vec::new();
        for guest_cluster in
            range.start >> geometry.cluster_bits..=(range.end - 1) >> geometry.cluster_bits
        {
            let start = guest_cluster << geometry.cluster_bits;
            let end = (start + geometry.cluster()).min(self.len);
            let part = range.start.max(start)..range.end.min(end);
            let mut left =
                self.free_cluster(&mut metadata, guest_cluster, &part, part == (start..end))?;
            left.retain(|part| !part.is_empty());
            for part in left {
                match parts.last_mut() {
                    Some(last) if last.end == part.start => last.end = part.end,
                    _ => parts.push(part),
                }
            }
        }
        Ok(parts)
    }

    /// Makes a part of a cluster zero in the tables; returns what could not be.
    fn free_cluster(
        &self,
        metadata: &mut Metadata,
        guest_cluster: u64,
        part: &Range<u64>,
        is_whole: bool,
    ) -> Result<Vec<Range<u64>>> {
        let geometry = metadata.geometry();
        let old = metadata.mapping(&self.file, guest_cluster)?;
        let is_version_2 = geometry.version == Version::V2;
        if is_whole {
            let new = match self.backing {
                None => Mapping::UNALLOCATED,
                Some(_) if is_version_2 => return Ok(vec![part.clone()]),
                Some(_) => {
                    let zero = geometry.all();
                    Mapping::Plain(Plain { host: None, exclusive: false, allocated: 0, zero })
                }
            };
            let already_zero = matches!(old, Mapping::Plain(plain)
                if plain.host.is_none() && plain.zero == geometry.all());
            if new != old && !already_zero {
                metadata.set_mapping(&self.file, guest_cluster, new)?;
                self.release_old(metadata, old);
            }
            return Ok(Vec::new());
        }
        let Mapping::Plain(plain) = old else { return Ok(vec![part.clone()]) };
        let start = guest_cluster << geometry.cluster_bits;
        let unit = geometry.unit();
        let units = part.start.next_multiple_of(unit)..match part.end == self.len {
            true => part.end.next_multiple_of(unit),
            false => part.end / unit * unit,
        };
        if geometry.units() == 1 || units.start >= units.end {
            return Ok(vec![part.clone()]);
        }
        let zeroed = geometry.bits(&(units.start - start..units.end - start));
        let new = Mapping::Plain(Plain {
            allocated: plain.allocated & !zeroed,
            zero: plain.zero | zeroed,
            ..plain
        });
        if new != old {
            metadata.set_mapping(&self.file, guest_cluster, new)?;
        }
        Ok(vec![part.start..units.start, units.end.min(part.end)..part.end])
    }

    /// Writes zeros where there is anything else, with the region to itself.
    fn write_zero_bytes(&self, part: Range<u64>) -> Result<()> {
        let runs = self.lock().resolve(&self.file, None, part)?;
        for run in runs {
            let beyond =
                self.backing.as_ref().is_none_or(|backing| backing.len() <= run.guest.start);
            match run.origin {
                Origin::Zero => continue,
                Origin::Backing if beyond => continue,
                _ => {}
            }
            let mut zeroes = vec![0; (run.guest.end - run.guest.start) as usize];
            self.write_alone(Source::Scratch(&mut zeroes), run.guest.start)?;
        }
        Ok(())
    }
}
