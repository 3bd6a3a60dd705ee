//! Room between ranges of a device.

use std::ops::Range;

/// Returns the offset of the first gap of `size` bytes inside `within` that touches none of
/// `taken`, aligned to `align`.
pub(crate) fn first_gap(
    within: Range<u64>,
    taken: impl IntoIterator<Item = Range<u64>>,
    size: u64,
    align: u64,
) -> Option<u64> {
    let mut taken: Vec<_> = taken.into_iter().filter(|range| !range.is_empty()).collect();
    taken.sort_by_key(|range| range.start);
    let mut candidate = within.start.checked_next_multiple_of(align)?;
    for range in taken {
        if candidate.checked_add(size)? <= range.start {
            break;
        }
        candidate = candidate.max(range.end).checked_next_multiple_of(align)?;
    }
    (candidate.checked_add(size)? <= within.end).then_some(candidate)
}

/// Returns whether two ranges share a byte.
pub(crate) fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_gap_that_is_large_enough() {
        let taken = [10..20, 24..40];
        assert_eq!(first_gap(0..100, taken.clone(), 10, 1), Some(0));
        assert_eq!(first_gap(5..100, taken.clone(), 4, 1), Some(5));
        assert_eq!(first_gap(8..100, taken.clone(), 4, 1), Some(20));
        assert_eq!(first_gap(8..100, taken.clone(), 5, 1), Some(40));
        assert_eq!(first_gap(8..100, taken.clone(), 5, 16), Some(48));
        assert_eq!(first_gap(8..44, taken, 5, 1), None);
    }

    #[test]
    fn does_not_overflow_on_hostile_ranges() {
        assert_eq!(first_gap(0..u64::MAX, std::iter::once(0..u64::MAX), 1, 4096), None);
        assert_eq!(first_gap(5..10, [], u64::MAX, 1), None);
    }
}
