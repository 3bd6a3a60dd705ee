//! How often each cluster of a file is referred to.

use std::collections::BTreeMap;

/// References counted by cluster; memory only where there are any.
#[derive(Debug, Default)]
pub(super) struct Counts {
    chunks: BTreeMap<u64, Box<[u8; CHUNK]>>,
    /// The counts that do not fit into a byte.
    large: BTreeMap<u64, u16>,
}

/// Whether the references to a cluster were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// They were.
    Yes,
    /// There would be counts for too many clusters.
    TooMany,
}

impl Counts {
    /// Counts further references to a cluster.
    pub(super) fn add(&mut self, cluster: u64, references: u16) -> Counted {
        let number = cluster / CHUNK as u64;
        let is_full = self.chunks.len() >= MOST_CHUNKS || self.large.len() >= MOST_LARGE;
        if is_full && !self.chunks.contains_key(&number) {
            return Counted::TooMany;
        }
        self.set(cluster, self.of(cluster).saturating_add(references));
        Counted::Yes
    }

    /// Counts off references to a cluster.
    pub(super) fn subtract(&mut self, cluster: u64, references: u16) {
        self.set(cluster, self.of(cluster).saturating_sub(references));
    }

    /// Returns the references to a cluster; 65535 stands for any larger number too.
    pub(super) fn of(&self, cluster: u64) -> u16 {
        let Some(chunk) = self.chunks.get(&(cluster / CHUNK as u64)) else { return 0 };
        match chunk[(cluster % CHUNK as u64) as usize] {
            LARGE => self.large.get(&cluster).copied().unwrap_or(LARGE.into()),
            count => count.into(),
        }
    }

    /// Returns the clusters that are referred to, in order, with their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u16)> {
        self.chunks.iter().flat_map(|(number, chunk)| {
            let used = (number * CHUNK as u64..).zip(chunk.iter()).filter(|(_, count)| **count > 0);
            used.map(|(cluster, _)| (cluster, self.of(cluster)))
        })
    }

    /// Returns the number of the last cluster that is referred to, and one more.
    pub(super) fn end(&self) -> u64 {
        self.chunks
            .iter()
            .rev()
            .find_map(|(number, chunk)| {
                let last = chunk.iter().rposition(|&count| count > 0)?;
                Some(number * CHUNK as u64 + last as u64 + 1)
            })
            .unwrap_or(0)
    }

    fn set(&mut self, cluster: u64, count: u16) {
        let chunk = self.chunks.entry(cluster / CHUNK as u64);
        let chunk = chunk.or_insert_with(|| Box::new([0; CHUNK]));
        let place = &mut chunk[(cluster % CHUNK as u64) as usize];
        if *place == LARGE {
            self.large.remove(&cluster);
        }
        *place = u8::try_from(count).unwrap_or(LARGE);
        if *place == LARGE {
            self.large.insert(cluster, count);
        }
    }
}

/// The clusters that are counted together.
const CHUNK: usize = 1024;

/// The most chunks that are kept: 24 MiB, for 1.5 TiB in clusters of 64 KiB.
const MOST_CHUNKS: usize = 24 << 10;

/// Stands for all counts from here on.
const LARGE: u8 = u8::MAX;

/// The most counts that do not fit into a byte.
const MOST_LARGE: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_size_are_kept_and_taken_off() {
        let mut counts = Counts::default();
        for (cluster, count) in [(0, 1), (1, 254), (2, 255), (3, 256), (5000, u16::MAX)] {
            assert_eq!(counts.add(cluster, count - 1), Counted::Yes);
            counts.add(cluster, 1);
            assert_eq!(counts.of(cluster), count);
        }
        counts.add(5000, 9);
        let all: Vec<_> = counts.iter().collect();
        assert_eq!(all, [(0, 1), (1, 254), (2, 255), (3, 256), (5000, u16::MAX)]);
        assert_eq!((counts.end(), counts.of(4), counts.of(1 << 40)), (5001, 0, 0));
        counts.subtract(3, 250);
        counts.subtract(5000, u16::MAX);
        assert_eq!((counts.of(3), counts.end()), (6, 4));
    }

    #[test]
    fn clusters_scattered_over_a_long_file_take_no_more_memory_than_is_allowed() {
        let mut counts = Counts::default();
        let counted =
            (0..u64::MAX).take_while(|number| counts.add(number << 20, 1) == Counted::Yes);
        assert_eq!(counted.count(), MOST_CHUNKS);
        // What is counted already may be referred to again.
        assert_eq!(counts.add(0, 1), Counted::Yes);
    }
}
