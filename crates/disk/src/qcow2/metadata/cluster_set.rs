//! Sets of clusters that stay small, whoever has made the image.

use std::collections::BTreeMap;

/// Clusters by number. Neighbours share memory, so that the tables of a disk that grew take little;
/// tables that are scattered on purpose over a long file are refused rather than paid for.
#[derive(Debug, Default)]
pub(in crate::qcow2) struct ClusterSet {
    chunks: BTreeMap<u64, Chunk>,
    /// An estimate of what it takes, in bytes.
    memory: usize,
}

/// The clusters of a set whose numbers differ in the lowest 16 bits only.
#[derive(Debug)]
enum Chunk {
    /// The lowest 16 bits of few, in order.
    Few(Vec<u16>),
    /// A bit for each.
    Many(Box<[u64; WORDS]>),
}

/// What became of a cluster that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::qcow2) enum Added {
    /// It is in the set now.
    New,
    /// It was there already.
    Again,
    /// The set would become too large.
    TooMany,
}

impl ClusterSet {
    /// Adds a cluster.
    pub(in crate::qcow2) fn insert(&mut self, cluster: u64) -> Added {
        if self.memory > MEMORY {
            return Added::TooMany;
        }
        let chunk = self.chunks.entry(cluster >> 16).or_insert_with(|| {
            self.memory += CHUNK;
            Chunk::Few(Vec::new())
        });
        let low = cluster as u16;
        if chunk.contains(low) {
            return Added::Again;
        }
        self.memory += chunk.insert(low);
        Added::New
    }

    /// Removes a cluster, if it is there.
    pub(in crate::qcow2) fn remove(&mut self, cluster: u64) {
        let low = cluster as u16;
        match self.chunks.get_mut(&(cluster >> 16)) {
            None => {}
            Some(Chunk::Few(few)) => {
                if let Ok(place) = few.binary_search(&low) {
                    few.remove(place);
                }
            }
            Some(Chunk::Many(words)) => words[usize::from(low) / 64] &= !(1 << (low % 64)),
        }
    }

    /// Returns whether a cluster is in the set.
    pub(in crate::qcow2) fn contains(&self, cluster: u64) -> bool {
        self.chunks.get(&(cluster >> 16)).is_some_and(|chunk| chunk.contains(cluster as u16))
    }
}

impl Chunk {
    fn contains(&self, low: u16) -> bool {
        match self {
            Self::Few(few) => few.binary_search(&low).is_ok(),
            Self::Many(words) => words[usize::from(low) / 64] >> (low % 64) & 1 == 1,
        }
    }

    /// Adds what is not there. Returns how much larger it became.
    fn insert(&mut self, low: u16) -> usize {
        match self {
            Self::Many(words) => {
                words[usize::from(low) / 64] |= 1 << (low % 64);
                return 0;
            }
            Self::Few(few) if few.len() < FEW => {
                let before = few.capacity();
                let place = few.partition_point(|&other| other < low);
                few.insert(place, low);
                return (few.capacity() - before) * 2;
            }
            Self::Few(few) => {
                let mut words = Box::new([0; WORDS]);
                for &low in few.iter().chain([&low]) {
                    words[usize::from(low) / 64] |= 1 << (low % 64);
                }
                *self = Self::Many(words);
            }
        }
        WORDS * 8 - FEW * 2
    }
}

/// The words that have a bit for each cluster of a chunk.
const WORDS: usize = 1024;

/// The most clusters of a chunk that are listed: with more, bits take less.
const FEW: usize = 2048;

/// What a chunk takes besides its clusters, in bytes.
const CHUNK: usize = 80;

/// What a set may take, in bytes: enough for the metadata of the largest images that people have.
const MEMORY: usize = 12 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_there_until_they_are_removed() {
        let mut set = ClusterSet::default();
        // As many as make the first chunk one of bits.
        let clusters = (0..5000).map(|number| number * 7).chain([1 << 40, (1 << 47) - 1]);
        for cluster in clusters.clone() {
            assert!(!set.contains(cluster));
            assert_eq!(set.insert(cluster), Added::New);
            assert_eq!(set.insert(cluster), Added::Again);
        }
        for cluster in clusters {
            assert!(set.contains(cluster) && !set.contains(cluster + 1));
            set.remove(cluster);
            assert!(!set.contains(cluster));
        }
    }

    #[test]
    fn tables_of_a_large_image_fit_and_scattered_ones_do_not() {
        let mut set = ClusterSet::default();
        // Every L2 table that 32 MiB of L1 table can name, each followed by its 64 clusters.
        assert!((0..4 << 20).all(|number| set.insert(number * 65) == Added::New));
        let mut set = ClusterSet::default();
        let fitting = (0..4 << 20).take_while(|number| set.insert(number << 20) == Added::New);
        assert!((50_000..200_000).contains(&fitting.count()));
    }
}
