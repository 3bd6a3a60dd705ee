//! A disk that counts what its users cost.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_disk::{Disk, Extent, Memory, Resizable, Result};

/// A disk in memory whose users may cost no more than they were allowed.
pub(crate) struct Metered {
    memory: Memory,
    spent: AtomicU64,
    allowed: AtomicU64,
}

impl Metered {
    /// Returns a disk that nothing is allowed on yet.
    pub(crate) fn new(memory: Memory) -> Self {
        Self { memory, spent: AtomicU64::new(0), allowed: AtomicU64::new(0) }
    }

    /// Allows so many more calls, or blocks of 4096 bytes.
    pub(crate) fn allow(&self, calls: u64) {
        self.allowed.fetch_add(calls, Ordering::Relaxed);
    }

    /// Returns the disk without the meter.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    fn spend(&self, bytes: u64) {
        let spent = self.spent.fetch_add(1 + bytes / 4096, Ordering::Relaxed);
        let allowed = self.allowed.load(Ordering::Relaxed);
        assert!(spent < allowed, "more than {allowed} calls for what was asked");
    }
}

impl Disk for Metered {
    fn len(&self) -> u64 {
        self.memory.len()
    }

    fn label(&self) -> &str {
        "image"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.spend(buf.len() as u64);
        self.memory.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.spend(buf.len() as u64);
        self.memory.write_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.spend(0);
        self.memory.extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.spend(0);
        // A hole of any length is one step here too, or the memory would count its blocks.
        let end = range.end.min(range.start.saturating_add(LONGEST_HOLE));
        self.memory.discard(range.start..end)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.spend((range.end - range.start).min(LONGEST_HOLE));
        self.memory.write_zeroes(range)
    }

    fn flush(&self) -> Result<()> {
        self.spend(0);
        self.memory.flush()
    }
}

impl Resizable for Metered {
    fn set_len(&self, len: u64) -> Result<()> {
        self.spend(0);
        self.memory.set_len(len);
        Ok(())
    }
}

/// The longest hole that is made, in bytes.
const LONGEST_HOLE: u64 = 64 << 20;
