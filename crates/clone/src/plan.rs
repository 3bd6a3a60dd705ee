//! How to do the work, and whom to tell about it.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// How a pass over two disks is done. The result does not depend on threads and chunks.
///
/// A copy takes one chunk of memory per thread, a comparison two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How many threads work, the calling one included.
    pub threads: NonZeroUsize,
    /// What to do where the source reads as zeros. Comparisons ignore it.
    pub zeroes: Zeroes,
    /// A positive multiple of [`ALIGNMENT`].
    chunk: usize,
}

/// What a copy does where the source reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Zeroes {
    /// Writes them like any other bytes. An encrypted target needs that: what was never written
    /// there reads as noise.
    Write,
    /// Leaves the target alone. Only for a target that reads as zeros there already, such as a new
    /// file, whose holes are kept that way. Zeros that the source holds as data become holes too.
    Skip,
}

/// Is told how the work goes on.
pub trait Progress: Sync {
    /// So many more bytes of the disk are done, holes included. Called from any thread.
    fn advance(&self, bytes: u64);
}

impl Plan {
    /// Returns a plan for so many threads with chunks of the default size.
    pub fn new(threads: NonZeroUsize, zeroes: Zeroes) -> Self {
        Self { threads, zeroes, chunk: DEFAULT_CHUNK }
    }

    /// Returns a plan with a thread for each processor that this process may use, up to eight:
    /// beyond that the memory, or the lock of the target's file, is the limit.
    pub fn for_this_machine(zeroes: Zeroes) -> Self {
        let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::new(processors.min(MOST_THREADS), zeroes)
    }

    /// Chooses the size of a chunk in bytes, rounded up to a multiple of 4096.
    #[must_use]
    pub fn with_chunk_size(mut self, bytes: NonZeroUsize) -> Self {
        self.chunk = bytes.get().next_multiple_of(ALIGNMENT);
        self
    }

    /// Returns the size of a chunk in bytes.
    pub fn chunk_size(&self) -> usize {
        self.chunk
    }
}

impl Progress for () {
    fn advance(&self, _bytes: u64) {}
}

/// Counts the bytes.
impl Progress for AtomicU64 {
    fn advance(&self, bytes: u64) {
        self.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Chunks begin at multiples of this: the largest encryption sector, a page, and the block of most
/// file systems.
pub(crate) const ALIGNMENT: usize = 4096;

const DEFAULT_CHUNK: usize = 256 << 10;

const MOST_THREADS: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");
