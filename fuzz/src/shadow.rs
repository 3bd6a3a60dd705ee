//! What a disk must hold after what was done to it.

use std::ops::Range;

use strongroom_disk::Disk;

/// A disk as it was, and what was done to it since.
pub(crate) struct Shadow {
    initial: Box<dyn Disk>,
    /// Where errors begin and end in the initial disk, in bytes.
    granularity: u64,
    changes: Vec<(Range<u64>, Content)>,
}

/// What a range holds after a change.
pub(crate) enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Zeros.
    Zero,
    /// The change failed, so it holds old and new bytes in any mixture.
    Unknown,
}

impl Shadow {
    /// Returns the shadow of a disk that nothing was done to yet.
    pub(crate) fn new(initial: Box<dyn Disk>, granularity: u64) -> Self {
        Self { initial, granularity, changes: Vec::new() }
    }

    /// Notes a change.
    pub(crate) fn change(&mut self, range: Range<u64>, content: Content) {
        self.changes.push((range, content));
    }

    /// Returns what every byte of a range must be, `None` where it may be anything or unreadable.
    pub(crate) fn expected(&self, range: &Range<u64>) -> Vec<Option<u8>> {
        let mut expected = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let end = (start / self.granularity + 1).saturating_mul(self.granularity);
            let end = end.min(range.end);
            self.read_initial(start..end, &mut expected);
            start = end;
        }
        for (changed, content) in &self.changes {
            let from = changed.start.max(range.start);
            let to = changed.end.min(range.end).max(from);
            for offset in from..to {
                expected[(offset - range.start) as usize] = match content {
                    Content::Bytes(bytes) => Some(bytes[(offset - changed.start) as usize]),
                    Content::Zero => Some(0),
                    Content::Unknown => None,
                };
            }
        }
        expected
    }

    /// Returns whether the clusters that a range begins and ends in may be unreadable.
    pub(crate) fn is_unreadable_around(&self, range: &Range<u64>) -> bool {
        [range.start, range.end.saturating_sub(1)].into_iter().any(|offset| {
            let start = offset / self.granularity * self.granularity;
            let around = start..start.saturating_add(self.granularity);
            self.expected(&around).iter().any(Option::is_none)
        })
    }

    /// Returns where changes begin.
    pub(crate) fn touched(&self) -> impl Iterator<Item = u64> {
        self.changes.iter().map(|(range, _)| range.start)
    }

    /// Checks what was read of a range.
    pub(crate) fn check(&self, range: &Range<u64>, found: &[u8]) {
        let expected = self.expected(range);
        for ((offset, found), expected) in range.clone().zip(found).zip(expected) {
            if let Some(expected) = expected {
                assert_eq!(*found, expected, "byte {offset:#x} of {range:x?}");
            }
        }
    }

    fn read_initial(&self, range: Range<u64>, into: &mut Vec<Option<u8>>) {
        let there = self.initial.len().clamp(range.start, range.end) - range.start;
        let mut bytes = vec![0; there as usize];
        let read = self.initial.read_at(&mut bytes, range.start.min(self.initial.len()));
        into.extend(bytes.into_iter().map(|byte| read.is_ok().then_some(byte)));
        // What a disk got behind its end is zero.
        into.resize(into.len() + (range.end - range.start - there) as usize, Some(0));
    }
}
