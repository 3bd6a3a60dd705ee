//! Which readers go on where they were, so that it pays to read ahead of them.

use std::ops::Range;

/// The places at which something is read in order, or nearly so.
///
/// There may be several: the tables of an image and its data, two jobs on one resource. Threads
/// that share one pass are one of them.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    clock: u64,
}

#[derive(Debug)]
struct Run {
    /// Where the read that came furthest has ended.
    end: u64,
    /// How many bytes were read.
    bytes: u64,
    /// Whether there was more than one read.
    is_continued: bool,
    used: u64,
}

impl Runs {
    /// Notes a read of `range`.
    pub(crate) fn note(&mut self, range: &Range<u64>) {
        self.clock += 1;
        let (clock, length) = (self.clock, range.end - range.start);
        if let Some(run) = self.runs.iter_mut().find(|run| run.is_near(range)) {
            run.end = run.end.max(range.end);
            run.bytes = run.bytes.saturating_add(length);
            run.is_continued = true;
            run.used = clock;
            return;
        }
        if self.runs.len() == MOST_RUNS {
            let oldest = (0..MOST_RUNS).min_by_key(|&index| self.runs[index].used);
            self.runs.swap_remove(oldest.unwrap_or_default());
        }
        let run = Run { end: range.end, bytes: length, is_continued: false, used: clock };
        self.runs.push(run);
    }

    /// Returns what is likely to be read after `range`: what comes after its run as it is by now,
    /// twice as much as was read in it, and no more than `most` bytes. Empty when the read
    /// continues nothing.
    pub(crate) fn ahead(&self, range: &Range<u64>, most: u64) -> Range<u64> {
        match self.runs.iter().find(|run| run.is_near(range)) {
            Some(run) if run.is_continued => {
                run.end..run.end.saturating_add(most.min(run.bytes.saturating_mul(2)))
            }
            _ => range.end..range.end,
        }
    }
}

impl Run {
    fn is_near(&self, range: &Range<u64>) -> bool {
        range.start <= self.end.saturating_add(FORWARD)
            && range.end >= self.end.saturating_sub(BACKWARD)
    }
}

/// How far a read may lie beyond the end of a run that it continues: a hole, or the parts of other
/// threads that have yet to ask for them.
const FORWARD: u64 = 8 << 20;

/// How far it may lag behind: other threads have taken what comes after it.
const BACKWARD: u64 = 16 << 20;

const MOST_RUNS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Returns how much is to be read ahead after a read.
    fn note(runs: &mut Runs, start: u64, length: u64) -> u64 {
        runs.note(&(start..start + length));
        let ahead = runs.ahead(&(start..start + length), 12 * MIB);
        ahead.end - ahead.start
    }

    #[test]
    fn reads_further_ahead_the_longer_a_run_is() {
        let mut runs = Runs::default();
        let ahead: Vec<u64> = (0..6).map(|index| note(&mut runs, index * MIB, MIB) / MIB).collect();
        assert_eq!(ahead, [0, 4, 6, 8, 10, 12]);
    }

    #[test]
    fn begins_where_the_furthest_thread_is() {
        let mut runs = Runs::default();
        for start in [0, 3 * MIB, MIB, 2 * MIB] {
            note(&mut runs, start, MIB);
        }
        // Even for a thread that has waited for long.
        assert_eq!(runs.ahead(&(3 * MIB..4 * MIB), MIB), 4 * MIB..5 * MIB);
        assert_eq!(runs.ahead(&(0..MIB), MIB), 4 * MIB..5 * MIB);
    }

    #[test]
    fn expects_nothing_of_scattered_reads() {
        let mut runs = Runs::default();
        for index in 0..20 {
            assert_eq!(note(&mut runs, index * 977 * MIB % (7919 * MIB), 512), 0);
        }
    }

    #[test]
    fn keeps_a_run_while_other_places_are_read() {
        let mut runs = Runs::default();
        for index in 0..10 {
            let ahead = note(&mut runs, index * MIB, MIB);
            assert_eq!(ahead > 0, index > 0);
            // A table far away, and one place after another beyond it.
            note(&mut runs, 1 << 40, 65536);
            note(&mut runs, (2 << 40) + (index << 32), 512);
        }
    }

    #[test]
    fn survives_the_largest_offsets() {
        let mut runs = Runs::default();
        note(&mut runs, 0, u64::MAX);
        note(&mut runs, u64::MAX - 1, 1);
    }
}
