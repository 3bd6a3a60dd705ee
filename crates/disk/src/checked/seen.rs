//! What was read or told before.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;

use strongroom_crypto::Hash;

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
#[derive(Clone, Copy)]
pub(super) struct Key([u8; 32]);

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
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }

    /// Returns what tells a block from all others: 64 bits of SHA-256 over the key, the number and
    /// the bytes.
    pub(super) fn fingerprint(&self, number: u64, bytes: &[u8]) -> NonZeroU64 {
        let digest = Hash::Sha256.digest(&[&self.0, &number.to_le_bytes(), bytes]);
        let first = digest.first_chunk().expect("SHA-256 has 32 bytes");
        NonZeroU64::new(u64::from_le_bytes(*first)).unwrap_or(NonZeroU64::MIN)
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
