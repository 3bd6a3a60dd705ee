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

    /// Returns what every byte of a range must be.
    pub(crate) fn expected(&self, range: &Range<u64>) -> Expected {
        let mut expected = Expected::default();
        let mut start = range.start;
        while start < range.end {
            let end = (start / self.granularity + 1).saturating_mul(self.granularity);
            let end = end.min(range.end);
            self.read_initial(start..end, &mut expected);
            start = end;
        }
        for (changed, content) in &self.changes {
            let (from, to) = (changed.start.max(range.start), changed.end.min(range.end));
            if from >= to {
                continue;
            }
            let at = (from - range.start) as usize..(to - range.start) as usize;
            expected.known[at.clone()].fill(!matches!(content, Content::Unknown));
            match content {
                Content::Bytes(bytes) => {
                    let from = (from - changed.start) as usize;
                    let source = bytes.iter().skip(from).take(at.len());
                    expected.bytes[at].iter_mut().zip(source).for_each(|(to, from)| *to = *from);
                }
                Content::Zero => expected.bytes[at].fill(0),
                Content::Unknown => {}
            }
        }
        expected
    }

    /// Returns whether the clusters that a range begins and ends in may be unreadable.
    pub(crate) fn is_unreadable_around(&self, range: &Range<u64>) -> bool {
        [range.start, range.end.saturating_sub(1)].into_iter().any(|offset| {
            let start = offset / self.granularity * self.granularity;
            let around = start..start.saturating_add(self.granularity);
            self.expected(&around).is_vague()
        })
    }

    /// Returns where changes begin.
    pub(crate) fn touched(&self) -> impl Iterator<Item = u64> {
        self.changes.iter().map(|(range, _)| range.start)
    }

    /// Checks what was read of a range.
    pub(crate) fn check(&self, range: &Range<u64>, found: &[u8]) {
        let expected = self.expected(range);
        if expected.bytes == found {
            return;
        }
        let wrong =
            (0..found.len()).find(|&at| expected.known[at] && expected.bytes[at] != found[at]);
        if let Some(at) = wrong {
            let (found, expected) = (found[at], expected.bytes[at]);
            panic!("byte {at:#x} of {range:x?} is {found:#x} and should be {expected:#x}");
        }
    }

    fn read_initial(&self, range: Range<u64>, into: &mut Expected) {
        let there = self.initial.len().clamp(range.start, range.end) - range.start;
        let start = into.bytes.len();
        into.bytes.resize(start + there as usize, 0);
        let read =
            self.initial.read_at(&mut into.bytes[start..], range.start.min(self.initial.len()));
        into.known.resize(into.bytes.len(), read.is_ok());
        // What a disk got behind its end is zero.
        into.bytes.resize(start + (range.end - range.start) as usize, 0);
        into.known.resize(into.bytes.len(), true);
    }
}

/// What a range must hold.
#[derive(Default)]
pub(crate) struct Expected {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// Which of them are known; the others are unreadable, or may be anything.
    pub(crate) known: Vec<bool>,
}

impl Expected {
    /// Returns whether any byte is not known.
    pub(crate) fn is_vague(&self) -> bool {
        self.known.contains(&false)
    }
}
