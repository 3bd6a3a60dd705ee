//! Parts of L2 tables and refcount blocks in memory, the most recently used ones.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;

use super::invalid;
use crate::{Disk, Result};

/// Parts of tables by their place in the file.
#[derive(Debug)]
pub(super) struct Slices {
    size: u64,
    capacity: usize,
    slices: HashMap<u64, Slice>,
    /// Every slice once, the next one to be looked at for removal first.
    order: VecDeque<u64>,
    dirty: [BTreeSet<u64>; 3],
}

/// What a slice is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SliceKind {
    L2 = 0,
    Refcounts = 1,
    L1 = 2,
}

#[derive(Debug)]
struct Slice {
    bytes: Box<[u8]>,
    kind: SliceKind,
    /// Whether it was used since it was last looked at for removal.
    used: bool,
}

impl Slices {
    /// Returns nothing yet, for an image with clusters of so many bytes.
    pub(super) fn new(cluster: u64) -> Self {
        let size = cluster.min(LARGEST_SLICE);
        Self {
            size,
            capacity: (MEMORY / size) as usize,
            slices: HashMap::new(),
            order: VecDeque::new(),
            dirty: Default::default(),
        }
    }

    /// Returns the bytes of a slice.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns the bytes from `offset` to the end of the slice.
    pub(super) fn read(&mut self, file: &dyn Disk, offset: u64, kind: SliceKind) -> Result<&[u8]> {
        let within = (offset % self.size) as usize;
        Ok(&self.load(file, offset - within as u64, kind)?.bytes[within..])
    }

    /// Returns the bytes from `offset` to the end of the slice, to be changed.
    pub(super) fn change(
        &mut self,
        file: &dyn Disk,
        offset: u64,
        kind: SliceKind,
    ) -> Result<&mut [u8]> {
        let within = (offset % self.size) as usize;
        let start = offset - within as u64;
        self.load(file, start, kind)?;
        self.dirty[kind as usize].insert(start);
        let slice = self.slices.get_mut(&start).expect("it was loaded just now");
        Ok(&mut slice.bytes[within..])
    }

    /// Returns whether anything of a kind is yet to be written.
    pub(super) fn is_dirty(&self, kind: SliceKind) -> bool {
        !self.dirty[kind as usize].is_empty()
    }

    /// Returns whether so much is yet to be written that it should be, to make room.
    pub(super) fn is_crowded(&self) -> bool {
        self.dirty.iter().map(BTreeSet::len).sum::<usize>() > self.capacity / 2
    }

    /// Writes what was changed of a kind.
    pub(super) fn write_back(&mut self, file: &dyn Disk, kind: SliceKind) -> Result<()> {
        while let Some(&offset) = self.dirty[kind as usize].first() {
            file.write_at(&self.slices[&offset].bytes, offset)?;
            self.dirty[kind as usize].remove(&offset);
        }
        Ok(())
    }

    /// Forgets slices, with what was changed of them: they mean nothing any more.
    pub(super) fn forget(&mut self, range: Range<u64>) {
        for offset in range.step_by(self.size as usize) {
            if let Some(slice) = self.slices.remove(&offset) {
                self.dirty[slice.kind as usize].remove(&offset);
                self.order.retain(|&other| other != offset);
            }
        }
    }

    fn load(&mut self, file: &dyn Disk, start: u64, kind: SliceKind) -> Result<&mut Slice> {
        if !self.slices.contains_key(&start) {
            self.make_room();
            // A file may end with its L1 table, of which whoever asks knows the length.
            let there = match kind {
                SliceKind::L1 => file.len().saturating_sub(start).min(self.size),
                SliceKind::L2 | SliceKind::Refcounts => self.size,
            };
            if start.checked_add(there.max(1)).is_none_or(|end| end > file.len()) {
                return Err(invalid(
                    file,
                    format!("the {} at {start:#x} lies past the end of the file", kind.name()),
                ));
            }
            let mut bytes = vec![0; self.size as usize].into_boxed_slice();
            file.read_at(&mut bytes[..there as usize], start)?;
            self.slices.insert(start, Slice { bytes, kind, used: true });
            self.order.push_back(start);
        }
        let slice = self.slices.get_mut(&start).expect("it is there or was read just now");
        if slice.kind != kind {
            let (is, was) = (kind.name(), slice.kind.name());
            return Err(invalid(file, format!("the {is} at {start:#x} is also a {was}")));
        }
        slice.used = true;
        Ok(slice)
    }

    /// Removes slices that were not used for long. Those that are yet to be written stay.
    fn make_room(&mut self) {
        let mut looks = self.order.len() * 2;
        while self.slices.len() >= self.capacity && looks > 0 {
            looks -= 1;
            let Some(offset) = self.order.pop_front() else { return };
            let slice = self.slices.get_mut(&offset).expect("the order has slices only");
            if slice.used || self.dirty[slice.kind as usize].contains(&offset) {
                slice.used = false;
                self.order.push_back(offset);
            } else {
                self.slices.remove(&offset);
            }
        }
    }
}

impl SliceKind {
    fn name(self) -> &'static str {
        match self {
            Self::L2 => "L2 table",
            Self::Refcounts => "refcount block",
            Self::L1 => "L1 table",
        }
    }
}

/// The most bytes that are read of a table at once.
const LARGEST_SLICE: u64 = 4096;

/// The bytes of all slices together, except when more is yet to be written.
const MEMORY: u64 = 8 << 20;
