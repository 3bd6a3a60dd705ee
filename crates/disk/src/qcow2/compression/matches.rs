//! Repetitions within a block, for Zstandard.

use ruzstd::encoding::{CompressionLevel, Matcher, Sequence};

/// Finds what is repeated within a block by where its first four bytes were seen last. The longer
/// it finds nothing the larger are its steps, so that what cannot be compressed takes little time.
pub(super) struct Matches {
    block: Vec<u8>,
    /// Where the four bytes of each hash were seen last; 0 also where they never were.
    seen: Vec<u32>,
}

impl Matches {
    /// Returns nothing yet.
    pub(super) fn new() -> Self {
        Self { block: Vec::new(), seen: vec![0; 1 << HASH_BITS] }
    }
}

impl Matcher for Matches {
    fn get_next_space(&mut self) -> Vec<u8> {
        let mut block = std::mem::take(&mut self.block);
        block.resize(BLOCK, 0);
        block
    }

    fn get_last_space(&mut self) -> &[u8] {
        &self.block
    }

    fn commit_space(&mut self, space: Vec<u8>) {
        self.block = space;
    }

    fn skip_matching(&mut self) {}

    fn start_matching(&mut self, mut found: impl for<'a> FnMut(Sequence<'a>)) {
        self.seen.fill(0);
        let block = self.block.as_slice();
        // The first byte repeats nothing.
        let (mut literals, mut at) = (0, 1);
        while let Some(bytes) = four(block, at) {
            let slot = &mut self.seen[hash(bytes)];
            let earlier = std::mem::replace(slot, at as u32) as usize;
            if four(block, earlier) != Some(bytes) {
                at += 1 + (at - literals) / PATIENCE;
                continue;
            }
            let length = common(&block[earlier..], &block[at..]);
            let (text, before) = (&block[literals..at], &block[..earlier]);
            let back = text.iter().rev().zip(before.iter().rev());
            let back = back.take_while(|(one, other)| one == other).count();
            found(Sequence::Triple {
                literals: &text[..text.len() - back],
                offset: at - earlier,
                match_len: back + length,
            });
            at += length;
            literals = at;
        }
        found(Sequence::Literals { literals: &block[literals..] });
    }

    fn reset(&mut self, _level: CompressionLevel) {}

    fn window_size(&self) -> u64 {
        BLOCK as u64
    }
}

fn four(block: &[u8], at: usize) -> Option<[u8; 4]> {
    block.get(at..)?.first_chunk().copied()
}

/// Returns a number of [`HASH_BITS`] bits.
fn hash(bytes: [u8; 4]) -> usize {
    // The golden ratio of 2^32, which spreads neighbours.
    (u32::from_le_bytes(bytes).wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize
}

/// Returns how many bytes both begin with alike.
fn common(one: &[u8], other: &[u8]) -> usize {
    let words = one.chunks_exact(8).zip(other.chunks_exact(8));
    let words = 8 * words.take_while(|(one, other)| one == other).count();
    let rest = one[words..].iter().zip(&other[words..]);
    words + rest.take_while(|(one, other)| one == other).count()
}

const HASH_BITS: u32 = 15;

/// Steps become one byte longer for each of so many bytes without a match.
const PATIENCE: usize = 64;

/// The most bytes of a block (RFC 8878, 3.1.1.2.4).
const BLOCK: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the block that the sequences stand for, and how many matches there are.
    fn expanded(block: &[u8]) -> (Vec<u8>, usize) {
        let mut matches = Matches::new();
        matches.commit_space(block.to_vec());
        let (mut bytes, mut number) = (Vec::new(), 0);
        matches.start_matching(|sequence| match sequence {
            Sequence::Literals { literals } => bytes.extend_from_slice(literals),
            Sequence::Triple { literals, offset, match_len } => {
                bytes.extend_from_slice(literals);
                assert!(match_len >= 4 && offset >= 1);
                (0..match_len).for_each(|_| bytes.push(bytes[bytes.len() - offset]));
                number += 1;
            }
        });
        (bytes, number)
    }

    /// Bytes without a pattern.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn the_sequences_stand_for_the_block() {
        let noise = noise(BLOCK);
        let twice = [&noise[..40_000], b"between", &noise[..40_000]].concat();
        let overlapping = [b"ab".repeat(3000), vec![b'a'; 5000]].concat();
        for block in [&b""[..], b"a", b"aaaa", b"aaaaa", &noise, &twice, &overlapping] {
            for length in [block.len(), block.len() / 2, block.len() / 3] {
                assert_eq!(expanded(&block[..length]).0, &block[..length]);
            }
        }
    }

    #[test]
    fn long_repetitions_are_one_match_and_noise_has_few() {
        let half = noise(40_000);
        assert!(expanded(&half).1 < 50);
        assert_eq!(expanded(&[7; 40_000]).1, 1);
        let twice = [&half[..1000], &half[..1000]].concat();
        assert_eq!(expanded(&twice).1, expanded(&half[..1000]).1 + 1);
    }
}
