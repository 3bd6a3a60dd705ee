//! The blocks that are in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The bytes of a block.
pub(super) type Block = Arc<Vec<u8>>;

/// Blocks by number, and those that are on their way.
#[derive(Default)]
pub(super) struct Cache {
    blocks: BTreeMap<u64, Entry>,
    loading: BTreeSet<u64>,
    /// Buffers of blocks that are gone, since new ones cost time.
    spare: Vec<Vec<u8>>,
    clock: u64,
}

struct Entry {
    block: Block,
    used: u64,
}

impl Cache {
    pub(super) fn find(&mut self, number: u64) -> Option<Block> {
        self.clock += 1;
        let entry = self.blocks.get_mut(&number)?;
        entry.used = self.clock;
        Some(Arc::clone(&entry.block))
    }

    pub(super) fn is_loading(&self, number: u64) -> bool {
        self.loading.contains(&number)
    }

    pub(super) fn has_room(&self) -> bool {
        self.blocks.len() + self.loading.len() < CAPACITY
    }

    /// Removes the block before `end` that was not used for the longest time.
    pub(super) fn evict_before(&mut self, end: u64) -> bool {
        let oldest = self.blocks.range(..end).min_by_key(|(_, entry)| entry.used);
        let Some(number) = oldest.map(|(number, _)| *number) else { return false };
        self.evict(number);
        true
    }

    /// Removes the block farthest behind when there is one block more than there should be.
    pub(super) fn evict_surplus(&mut self) {
        if self.blocks.len() + self.loading.len() > CAPACITY
            && let Some(number) = self.blocks.keys().next_back().copied()
        {
            self.evict(number);
        }
    }

    /// Notes that someone loads a block, and returns a buffer for it.
    pub(super) fn begin(&mut self, number: u64) -> Vec<u8> {
        self.loading.insert(number);
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn insert(&mut self, number: u64, block: Block) {
        self.clock += 1;
        self.blocks.insert(number, Entry { block, used: self.clock });
    }

    /// Notes that nobody loads the block any more.
    pub(super) fn end(&mut self, number: u64) {
        self.loading.remove(&number);
    }

    pub(super) fn evict(&mut self, number: u64) {
        // A block that someone still reads goes with its last reader.
        if let Some(entry) = self.blocks.remove(&number)
            && let Some(buffer) = Arc::into_inner(entry.block)
            && self.spare.len() < SPARE
        {
            self.spare.push(buffer);
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.blocks.keys().collect();
        f.debug_struct("Cache").field("blocks", &numbers).field("loading", &self.loading).finish()
    }
}

/// How many blocks there are at a time, those on their way counted.
const CAPACITY: usize = 16;

const SPARE: usize = 2;
