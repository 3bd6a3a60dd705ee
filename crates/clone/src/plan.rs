//! How to do the work.

use std::num::{NonZeroU64, NonZeroUsize};
use std::thread;

/// How a pass over two disks is done. The result does not depend on threads and chunks.
///
/// A copy takes one chunk of memory per thread, a comparison two, and a stream one more than it has
/// threads. Chunks are 256 KiB, or as long as the alignment if that is more: eight threads and
/// clusters of 2 MiB take 16 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How many threads work, the calling one included.
    pub threads: NonZeroUsize,
    /// What to do where the source reads as zeros. Comparisons ignore it.
    pub zeroes: Zeroes,
    /// How many bytes a second all threads together may move, `None` for no limit. Zeros that are
    /// passed over cost nothing; zeros that are written do.
    pub rate_limit: Option<NonZeroU64>,
    /// A wish: the alignment may be larger.
    chunk: NonZeroUsize,
    /// A power of two, at least [`PAGE`].
    alignment: usize,
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

impl Plan {
    /// Returns a plan for so many threads with chunks of the default size and no limit.
    pub fn new(threads: NonZeroUsize, zeroes: Zeroes) -> Self {
        Self { threads, zeroes, rate_limit: None, chunk: DEFAULT_CHUNK, alignment: PAGE }
    }

    /// Returns a plan with a thread for each processor that this process may use, up to eight:
    /// beyond that the memory, or the lock of the target's file, is the limit.
    pub fn for_this_machine(zeroes: Zeroes) -> Self {
        let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::new(processors.min(MOST_THREADS), zeroes)
    }

    /// Chooses the size of a chunk in bytes, rounded up to a multiple of the alignment.
    #[must_use]
    pub fn with_chunk_size(mut self, bytes: NonZeroUsize) -> Self {
        self.chunk = bytes;
        self
    }

    /// Chooses at multiples of how many bytes pieces begin and runs of zeros are told from data,
    /// rounded up to a power of two that is at least 4096: what the target writes at once, such as
    /// the cluster of a compressed image.
    #[must_use]
    pub fn with_alignment(mut self, bytes: NonZeroUsize) -> Self {
        self.alignment = bytes.get().next_power_of_two().max(PAGE);
        self
    }

    /// Limits how many bytes a second are moved.
    #[must_use]
    pub fn with_rate_limit(mut self, bytes: Option<NonZeroU64>) -> Self {
        self.rate_limit = bytes;
        self
    }

    /// Returns the size of a chunk in bytes: a multiple of the alignment.
    pub fn chunk_size(&self) -> usize {
        self.chunk.get().next_multiple_of(self.alignment)
    }

    /// Returns the alignment in bytes: a power of two, at least 4096.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Returns the shortest run of zeros that becomes a hole: shorter ones would save little and
    /// cost a write and an entry in the file system's map each.
    pub(crate) fn granule(&self) -> usize {
        self.alignment.max(SHORTEST_HOLE)
    }
}

/// The least alignment: the largest encryption sector, a page, and the block of most file systems.
pub(crate) const PAGE: usize = 4096;

const DEFAULT_CHUNK: NonZeroUsize = NonZeroUsize::new(256 << 10).expect("256 KiB are not zero");

const SHORTEST_HOLE: usize = 32 << 10;

const MOST_THREADS: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(alignment: usize, chunk: usize) -> Plan {
        Plan::new(NonZeroUsize::MIN, Zeroes::Skip)
            .with_chunk_size(NonZeroUsize::new(chunk).unwrap())
            .with_alignment(NonZeroUsize::new(alignment).unwrap())
    }

    #[test]
    fn chunks_are_multiples_of_the_alignment_whichever_is_chosen_first() {
        for (alignment, chunk, expected) in
            [(1, 1, 4096), (512, 4097, 8192), (65536, 1, 65536), (2 << 20, 3 << 20, 4 << 20)]
        {
            let plan = plan(alignment, chunk);
            assert_eq!(plan.chunk_size(), expected);
            let other = Plan::new(NonZeroUsize::MIN, Zeroes::Skip)
                .with_alignment(NonZeroUsize::new(alignment).unwrap())
                .with_chunk_size(NonZeroUsize::new(chunk).unwrap());
            assert_eq!(other, plan);
        }
    }

    #[test]
    fn alignments_are_powers_of_two_of_at_least_a_page() {
        for (wish, alignment, granule) in [
            (1, 4096, 32768),
            (4097, 8192, 32768),
            (65536, 65536, 65536),
            (2 << 20, 2 << 20, 2 << 20),
        ] {
            assert_eq!((plan(wish, 1).alignment(), plan(wish, 1).granule()), (alignment, granule));
        }
    }
}
