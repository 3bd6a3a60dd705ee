//! A disk cut into chunks along its extents.

use std::ops::Range;

use strongroom_disk::{Error, Extent, ExtentKind};

use crate::Plan;

/// A disk from beginning to end, piece by piece.
///
/// # Guarantees
///
/// Pieces begin at multiples of the plan's alignment; data comes in pieces of at most a chunk, and
/// so do holes if wanted.
pub(crate) struct Chunks<F> {
    /// What is left.
    rest: Range<u64>,
    chunk: u64,
    /// A power of two.
    alignment: u64,
    holes: Holes,
    extent_at: F,
    extent: Extent,
}

/// How long a hole may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holes {
    /// At most a chunk: there is work to do in them.
    Chunks,
    /// Any length: they are passed over.
    Whole,
}

impl<F: Fn(u64) -> Result<Extent, Error>> Chunks<F> {
    /// Returns the pieces of a range, at least from its start on, of a disk that ends with it and
    /// whose extents `extent_at` tells.
    pub(crate) fn new(range: Range<u64>, plan: &Plan, holes: Holes, extent_at: F) -> Self {
        let (chunk, alignment) = (plan.chunk_size() as u64, plan.alignment() as u64);
        let rest = align_down(range.start, alignment)..range.end;
        let extent = Extent { range: 0..0, kind: ExtentKind::Data };
        Self { rest, chunk, alignment, holes, extent_at, extent }
    }

    /// Returns the next piece, `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Extent>, Error> {
        let start = self.rest.start;
        if self.rest.is_empty() {
            return Ok(None);
        }
        if start >= self.extent.range.end {
            self.extent = (self.extent_at)(start)?;
        }
        let piece = self.piece(start, &self.extent);
        self.rest.start = piece.range.end;
        Ok(Some(piece))
    }

    /// Returns the piece at `start`, which lies in `extent`.
    fn piece(&self, start: u64, extent: &Extent) -> Extent {
        let (end, len) = (extent.range.end, self.rest.end);
        let chunk_end = (start - start % self.chunk).saturating_add(self.chunk);
        // Where an extent ends within a block, that block is data.
        let hole_end = if end >= len { len } else { align_down(end, self.alignment) };
        if extent.kind.reads_as_zeros() && hole_end > start {
            let end = match self.holes {
                Holes::Chunks => hole_end.min(chunk_end),
                Holes::Whole => hole_end,
            };
            return Extent { range: start..end, kind: ExtentKind::Zero };
        }
        let data_end = match extent.kind {
            ExtentKind::Data => align_up(end, self.alignment),
            ExtentKind::Unallocated | ExtentKind::Zero => start.saturating_add(self.alignment),
        };
        Extent { range: start..data_end.min(chunk_end).min(len), kind: ExtentKind::Data }
    }
}

/// Rounds down to a multiple of a power of two, without a division for each piece.
fn align_down(offset: u64, alignment: u64) -> u64 {
    offset & !(alignment - 1)
}

/// Rounds a positive offset up to a multiple of a power of two, or to the largest number.
fn align_up(offset: u64, alignment: u64) -> u64 {
    ((offset - 1) | (alignment - 1)).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::Zeroes;

    fn plan(chunk: usize) -> Plan {
        Plan::new(NonZeroUsize::MIN, Zeroes::Skip)
            .with_chunk_size(NonZeroUsize::new(chunk).unwrap())
    }

    /// Extents that end at `borders`, holes and data in turn, a hole first.
    fn all(borders: &[u64], chunk: usize, holes: Holes) -> Vec<(Range<u64>, ExtentKind)> {
        from(0, borders, &plan(chunk), holes)
    }

    fn from(
        start: u64,
        borders: &[u64],
        plan: &Plan,
        holes: Holes,
    ) -> Vec<(Range<u64>, ExtentKind)> {
        let len = *borders.last().unwrap();
        let mut chunks = Chunks::new(start..len, plan, holes, |offset| {
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
        let mut chunks = Chunks::new(0..0, &plan(4096), Holes::Whole, |_| unreachable!());
        assert!(chunks.next().unwrap().is_none());
    }

    #[test]
    fn everything_begins_at_the_alignment() {
        use ExtentKind::{Data, Zero};
        let plan = plan(3 * 65536).with_alignment(NonZeroUsize::new(65536).unwrap());
        assert_eq!(
            from(0, &[70_000, 70_001, 300_000, 300_001, 600_000], &plan, Holes::Whole),
            [
                (0..65536, Zero),
                (65536..131_072, Data),
                (131_072..262_144, Zero),
                (262_144..327_680, Data),
                (327_680..600_000, Zero),
            ]
        );
    }

    #[test]
    fn the_largest_disk_has_an_end() {
        let end = u64::MAX - 10_000;
        for holes in [Holes::Whole, Holes::Chunks] {
            let found = from(end, &[end + 5000, u64::MAX], &plan(16384), holes);
            assert_eq!(found.last().unwrap().0.end, u64::MAX);
            assert_eq!(found[0].0.start, end / 4096 * 4096);
        }
    }

    #[test]
    fn begins_at_the_alignment_below_the_start() {
        let ranges = |start| {
            let pieces = from(start, &[0, 50_000], &plan(16384), Holes::Whole);
            pieces.into_iter().map(|(range, _)| range).collect::<Vec<_>>()
        };
        let end = 32_768..49_152;
        assert_eq!(ranges(24_577), [24_576..32_768, end.clone(), 49_152..50_000]);
        assert_eq!(ranges(32_768), [end, 49_152..50_000]);
        assert!(ranges(50_000).into_iter().eq(std::iter::once(49_152..50_000)));
        assert_eq!(ranges(0)[0], 0..16384);
    }
}
