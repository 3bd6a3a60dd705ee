//! What L1 and L2 entries say (specification: "Cluster mapping").

use super::header::{Header, Version};
use super::malformed::{Malformed, Parsed};

/// The measures that every computation with tables needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) cluster_bits: u32,
    pub(crate) version: Version,
    pub(crate) entries: Entries,
    pub(crate) place: DataPlace,
}

/// The kind of L2 entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entries {
    /// 8 bytes for a cluster.
    Standard,
    /// 16 bytes for a cluster of 32 subclusters.
    Extended,
}

/// Where the guest's data lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataPlace {
    /// In the clusters of the image.
    Image,
    /// In another file, at the guest's own offsets.
    DataFile,
}

/// What an L2 entry says about a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// It is compressed.
    Compressed {
        /// Where in the file, in bytes; at no boundary.
        offset: u64,
        /// At most how many bytes of the file it takes.
        length: u64,
    },
    /// It is not.
    Plain(Plain),
}

/// A cluster whose units are each data, zero or unallocated. A unit is a subcluster, or the whole
/// cluster where there are none; bit n stands for unit n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain {
    /// The cluster's place in the file, if it has one.
    pub(crate) host: Option<u64>,
    /// Whether nobody else refers to that place.
    pub(crate) exclusive: bool,
    /// The units whose data lies there. None without a place.
    pub(crate) allocated: u32,
    /// The units that read as zeros. No unit is in both.
    pub(crate) zero: u32,
}

impl Geometry {
    pub(crate) fn of(header: &Header) -> Self {
        Self {
            cluster_bits: header.cluster_bits,
            version: header.version,
            entries: match header.has_subclusters() {
                true => Entries::Extended,
                false => Entries::Standard,
            },
            place: match header.has_data_file() {
                true => DataPlace::DataFile,
                false => DataPlace::Image,
            },
        }
    }

    /// Returns the bytes of a cluster.
    pub(crate) fn cluster(self) -> u64 {
        1 << self.cluster_bits
    }

    /// Returns the bytes of an L2 entry.
    pub(crate) fn entry(self) -> u64 {
        match self.entries {
            Entries::Standard => 8,
            Entries::Extended => 16,
        }
    }

    /// Returns the entries of an L2 table.
    pub(crate) fn l2_entries(self) -> u64 {
        self.cluster() / self.entry()
    }

    /// Returns how many bytes of the disk an L2 table stands for.
    pub(crate) fn l2_coverage(self) -> u64 {
        self.l2_entries() << self.cluster_bits
    }

    /// Returns the units of a cluster.
    pub(crate) fn units(self) -> u32 {
        match self.entries {
            Entries::Standard => 1,
            Entries::Extended => 32,
        }
    }

    /// Returns the bytes of a unit.
    pub(crate) fn unit(self) -> u64 {
        self.cluster() / u64::from(self.units())
    }

    /// Returns the bits of all units of a cluster.
    pub(crate) fn all(self) -> u32 {
        u32::MAX >> (32 - self.units())
    }

    /// Returns the bits of the units that lie in a part of a cluster, which begins and ends with
    /// units.
    pub(crate) fn bits(self, within: &std::ops::Range<u64>) -> u32 {
        let (first, end) = (within.start / self.unit(), within.end / self.unit());
        (first..end).fold(0, |bits, unit| bits | 1 << unit)
    }

    /// Returns the L1 index of a guest cluster, and its index in the L2 table.
    pub(crate) fn indices(self, guest_cluster: u64) -> (u64, u64) {
        (guest_cluster / self.l2_entries(), guest_cluster % self.l2_entries())
    }

    /// Reads an L2 entry. `bitmap` is the second half of an extended one.
    pub(crate) fn decode(self, entry: u64, bitmap: u64) -> Parsed<Mapping> {
        if entry & COMPRESSED != 0 {
            return self.compressed(entry);
        }
        let exclusive = entry & EXCLUSIVE != 0;
        let offset = entry & OFFSET;
        if !offset.is_multiple_of(self.cluster()) {
            return Err(Malformed::invalid(format!("data at {offset:#x} is not at a cluster")));
        }
        // In a data file a cluster may well be at 0.
        let has_place = offset != 0 || (self.place == DataPlace::DataFile && exclusive);
        let host = has_place.then_some(offset);
        let (allocated, zero) = match self.entries {
            Entries::Extended => (bitmap as u32, (bitmap >> 32) as u32),
            Entries::Standard if entry & ZERO != 0 && self.version == Version::V2 => {
                return Err(Malformed::invalid("version 2 has no zero clusters, and this is one"));
            }
            Entries::Standard if entry & ZERO != 0 => (0, 1),
            Entries::Standard => (u32::from(has_place), 0),
        };
        if allocated & zero != 0 {
            return Err(Malformed::invalid("a subcluster is both data and zero"));
        }
        if allocated != 0 && host.is_none() {
            return Err(Malformed::invalid("a subcluster has data but no place"));
        }
        Ok(Mapping::Plain(Plain { host, exclusive: exclusive && has_place, allocated, zero }))
    }

    /// Returns what an L2 entry says about the cluster of the disk that begins at `start`. A data
    /// file has the guest's own offsets.
    pub(crate) fn decode_at(self, entry: u64, bitmap: u64, start: u64) -> Parsed<Mapping> {
        let mapping = self.decode(entry, bitmap)?;
        if self.place == DataPlace::DataFile
            && let Mapping::Plain(Plain { host: Some(host), .. }) = mapping
            && host != start
        {
            return Err(Malformed::invalid(format!(
                "the data for {start:#x} lies at {host:#x} of the data file, not at the same offset"
            )));
        }
        Ok(mapping)
    }

    /// Returns an L2 entry and the second half of an extended one.
    pub(crate) fn encode(self, mapping: Mapping) -> (u64, u64) {
        let Plain { host, exclusive, allocated, zero } = match mapping {
            Mapping::Plain(plain) => plain,
            Mapping::Compressed { offset, length } => {
                let sectors = (offset + length - 1) / 512 - offset / 512;
                return (COMPRESSED | sectors << self.compressed_shift() | offset, 0);
            }
        };
        let flag = if exclusive { EXCLUSIVE } else { 0 };
        let entry = host.unwrap_or(0) | flag;
        match self.entries {
            Entries::Standard => (entry | if zero != 0 { ZERO } else { 0 }, 0),
            Entries::Extended => (entry, u64::from(zero) << 32 | u64::from(allocated)),
        }
    }

    /// Returns the first byte of the file that no compressed cluster can begin at.
    pub(crate) fn compressed_limit(self) -> u64 {
        // Data that is not compressed has bits 9 to 55.
        1 << self.compressed_shift().min(56)
    }

    fn compressed(self, entry: u64) -> Parsed<Mapping> {
        if self.place == DataPlace::DataFile {
            return Err(Malformed::invalid("a cluster in a data file is compressed"));
        }
        let shift = self.compressed_shift();
        let offset = entry & ((1 << shift) - 1);
        let sectors = (entry >> shift & ((1 << (self.cluster_bits - 8)) - 1)) + 1;
        Ok(Mapping::Compressed { offset, length: sectors * 512 - offset % 512 })
    }

    fn compressed_shift(self) -> u32 {
        62 - (self.cluster_bits - 8)
    }
}

impl Mapping {
    /// A cluster of which nothing is stored.
    pub(crate) const UNALLOCATED: Self =
        Self::Plain(Plain { host: None, exclusive: false, allocated: 0, zero: 0 });

    /// Returns the clusters of the file that it takes, by number.
    pub(crate) fn host_clusters(self, cluster_bits: u32) -> Option<std::ops::Range<u64>> {
        match self {
            Self::Compressed { offset, length } => {
                Some(offset >> cluster_bits..((offset + length - 1) >> cluster_bits) + 1)
            }
            Self::Plain(Plain { host, .. }) => {
                host.map(|host| host >> cluster_bits..(host >> cluster_bits) + 1)
            }
        }
    }
}

/// The place in L1 and L2 entries.
pub(crate) const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;

/// Whether the place has one reference, so that it may be changed: QEMU's `COPIED`.
pub(crate) const EXCLUSIVE: u64 = 1 << 63;

const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// The first byte of a file that no entry can point to.
pub(crate) const HOST_LIMIT: u64 = 1 << 56;

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(cluster_bits: u32, entries: Entries) -> Geometry {
        Geometry { cluster_bits, version: Version::V3, entries, place: DataPlace::Image }
    }

    #[test]
    fn entries_survive_being_written_and_read() {
        for cluster_bits in 14..=21 {
            for entries in [Entries::Standard, Entries::Extended] {
                let geometry = geometry(cluster_bits, entries);
                let host = Some(7 << cluster_bits);
                let (half, rest) = (geometry.all() & 0xFFFF, geometry.all() & 0xFFFF_0000);
                for mapping in [
                    Mapping::UNALLOCATED,
                    Mapping::Plain(Plain { host, exclusive: true, allocated: half, zero: rest }),
                    Mapping::Plain(Plain { host, exclusive: false, allocated: 0, zero: half }),
                    Mapping::Plain(Plain { host: None, exclusive: false, allocated: 0, zero: 1 }),
                ] {
                    let (entry, bitmap) = geometry.encode(mapping);
                    assert_eq!(geometry.decode(entry, bitmap).unwrap(), mapping);
                }
            }
        }
    }

    #[test]
    fn compressed_entries_cover_whole_sectors() {
        let geometry = geometry(16, Entries::Standard);
        for (offset, length, found) in [(1000, 24, 24), (1000, 25, 536), (1024, 512, 512)] {
            let (entry, _) = geometry.encode(Mapping::Compressed { offset, length });
            let expected = Mapping::Compressed { offset, length: found };
            assert_eq!(geometry.decode(entry, 0).unwrap(), expected);
        }
    }

    #[test]
    fn compressed_entries_lie_as_the_specification_says() {
        // 64 KiB clusters: bits 0 to 53 are the offset, 54 to 61 the further sectors.
        let geometry = geometry(16, Entries::Standard);
        let entry = COMPRESSED | 3 << 54 | 0x5_0010;
        let expected = Mapping::Compressed { offset: 0x5_0010, length: 4 * 512 - 0x10 };
        assert_eq!(geometry.decode(entry, 0).unwrap(), expected);
        assert_eq!(expected.host_clusters(16), Some(5..6));
    }

    #[test]
    fn refuses_entries_that_contradict_themselves() {
        let extended = geometry(16, Entries::Extended);
        assert!(extended.decode(1 << 16, 1 | 1 << 32).is_err());
        assert!(extended.decode(0, 1).is_err());
        assert!(extended.decode(1 << 15, 1).is_err());
        let mut old = geometry(16, Entries::Standard);
        old.version = Version::V2;
        assert!(old.decode(ZERO, 0).is_err());
    }
}
