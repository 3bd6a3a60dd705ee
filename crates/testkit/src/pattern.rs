//! Content that can be computed anew at any offset.

use strongroom_disk::{Disk, Result};

/// Bytes that look random, follow from a seed, and have holes if wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
    block: u64,
    /// 0 <= hole_percent <= 100
    hole_percent: u64,
    /// 0 <= hole_percent + zero_percent <= 100
    zero_percent: u64,
}

impl Pattern {
    /// Returns a pattern without holes.
    pub fn dense(seed: u64) -> Self {
        Self { seed, block: 4096, hole_percent: 0, zero_percent: 0 }
    }

    /// Returns a pattern of blocks of so many bytes, of which about a third are holes and a sixth
    /// zeros that are written all the same.
    ///
    /// # Panics
    ///
    /// When `block` is zero.
    pub fn sparse(seed: u64, block: u64) -> Self {
        assert!(block > 0, "blocks have at least one byte");
        Self { seed, block, hole_percent: 33, zero_percent: 17 }
    }

    /// Fills `buf` with the content at `offset`.
    pub fn fill(&self, buf: &mut [u8], mut offset: u64) {
        let mut rest = buf;
        while !rest.is_empty() {
            let within = (self.block - offset % self.block).min(rest.len() as u64);
            let (piece, next) = std::mem::take(&mut rest).split_at_mut(within as usize);
            match self.kind(offset / self.block) {
                Block::Data => self.fill_data(piece, offset),
                Block::Hole | Block::Zeros => piece.fill(0),
            }
            offset += within;
            rest = next;
        }
    }

    /// Writes the pattern over the whole disk, except for its holes.
    pub fn write_to(&self, disk: &dyn Disk) -> Result<()> {
        let mut buf = vec![0; self.block.min(BUFFER) as usize];
        let mut offset = 0;
        while offset < disk.len() {
            let within = self.block - offset % self.block;
            let length = within.min(buf.len() as u64).min(disk.len() - offset);
            if self.kind(offset / self.block) != Block::Hole {
                let piece = &mut buf[..length as usize];
                self.fill(piece, offset);
                disk.write_at(piece, offset)?;
            }
            offset += length;
        }
        Ok(())
    }

    /// Returns the offset of the first byte of the disk that differs from the pattern.
    pub fn first_difference(&self, disk: &dyn Disk) -> Result<Option<u64>> {
        let mut expected = vec![0; BUFFER as usize];
        let mut found = vec![0; BUFFER as usize];
        for offset in (0..disk.len()).step_by(BUFFER as usize) {
            let length = BUFFER.min(disk.len() - offset) as usize;
            let (expected, found) = (&mut expected[..length], &mut found[..length]);
            self.fill(expected, offset);
            disk.read_at(found, offset)?;
            if let Some(index) = expected.iter().zip(found.iter()).position(|(a, b)| a != b) {
                return Ok(Some(offset + index as u64));
            }
        }
        Ok(None)
    }

    fn fill_data(&self, buf: &mut [u8], offset: u64) {
        let mut word = offset / 8;
        let mut skip = (offset % 8) as usize;
        let mut rest = buf;
        while !rest.is_empty() {
            let bytes = mix(self.seed ^ mix(word)).to_le_bytes();
            let length = (8 - skip).min(rest.len());
            let (piece, next) = std::mem::take(&mut rest).split_at_mut(length);
            piece.copy_from_slice(&bytes[skip..skip + length]);
            word += 1;
            skip = 0;
            rest = next;
        }
    }

    fn kind(&self, block: u64) -> Block {
        match mix(self.seed.rotate_left(32) ^ mix(block)) % 100 {
            draw if draw < self.hole_percent => Block::Hole,
            draw if draw < self.hole_percent + self.zero_percent => Block::Zeros,
            _ => Block::Data,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Data,
    Hole,
    Zeros,
}

/// The step of the generator splitmix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Bytes looked at together.
const BUFFER: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use strongroom_disk::Memory;

    use super::*;

    #[test]
    fn content_does_not_depend_on_how_it_is_asked_for() {
        let pattern = Pattern::sparse(1, 1000);
        let mut whole = vec![0; 100_000];
        pattern.fill(&mut whole, 0);
        let mut offset = 0;
        for piece in whole.chunks(777) {
            let mut again = vec![1; piece.len()];
            pattern.fill(&mut again, offset);
            assert_eq!(again, piece);
            offset += piece.len() as u64;
        }
    }

    #[test]
    fn what_was_written_does_not_differ_and_has_holes() {
        let pattern = Pattern::sparse(2, 4096);
        let disk = Memory::new(1_000_001);
        pattern.write_to(&disk).unwrap();
        assert_eq!(pattern.first_difference(&disk).unwrap(), None);
        assert!((400_000..900_000).contains(&disk.allocated()), "{}", disk.allocated());
        let mut byte = [0];
        disk.read_at(&mut byte, 777_777).unwrap();
        disk.write_at(&[!byte[0]], 777_777).unwrap();
        assert_eq!(pattern.first_difference(&disk).unwrap(), Some(777_777));
    }

    #[test]
    fn seeds_differ() {
        let disk = Memory::new(4096);
        Pattern::dense(3).write_to(&disk).unwrap();
        assert!(Pattern::dense(4).first_difference(&disk).unwrap().is_some());
    }
}
