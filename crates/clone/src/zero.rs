//! Telling zeros from data, and runs of one from runs of the other.

use std::ops::Range;

/// Returns whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let mut blocks = bytes.chunks_exact(BLOCK);
    // Without a way out inside of a block the compiler uses vector registers.
    blocks.by_ref().all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
        && blocks.remainder().iter().all(|&byte| byte == 0)
}

/// Returns the first range of a chunk from `start` on that holds data, `None` when there is none.
/// What lies before it, and directly behind it, are zeros or the chunk's end. `start` and both ends
/// are whole granules, but for the chunk's own end.
pub(crate) fn data_run(chunk: &[u8], start: usize, granule: usize) -> Option<Range<usize>> {
    let mut granules = (start..chunk.len()).step_by(granule);
    let is_data = |at: &usize| !is_zero(&chunk[*at..chunk.len().min(*at + granule)]);
    let first = granules.find(is_data)?;
    let end = granules.find(|at| !is_data(at)).unwrap_or(chunk.len());
    Some(first..end)
}

/// Bytes tested at once.
const BLOCK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_bit_anywhere_is_found() {
        for len in [0, 1, 255, 256, 257, 1000] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            for index in 0..len {
                bytes[index] = 0x80;
                assert!(!is_zero(&bytes), "{index} of {len}");
                bytes[index] = 0;
            }
        }
    }

    #[test]
    fn runs_join_neighbours_and_end_with_the_chunk() {
        let granule = 32 << 10;
        let mut chunk = vec![0; 5 * granule + 100];
        assert_eq!(data_run(&chunk, 0, granule), None);
        chunk[granule] = 1;
        chunk[3 * granule - 1] = 1;
        chunk[5 * granule + 99] = 1;
        assert_eq!(data_run(&chunk, 0, granule), Some(granule..3 * granule));
        assert_eq!(data_run(&chunk, 3 * granule, granule), Some(5 * granule..chunk.len()));
        assert_eq!(data_run(&chunk, chunk.len(), granule), None);
        chunk.fill(1);
        assert_eq!(data_run(&chunk, 0, granule), Some(0..chunk.len()));
    }
}
