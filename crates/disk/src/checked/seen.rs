//! What was read or told before.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;

use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};

/// The fingerprints of all blocks that were loaded, and the holes that were told or hashed.
///
/// Both together never contradict each other: a block that was told as a hole and is loaded later
/// has a fingerprint, but only if it holds zeros.
#[derive(Default)]
pub(super) struct Seen {
    fingerprints: BTreeMap<u64, Box<Page>>,
    /// Start and end of ranges of blocks that neither overlap nor touch.
    holes: BTreeMap<u64, u64>,
}

/// Makes fingerprints that nobody can foresee, so that few bytes are enough.
///
/// A fingerprint is the sum (XOR) of a block's ciphertext under AES-XTS with a key that nobody
/// knows: every 16 bytes are encrypted in a way of their own, as in the first half of PMAC
/// (P. Rogaway, "Efficient instantiations of tweakable blockciphers", 2004, section 6). Blocks that
/// differ have the same 64 bits with a probability of 2^-64, and take a fraction of the time that
/// any hash needs.
pub(super) struct Key {
    cipher: SectorCipher,
    bytes: [u8; KEY],
}

type Page = [Option<NonZeroU64>; PAGE as usize];

impl Seen {
    /// Returns whether a block is what was seen of it before, and remembers it.
    pub(super) fn is_as_before(
        &mut self,
        number: u64,
        fingerprint: NonZeroU64,
        bytes: &[u8],
    ) -> bool {
        if self.is_hole(number) && bytes.iter().any(|&byte| byte != 0) {
            return false;
        }
        let page = self.fingerprints.entry(number / PAGE);
        let page = page.or_insert_with(|| Box::new([None; PAGE as usize]));
        *page[(number % PAGE) as usize].get_or_insert(fingerprint) == fingerprint
    }

    /// Remembers that blocks were told to be zeros, up to the first one that was loaded before;
    /// returns where that is.
    pub(super) fn add_hole(&mut self, range: Range<u64>) -> u64 {
        let end = self.first_loaded(range.clone()).unwrap_or(range.end);
        if end == range.start {
            return end;
        }
        let (mut start, mut last) = (range.start, end);
        while let Some((&known_start, &known_end)) = self.holes.range(..=last).next_back()
            && known_end >= start
        {
            self.holes.remove(&known_start);
            start = start.min(known_start);
            last = last.max(known_end);
        }
        self.holes.insert(start, last);
        end
    }

    /// Returns everything that was seen as numbers: how many holes there are, start and end of each,
    /// then the number and the fingerprint of every block.
    pub(super) fn save(&self) -> Vec<u64> {
        let mut numbers = vec![self.holes.len() as u64];
        numbers.extend(self.holes.iter().flat_map(|(&start, &end)| [start, end]));
        for (page, fingerprints) in &self.fingerprints {
            let known = (page * PAGE..).zip(fingerprints.iter());
            numbers.extend(
                known.filter_map(|(number, found)| Some([number, (*found)?.get()])).flatten(),
            );
        }
        numbers
    }

    /// Returns what was saved; `None` when that is nothing of the kind.
    pub(super) fn restore(numbers: &[u64]) -> Option<Self> {
        let (&holes, rest) = numbers.split_first()?;
        let (holes, blocks) =
            rest.split_at_checked(usize::try_from(holes).ok()?.checked_mul(2)?)?;
        let mut seen = Self::default();
        for hole in holes.chunks_exact(2) {
            seen.add_hole(hole[0]..hole[1].max(hole[0]));
        }
        for block in blocks.chunks_exact(2) {
            let page = seen.fingerprints.entry(block[0] / PAGE);
            let page = page.or_insert_with(|| Box::new([None; PAGE as usize]));
            page[(block[0] % PAGE) as usize] = Some(NonZeroU64::new(block[1])?);
        }
        Some(seen)
    }

    fn is_hole(&self, number: u64) -> bool {
        self.holes.range(..=number).next_back().is_some_and(|(_, &end)| end > number)
    }

    fn first_loaded(&self, range: Range<u64>) -> Option<u64> {
        let pages = range.start / PAGE..=range.end / PAGE;
        self.fingerprints.range(pages).find_map(|(page, fingerprints)| {
            let numbers = page * PAGE..(page + 1) * PAGE;
            numbers
                .zip(fingerprints.iter())
                .find(|(number, fingerprint)| range.contains(number) && fingerprint.is_some())
                .map(|(number, _)| number)
        })
    }
}

impl Key {
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; KEY];
        getrandom::fill(&mut bytes)?;
        Self::new(bytes)
    }

    /// Returns the bytes of which [`Self::new`] makes the key again.
    pub(super) fn bytes(&self) -> &[u8; KEY] {
        &self.bytes
    }

    pub(super) fn new(bytes: [u8; KEY]) -> io::Result<Self> {
        let spec: CipherSpec = "aes-xts-plain64".parse().map_err(io::Error::other)?;
        let encryption = spec.with_largest_key();
        let key = VolumeKey::new(bytes.to_vec());
        let cipher = SectorCipher::new(encryption, &key, SectorSize::B4096, IvUnit::Sector);
        Ok(Self { cipher: cipher.map_err(io::Error::other)?, bytes })
    }

    /// Returns what tells the bytes of a block from all others that it could have.
    pub(super) fn fingerprint(&self, number: u64, bytes: &[u8]) -> NonZeroU64 {
        let mut sum = [0; LANES];
        let mut buffer = [0; PIECE];
        for (index, piece) in (0..).zip(bytes.chunks(PIECE)) {
            buffer[..piece.len()].copy_from_slice(piece);
            // The last block of a disk may be shorter, but it is so every time.
            let whole = piece.len().next_multiple_of(SECTOR);
            buffer[piece.len()..whole].fill(0);
            let first_sector = number * SECTORS_OF_BLOCK + index * (PIECE / SECTOR) as u64;
            self.cipher.encrypt(&mut buffer[..whole], first_sector);
            add(&mut sum, &buffer[..whole]);
        }
        let sum = sum.iter().step_by(2).fold(0, |sum, lane| sum ^ lane);
        NonZeroU64::new(sum).unwrap_or(NonZeroU64::MIN)
    }
}

/// Adds words of 64 bits to as many sums as there are lanes.
fn add(sum: &mut [u64; LANES], bytes: &[u8]) {
    for words in bytes.chunks_exact(LANES * 8) {
        for (lane, word) in sum.iter_mut().zip(words.chunks_exact(8)) {
            *lane ^= u64::from_ne_bytes(word.try_into().expect("the piece has 8 bytes"));
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("holes", &self.holes).finish_non_exhaustive()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// How many words are added side by side: 64 bytes. Every other one is the first half of 16 bytes
/// of ciphertext, and these make the fingerprint.
const LANES: usize = 8;

/// What is encrypted at once: little enough to stay close to the processor.
const PIECE: usize = 16 << 10;

const SECTOR: usize = 4096;

const SECTORS_OF_BLOCK: u64 = super::BLOCK / SECTOR as u64;

/// The bytes of a key.
pub(super) const KEY: usize = 64;

/// How many fingerprints lie together.
const PAGE: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_every_block() {
        let (mut seen, key) = (Seen::default(), Key::random().unwrap());
        for number in [0, 511, 512, 1 << 40] {
            let (one, other) = (key.fingerprint(number, b"one"), key.fingerprint(number, b"two"));
            assert!(seen.is_as_before(number, one, b"one"));
            assert!(seen.is_as_before(number, one, b"one"));
            assert!(!seen.is_as_before(number, other, b"two"));
        }
        assert_ne!(key.fingerprint(1, b"one"), key.fingerprint(2, b"one"));
        let other_key = Key::random().unwrap();
        assert_ne!(key.fingerprint(1, b"one"), other_key.fingerprint(1, b"one"));
    }

    #[test]
    fn every_bit_of_a_block_and_its_place_count() {
        let key = Key::random().unwrap();
        for len in [1, 15, 4096, 4097, PIECE, 2 * PIECE + 1, super::super::BLOCK as usize] {
            let mut bytes = vec![0; len];
            let mut found = std::collections::BTreeSet::from([key.fingerprint(3, &bytes)]);
            let places: Vec<_> = (0..len).step_by(1 + len / 40).chain([len - 1]).collect();
            let distinct: std::collections::BTreeSet<_> = places.iter().collect();
            for &place in &distinct {
                bytes[*place] ^= 1 << (place % 8);
                found.insert(key.fingerprint(3, &bytes));
                bytes[*place] ^= 1 << (place % 8);
            }
            assert_eq!(found.len(), distinct.len() + 1);
            assert_eq!(key.fingerprint(3, &bytes), key.fingerprint(3, &bytes));
        }
        let mut bytes = vec![0; 2 * PIECE];
        bytes[0] = 1;
        let one = key.fingerprint(0, &bytes);
        bytes.swap(0, PIECE);
        assert_ne!(one, key.fingerprint(0, &bytes));
        bytes.swap(PIECE, 16);
        assert_ne!(one, key.fingerprint(0, &bytes));
    }

    #[test]
    fn holes_are_joined_and_must_stay_zeros() {
        let mut seen = Seen::default();
        for range in [10..20, 30..40, 20..25, 24..31, 5..6, 0..1 << 43] {
            assert_eq!(seen.add_hole(range.clone()), range.end);
        }
        assert_eq!(seen.holes.into_iter().collect::<Vec<_>>(), [(0, 1 << 43)]);

        let (mut seen, key) = (Seen::default(), Key::random().unwrap());
        seen.add_hole(10..20);
        for (number, bytes, fine) in
            [(9, b"x", true), (10, b"x", false), (19, b"\0", true), (20, b"x", true)]
        {
            let fingerprint = key.fingerprint(number, bytes);
            assert_eq!(seen.is_as_before(number, fingerprint, bytes), fine, "{number}");
        }
    }

    #[test]
    fn a_hole_ends_where_something_was_loaded() {
        let (mut seen, key) = (Seen::default(), Key::random().unwrap());
        assert!(seen.is_as_before(700, key.fingerprint(700, b"x"), b"x"));
        assert_eq!(seen.add_hole(3..1 << 30), 700);
        assert_eq!(seen.add_hole(700..800), 700);
        assert_eq!(seen.add_hole(701..800), 800);
        assert!(seen.is_hole(699) && !seen.is_hole(700) && seen.is_hole(701));
    }
}
