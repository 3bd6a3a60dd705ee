//! A disk that remembers every change, to look at what a crash at any moment would have left.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use strongroom_disk::{Disk, Extent, Memory, Resizable, Result};

/// A disk in memory that records every change in order.
#[derive(Debug)]
pub struct RecordingDisk {
    initial: Memory,
    current: Memory,
    changes: Mutex<Vec<Change>>,
}

/// Something that was done to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Bytes were written.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A range was given up.
    Discard(Range<u64>),
    /// A range was made to read as zeros.
    WriteZeroes(Range<u64>),
    /// The disk became longer or shorter.
    SetLen(u64),
    /// Everything before was made durable.
    Flush,
}

/// Whether a crash can leave half a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tearing {
    /// Writes are whole or not there.
    None,
    /// A write may stop at any multiple of 512 bytes.
    Sectors,
}

impl RecordingDisk {
    /// Returns a disk with that content and nothing recorded.
    pub fn new(initial: Memory) -> Self {
        Self { current: initial.clone(), initial, changes: Mutex::default() }
    }

    /// Returns what was recorded so far.
    pub fn changes(&self) -> Vec<Change> {
        self.recorded().clone()
    }

    /// Returns the disk as it was after the first `count` changes.
    ///
    /// # Panics
    ///
    /// When fewer were recorded.
    pub fn replay(&self, count: usize) -> Memory {
        let disk = self.initial.clone();
        self.recorded()[..count].iter().for_each(|change| change.apply(&disk));
        disk
    }

    /// Returns what a crash could have left: the disk before the first change, and after each
    /// prefix of the writes. Each comes with the number of changes that are whole in it.
    pub fn crashes(&self, tearing: Tearing) -> impl Iterator<Item = (usize, Memory)> {
        let disk = self.initial.clone();
        let steps = self.changes().into_iter().enumerate().flat_map(move |(index, change)| {
            let pieces = change.pieces(tearing);
            let last = pieces.len().saturating_sub(1);
            pieces
                .into_iter()
                .enumerate()
                .map(move |(number, piece)| (if number == last { index + 1 } else { index }, piece))
        });
        let first = (0, disk.clone());
        std::iter::once(first).chain(steps.map(move |(whole, piece)| {
            piece.apply(&disk);
            (whole, disk.clone())
        }))
    }

    // A test that panicked elsewhere does not make the record wrong.
    fn recorded(&self) -> MutexGuard<'_, Vec<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the change and records it as one step, so that the record has the order of the disk.
    fn change(&self, change: Change, apply: impl FnOnce(&Memory) -> Result<()>) -> Result<()> {
        let mut changes = self.recorded();
        apply(&self.current)?;
        changes.push(change);
        Ok(())
    }
}

impl Change {
    /// Does it again, to another disk.
    ///
    /// # Panics
    ///
    /// When it is not within that disk.
    pub fn apply(&self, disk: &Memory) {
        match self {
            Self::Write { offset, bytes } => disk.write_at(bytes, *offset),
            Self::Discard(range) => disk.discard(range.clone()),
            Self::WriteZeroes(range) => disk.write_zeroes(range.clone()),
            Self::SetLen(len) => {
                disk.set_len(*len);
                Ok(())
            }
            Self::Flush => Ok(()),
        }
        .expect("the change was within the disk when it was recorded");
    }

    /// Returns the change in the pieces that a crash can tell apart: none for what changes nothing.
    fn pieces(self, tearing: Tearing) -> Vec<Self> {
        match (self, tearing) {
            (Self::Flush, _) => Vec::new(),
            (Self::Write { offset, bytes }, Tearing::Sectors) => {
                let head = (offset.next_multiple_of(512) - offset).min(bytes.len() as u64) as usize;
                let (head, rest) = bytes.split_at(head);
                let mut at = offset;
                std::iter::once(head)
                    .chain(rest.chunks(512))
                    .filter(|piece| !piece.is_empty())
                    .map(|piece| {
                        let write = Self::Write { offset: at, bytes: piece.to_vec() };
                        at += piece.len() as u64;
                        write
                    })
                    .collect()
            }
            (change, _) => vec![change],
        }
    }
}

impl Disk for RecordingDisk {
    fn len(&self) -> u64 {
        self.current.len()
    }

    fn label(&self) -> &str {
        "recording"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.current.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let change = Change::Write { offset, bytes: buf.to_vec() };
        self.change(change, |disk| disk.write_at(buf, offset))
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.current.extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.change(Change::Discard(range.clone()), |disk| disk.discard(range))
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.change(Change::WriteZeroes(range.clone()), |disk| disk.write_zeroes(range))
    }

    fn flush(&self) -> Result<()> {
        self.change(Change::Flush, Disk::flush)
    }
}

impl Resizable for RecordingDisk {
    fn set_len(&self, len: u64) -> Result<()> {
        self.change(Change::SetLen(len), |disk| {
            disk.set_len(len);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use strongroom_disk::conformance;

    use super::*;

    #[test]
    fn passes_the_conformance_suite() {
        conformance::run(512, &|len| Box::new(RecordingDisk::new(Memory::new(len))));
    }

    #[test]
    fn replays_every_prefix() {
        let disk = RecordingDisk::new(Memory::from(&[9; 2000][..]));
        disk.write_at(&[1; 1000], 100).unwrap();
        disk.flush().unwrap();
        disk.write_zeroes(0..2000).unwrap();
        assert_eq!(disk.replay(0).to_vec(), [9; 2000]);
        assert_eq!(disk.replay(2).to_vec()[100..1100], [1; 1000]);
        assert_eq!(disk.replay(3).to_vec(), [0; 2000]);
        assert_eq!(disk.changes()[1], Change::Flush);
    }

    #[test]
    fn crashes_come_after_every_sector_when_writes_tear() {
        let disk = RecordingDisk::new(Memory::new(2048));
        disk.write_at(&[1; 1000], 100).unwrap();
        disk.flush().unwrap();
        disk.write_at(&[2; 512], 512).unwrap();

        let written = |disk: &Memory| disk.to_vec().iter().filter(|&&byte| byte != 0).count();
        let whole: Vec<_> =
            disk.crashes(Tearing::None).map(|(count, disk)| (count, written(&disk))).collect();
        assert_eq!(whole, [(0, 0), (1, 1000), (3, 1000)]);
        let torn: Vec<_> =
            disk.crashes(Tearing::Sectors).map(|(count, disk)| (count, written(&disk))).collect();
        assert_eq!(torn, [(0, 0), (0, 412), (0, 924), (1, 1000), (3, 1000)]);
    }
}
