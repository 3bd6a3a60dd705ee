//! The queue of work: a disk cut into chunks along its extents.

use std::sync::{Mutex, PoisonError};

use strongroom_disk::{Error, Extent, ExtentKind};

use crate::plan::ALIGNMENT;

/// Hands out a disk from beginning to end, to any number of takers.
///
/// # Guarantees
///
/// Pieces begin at multiples of [`ALIGNMENT`]; data comes in pieces of at most a chunk, and
/// so do holes if wanted.
pub(crate) struct Chunks<F> {
    len: u64,
    chunk: u64,
    holes: Holes,
    extent_at: F,
    state: Mutex<State>,
}

/// How long a hole may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holes {
    /// At most a chunk: there is work to do in them.
    Chunks,
    /// Any length: they are passed over.
    Whole,
}

struct State {
    next: u64,
    extent: Extent,
}

impl<F: Fn(u64) -> Result<Extent, Error>> Chunks<F> {
    /// Returns the pieces of a disk of `len` bytes whose extents `extent_at` tells.
    pub(crate) fn new(len: u64, chunk: usize, holes: Holes, extent_at: F) -> Self {
        let state = State { next: 0, extent: Extent { range: 0..0, kind: ExtentKind::Data } };
        Self { len, chunk: chunk as u64, holes, extent_at, state: Mutex::new(state) }
    }

    /// Returns the next piece, `None` after the last.
    pub(crate) fn next(&self) -> Result<Option<Extent>, Error> {
        // A taker that panicked did so before it changed anything.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let start = state.next;
        if start >= self.len {
            return Ok(None);
        }
        if start >= state.extent.range.end {
            state.extent = (self.extent_at)(start)?;
        }
        let piece = self.piece(start, &state.extent);
        state.next = piece.range.end;
        Ok(Some(piece))
    }

    /// Returns the piece at `start`, which lies in `extent`.
    fn piece(&self, start: u64, extent: &Extent) -> Extent {
        let end = extent.range.end;
        let chunk_end = start - start % self.chunk + self.chunk;
        // Where an extent ends within a block, that block is data.
        let hole_end = if end >= self.len { self.len } else { round_down(end) };
        if extent.kind.reads_as_zeros() && hole_end > start {
            let end = match self.holes {
                Holes::Chunks => hole_end.min(chunk_end),
                Holes::Whole => hole_end,
            };
            return Extent { range: start..end, kind: ExtentKind::Zero };
        }
        let data_end = match extent.kind {
            ExtentKind::Data => end.next_multiple_of(ALIGNMENT as u64),
            ExtentKind::Unallocated | ExtentKind::Zero => start + ALIGNMENT as u64,
        };
        Extent { range: start..data_end.min(chunk_end).min(self.len), kind: ExtentKind::Data }
    }
}

fn round_down(offset: u64) -> u64 {
    offset - offset % ALIGNMENT as u64
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// Extents that end at `borders`, holes and data in turn, a hole first.
    fn all(borders: &[u64], chunk: usize, holes: Holes) -> Vec<(Range<u64>, ExtentKind)> {
        let len = *borders.last().unwrap();
        let chunks = Chunks::new(len, chunk, holes, |offset| {
            let index = borders.iter().position(|&border| offset < border).unwrap();
            let kind = if index % 2 == 0 { ExtentKind::Zero } else { ExtentKind::Data };
            Ok(Extent { range: offset..borders[index], kind })
        });
        std::iter::from_fn(|| chunks.next().unwrap())
            .map(|extent| (extent.range, extent.kind))
            .collect()
    }

    #[test]
    fn data_ends_at_chunks_and_holes_at_extents() {
        use ExtentKind::{Data, Zero};
        assert_eq!(
            all(&[1 << 30, (1 << 30) + 20480, 1 << 31], 16384, Holes::Whole),
            [
                (0..1 << 30, Zero),
                (1 << 30..(1 << 30) + 16384, Data),
                ((1 << 30) + 16384..(1 << 30) + 20480, Data),
                ((1 << 30) + 20480..1 << 31, Zero),
            ]
        );
        assert_eq!(all(&[4096, 20000], 16384, Holes::Whole)[1], (4096..16384, Data));
        assert_eq!(all(&[4096, 20000], 16384, Holes::Whole)[2], (16384..20000, Data));
    }

    #[test]
    fn a_block_that_is_partly_data_is_data() {
        use ExtentKind::{Data, Zero};
        assert_eq!(
            all(&[5000, 5001, 5002, 5003, 9000, 9001, 20000, 20001, 30001], 16384, Holes::Whole),
            [(0..4096, Zero), (4096..8192, Data), (8192..12288, Data), (12288..16384, Zero)]
                .into_iter()
                .chain([(16384..20480, Data), (20480..30001, Zero)])
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn holes_end_at_chunks_where_there_is_work_in_them() {
        let found = all(&[20000, 24576], 8192, Holes::Chunks);
        let ranges: Vec<_> = found.into_iter().map(|(range, _)| range).collect();
        assert_eq!(ranges, [0..8192, 8192..16384, 16384..20480, 20480..24576]);
    }

    #[test]
    fn an_empty_disk_has_no_pieces() {
        assert!(Chunks::new(0, 4096, Holes::Whole, |_| unreachable!()).next().unwrap().is_none());
    }
}
