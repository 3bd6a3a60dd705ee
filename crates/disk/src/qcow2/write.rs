//! Writing: where data lies already, or into new clusters.

use std::ops::Range;

use super::entry::{DataPlace, Geometry, Mapping, Plain};
use super::metadata::{Metadata, Origin, invalid};
use super::read::SECTOR;
use super::{Qcow2, compression};
use crate::{Disk, Error, ErrorKind, Operation, Resizable, Result};

/// Bytes to be written.
pub(super) enum Source<'a> {
    /// They must stay what they are.
    Kept(&'a [u8]),
    /// Anything may be left in them.
    Scratch(&'a mut [u8]),
}

/// What happens to one cluster of the disk.
#[derive(Debug, Clone)]
struct Plan {
    guest_cluster: u64,
    /// What is written, in bytes of the disk: what was asked for and what must come along.
    fill: Range<u64>,
    /// Where the cluster will lie.
    host: u64,
    old: Mapping,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The cluster stays where it is.
    Old,
    /// It gets a new place.
    New,
}

impl<D: Resizable> Qcow2<D> {
    /// Writes a cluster in compressed form, if that is smaller. For images that are filled once:
    /// a later write to the cluster gives it a place of its own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unaligned`] unless it is exactly one cluster, or the shorter rest of the disk;
    /// [`ErrorKind::Unsupported`] when the image is encrypted or has a data file.
    pub fn write_compressed_at(&self, cluster: &[u8], offset: u64) -> Result<()> {
        match self.compress(cluster) {
            Some(bytes) => self.write_compressed_bytes(&bytes, cluster.len(), offset),
            None => self.write_at(cluster, offset),
        }
    }

    /// Returns a cluster in compressed form, `None` when it does not become smaller. Takes no lock:
    /// any number of threads can do it at once, for [`Self::write_compressed_bytes`].
    pub fn compress(&self, cluster: &[u8]) -> Option<Vec<u8>> {
        let size = self.header.cluster_size() as usize;
        if cluster.len() == size {
            return compression::compress(self.header.compression, cluster);
        }
        let mut whole = vec![0; size];
        whole.get_mut(..cluster.len())?.copy_from_slice(cluster);
        compression::compress(self.header.compression, &whole)
    }

    /// Writes what [`Self::compress`] made of the `length` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::write_compressed_at`].
    pub fn write_compressed_bytes(&self, bytes: &[u8], length: usize, offset: u64) -> Result<()> {
        self.check_range(Operation::Write, offset, length)?;
        self.check_writable(Operation::Write)?;
        let failed = |kind, reason| {
            Err(Error::new(kind, Operation::Write, self.label())
                .at(offset, length as u64)
                .because(reason))
        };
        let cluster = self.header.cluster_size();
        let is_cluster = length as u64 == cluster || offset + length as u64 == self.len;
        if !offset.is_multiple_of(cluster) || !is_cluster || length as u64 > cluster {
            return failed(ErrorKind::Unaligned, "only whole clusters are compressed");
        }
        if self.is_encrypted() || self.data_file.is_some() {
            return failed(
                ErrorKind::Unsupported,
                "an image that is encrypted or has a data file has no compressed clusters",
            );
        }
        self.announce_changes()?;
        let _alone = self.own(offset);
        let host = {
            let mut metadata = self.lock();
            self.make_room(&mut metadata)?;
            metadata.allocate_bytes(&self.file, bytes.len() as u64)?
        };
        let mapping = Mapping::Compressed { offset: host, length: bytes.len() as u64 };
        let bits = self.header.cluster_bits;
        let taken = mapping.host_clusters(bits).expect("a compressed cluster lies somewhere");
        let limit = self.lock().geometry().compressed_limit();
        if host + bytes.len() as u64 > limit {
            self.lock().release_unused(&self.file, taken)?;
            return failed(ErrorKind::NoSpace, "compressed clusters cannot lie so far back");
        }
        if let Err(error) = self.file.write_at(bytes, host) {
            self.lock().release_unused(&self.file, taken)?;
            return Err(error);
        }
        let mut metadata = self.lock();
        let old = metadata.mapping(&self.file, offset >> bits)?;
        metadata.set_mapping(&self.file, offset >> bits, mapping)?;
        self.release_old(&mut metadata, old);
        Ok(())
    }

    /// Writes what lies within one region.
    pub(super) fn write_piece(&self, mut source: Source<'_>, offset: u64) -> Result<()> {
        self.check_writable(Operation::Write)?;
        if self.is_encrypted() {
            self.cipher(Operation::Write)?;
        }
        self.announce_changes()?;
        if self.write_where_it_lies(&mut source, offset)? {
            return Ok(());
        }
        let _alone = self.own(offset);
        self.write_alone(source, offset)
    }

    /// Writes to clusters that need no change of any table, beside other threads. Returns whether
    /// they were such.
    fn write_where_it_lies(&self, source: &mut Source<'_>, offset: u64) -> Result<bool> {
        let range = offset..offset + source.len() as u64;
        let sector = self.sector();
        if !range.start.is_multiple_of(sector) || !range.end.is_multiple_of(sector) {
            return Ok(false);
        }
        let _nothing_moves = self.share(offset);
        let runs = {
            let mut metadata = self.lock();
            let runs = metadata.resolve(&self.file, None, range)?;
            for run in &runs {
                let Origin::Data { host, exclusive: true } = run.origin else { return Ok(false) };
                self.check_place(&metadata, host..host + (run.guest.end - run.guest.start))?;
            }
            runs
        };
        for run in runs {
            let Origin::Data { host, .. } = run.origin else { return Ok(false) };
            let start = (run.guest.start - offset) as usize;
            let end = (run.guest.end - offset) as usize;
            self.write_data(source.part(start..end), host)?;
        }
        Ok(true)
    }

    /// Writes with the region to itself.
    pub(super) fn write_alone(&self, mut source: Source<'_>, offset: u64) -> Result<()> {
        let range = offset..offset + source.len() as u64;
        if range.is_empty() {
            return Ok(());
        }
        let plans = {
            let mut metadata = self.lock();
            self.make_room(&mut metadata)?;
            self.plan(&mut metadata, &range)?
        };
        let written = self.write_plans(&plans, &mut source, &range);
        let mut metadata = self.lock();
        if let Err(error) = written {
            self.take_back(&mut metadata, &plans)?;
            return Err(error);
        }
        for (index, plan) in plans.iter().enumerate() {
            if let Err(error) = self.carry_out(&mut metadata, plan) {
                self.take_back(&mut metadata, &plans[index..])?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes what is in memory alone when it has become too much.
    pub(super) fn make_room(&self, metadata: &mut Metadata) -> Result<()> {
        if metadata.is_crowded() { self.commit(metadata) } else { Ok(()) }
    }

    /// Takes back a reference to the place that a cluster had.
    pub(super) fn release_old(&self, metadata: &mut Metadata, old: Mapping) {
        if self.data_file.is_none()
            && let Some(clusters) = old.host_clusters(self.header.cluster_bits)
        {
            metadata.release(clusters);
        }
    }

    /// Decides for every cluster of a range where it will lie, and gives out the new places.
    fn plan(&self, metadata: &mut Metadata, range: &Range<u64>) -> Result<Vec<Plan>> {
        let geometry = metadata.geometry();
        let bits = geometry.cluster_bits;
        let mut plans = Vec::new();
        for guest_cluster in range.start >> bits..=(range.end - 1) >> bits {
            let start = guest_cluster << bits;
            let part = range.start.max(start)..range.end.min(start + geometry.cluster());
            let old = metadata.mapping(&self.file, guest_cluster)?;
            let mut plan = Plan { guest_cluster, fill: part, host: 0, old, place: Place::New };
            match old {
                Mapping::Plain(Plain { host: Some(host), exclusive: true, allocated, .. }) => {
                    self.check_place(metadata, host..host + geometry.cluster())?;
                    (plan.host, plan.place) = (host, Place::Old);
                    let units = round_out(&plan.fill, geometry.unit());
                    let touched = geometry.bits(&(units.start - start..units.end - start));
                    // Whole units come along only where some of them hold nothing yet.
                    let all_there = allocated & touched == touched;
                    plan.fill = match all_there {
                        true => round_out(&plan.fill, self.sector()),
                        false => units,
                    };
                }
                Mapping::Plain(Plain { allocated: 0, .. }) => {
                    plan.fill = round_out(&plan.fill, geometry.unit());
                }
                _ => plan.fill = start..start + geometry.cluster(),
            }
            plans.push(plan);
        }
        if let Err(error) = self.find_places(metadata, &mut plans) {
            let placed: Vec<_> = plans.into_iter().filter(|plan| plan.host != 0).collect();
            self.take_back(metadata, &placed)?;
            return Err(error);
        }
        Ok(plans)
    }

    fn find_places(&self, metadata: &mut Metadata, plans: &mut [Plan]) -> Result<()> {
        let bits = self.header.cluster_bits;
        if metadata.geometry().place == DataPlace::DataFile {
            for plan in plans.iter_mut() {
                // A data file has the guest's own offsets.
                plan.host = plan.guest_cluster << bits;
                let end = plan.host + (1 << bits);
                if self.data().len() < end.min(self.len) {
                    self.data().set_len(end.min(self.len))?;
                }
            }
            return Ok(());
        }
        let mut rest = plans;
        loop {
            let skip = rest.iter().position(|plan| plan.place == Place::New);
            let Some(skip) = skip else { return Ok(()) };
            rest = rest.split_at_mut(skip).1;
            let count = rest.iter().take_while(|plan| plan.place == Place::New).count();
            let found = metadata.allocate(&self.file, count as u64)?;
            let (placed, behind) = rest.split_at_mut((found.end - found.start) as usize);
            for (plan, cluster) in placed.iter_mut().zip(found) {
                plan.host = cluster << bits;
            }
            rest = behind;
        }
    }

    /// Takes back places that nothing refers to yet.
    fn take_back(&self, metadata: &mut Metadata, plans: &[Plan]) -> Result<()> {
        let bits = self.header.cluster_bits;
        let unused = plans.iter().filter(|plan| plan.place == Place::New);
        for plan in unused.filter(|_| self.data_file.is_none()) {
            let cluster = plan.host >> bits;
            metadata.release_unused(&self.file, cluster..cluster + 1)?;
        }
        Ok(())
    }

    /// Writes the data of neighbours that lie together in the file in one go.
    fn write_plans(
        &self,
        plans: &[Plan],
        source: &mut Source<'_>,
        range: &Range<u64>,
    ) -> Result<()> {
        let bits = self.header.cluster_bits;
        let lies_behind = |first: &Plan, second: &Plan| {
            first.fill.end == second.fill.start && first.host + (1 << bits) == second.host
        };
        for group in plans.chunk_by(lies_behind) {
            let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
            let fill = first.fill.start..last.fill.end;
            let host = first.host + (fill.start - (first.guest_cluster << bits));
            let part = range.start.max(fill.start)..range.end.min(fill.end);
            let part_in_source =
                (part.start - range.start) as usize..(part.end - range.start) as usize;
            if part == fill {
                self.write_data(source.part(part_in_source), host)?;
                continue;
            }
            let mut whole = vec![0; (fill.end - fill.start) as usize];
            let (head, rest) = whole.split_at_mut((part.start - fill.start) as usize);
            let (body, tail) = rest.split_at_mut((part.end - part.start) as usize);
            self.read_old(head, fill.start)?;
            body.copy_from_slice(source.part(part_in_source).bytes());
            self.read_old(tail, part.end)?;
            self.write_data(Source::Scratch(&mut whole), host)?;
        }
        Ok(())
    }

    /// Reads what comes along with a write: zeros behind the end of the disk.
    fn read_old(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let within = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        match within {
            0 => Ok(()),
            _ => self.read_from(None, &mut buf[..within], offset),
        }
    }

    /// Makes the tables say what the file holds.
    fn carry_out(&self, metadata: &mut Metadata, plan: &Plan) -> Result<()> {
        let new = after(metadata.geometry(), plan);
        if new == plan.old {
            return Ok(());
        }
        metadata.set_mapping(&self.file, plan.guest_cluster, new)?;
        if plan.place == Place::New {
            self.release_old(metadata, plan.old);
        }
        Ok(())
    }

    fn write_data(&self, source: Source<'_>, host: u64) -> Result<()> {
        if !self.is_encrypted() {
            return self.write_stored(source.bytes(), host);
        }
        let cipher = self.cipher(Operation::Write)?;
        match source {
            Source::Scratch(bytes) => {
                cipher.encrypt(bytes, host / SECTOR);
                self.write_stored(bytes, host)
            }
            Source::Kept(bytes) => {
                let mut bounce = vec![0; bytes.len().min(BOUNCE)];
                for (index, piece) in bytes.chunks(BOUNCE).enumerate() {
                    let at = host + (index * BOUNCE) as u64;
                    let bounce = &mut bounce[..piece.len()];
                    bounce.copy_from_slice(piece);
                    cipher.encrypt(bounce, at / SECTOR);
                    self.write_stored(bounce, at)?;
                }
                Ok(())
            }
        }
    }

    /// Writes to the file as it is. A data file gets no longer than the disk, whose last cluster
    /// may go on behind its end; an image may end within its last cluster.
    fn write_stored(&self, bytes: &[u8], host: u64) -> Result<()> {
        let data = self.data();
        let mut end = host + bytes.len() as u64;
        if self.data_file.is_some() {
            end = end.min(self.len.next_multiple_of(self.sector()));
        }
        if end > data.len() {
            // Whoever changes the length holds the lock, lest the file become shorter again.
            let _alone = self.lock();
            if end > data.len() {
                data.set_len(end)?;
            }
        }
        data.write_at(&bytes[..(end - host) as usize], host)
    }

    fn check_place(&self, metadata: &Metadata, host: Range<u64>) -> Result<()> {
        if self.data_file.is_some() {
            return Ok(());
        }
        if host.start >= self.file.len() {
            let reason = format!("the data at {:#x} lies past the end of the file", host.start);
            return Err(invalid(&self.file, reason));
        }
        metadata.check_data(&self.file, host)
    }

    /// Returns what writes in place begin and end at multiples of.
    fn sector(&self) -> u64 {
        if self.is_encrypted() { SECTOR } else { 1 }
    }
}

impl Source<'_> {
    fn len(&self) -> usize {
        self.bytes().len()
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Kept(bytes) => bytes,
            Self::Scratch(bytes) => bytes,
        }
    }

    fn part(&mut self, range: Range<usize>) -> Source<'_> {
        match self {
            Self::Kept(bytes) => Source::Kept(&bytes[range]),
            Self::Scratch(bytes) => Source::Scratch(&mut bytes[range]),
        }
    }
}

/// Returns what the tables say once a plan is carried out.
fn after(geometry: Geometry, plan: &Plan) -> Mapping {
    let start = plan.guest_cluster << geometry.cluster_bits;
    let units = round_out(&plan.fill, geometry.unit());
    let filled = geometry.bits(&(units.start - start..units.end - start));
    let (allocated, zero) = match plan.old {
        Mapping::Plain(old) if plan.place == Place::Old || old.allocated == 0 => {
            (old.allocated | filled, old.zero & !filled)
        }
        _ => (geometry.all(), 0),
    };
    Mapping::Plain(Plain { host: Some(plan.host), exclusive: true, allocated, zero })
}

/// Returns the range from a multiple of `unit` to one.
fn round_out(range: &Range<u64>, unit: u64) -> Range<u64> {
    range.start / unit * unit..range.end.next_multiple_of(unit)
}

/// The size of the buffer through which bytes go that must not be encrypted in place.
const BOUNCE: usize = 64 << 10;
