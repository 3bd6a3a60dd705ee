//! How often each cluster of a file is referred to.

use std::collections::BTreeMap;

/// References counted by cluster; memory only where there are any.
#[derive(Debug, Default)]
pub(super) struct Counts {
    chunks: BTreeMap<u64, Box<[u16; CHUNK]>>,
}

impl Counts {
    /// Counts further references to a cluster.
    pub(super) fn add(&mut self, cluster: u64, references: u16) {
        let count = self.entry(cluster);
        *count = count.saturating_add(references);
    }

    /// Counts off references to a cluster.
    pub(super) fn subtract(&mut self, cluster: u64, references: u16) {
        let count = self.entry(cluster);
        *count = count.saturating_sub(references);
    }

    /// Returns the references to a cluster; 65535 stands for any larger number too.
    pub(super) fn of(&self, cluster: u64) -> u16 {
        self.chunks
            .get(&(cluster / CHUNK as u64))
            .map_or(0, |chunk| chunk[(cluster % CHUNK as u64) as usize])
    }

    /// Returns the clusters that are referred to, in order, with their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u16)> {
        self.chunks.iter().flat_map(|(number, chunk)| {
            (number * CHUNK as u64..).zip(chunk.iter().copied()).filter(|(_, count)| *count > 0)
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

    fn entry(&mut self, cluster: u64) -> &mut u16 {
        let chunk = self.chunks.entry(cluster / CHUNK as u64);
        &mut chunk.or_insert_with(|| Box::new([0; CHUNK]))[(cluster % CHUNK as u64) as usize]
    }
}

/// The clusters that are counted together.
const CHUNK: usize = 1024;
