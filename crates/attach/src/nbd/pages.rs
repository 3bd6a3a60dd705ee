//! Memory for the data of requests.

use std::ops::Range;

/// A buffer that begins at a page, so that it goes to and from the disk past the page cache.
#[derive(Debug, Default)]
pub(super) struct Pages {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Pages {
    /// Makes it at least `len` bytes long. What it held is gone when it was shorter.
    pub(super) fn reserve(&mut self, len: usize) {
        if self.len >= len {
            return;
        }
        // First the old one goes, so that there are never two.
        self.bytes = Vec::new();
        self.bytes = vec![0; len + PAGE];
        // Where alignment cannot be told, the buffer is merely slower.
        self.start = match self.bytes.as_ptr().align_offset(PAGE) {
            start if start < PAGE => start,
            _ => 0,
        };
        self.len = len;
    }

    /// Returns the length in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns a range of it.
    pub(super) fn range(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[self.start + range.start..self.start + range.end]
    }

    /// Returns a range of it.
    pub(super) fn range_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.bytes[self.start + range.start..self.start + range.end]
    }
}

pub(super) const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_page_however_often_it_grows() {
        let mut pages = Pages::default();
        for len in [1, 4096, 100_000, 50] {
            pages.reserve(len);
            assert_eq!(pages.range(0..len).as_ptr().addr() % PAGE, 0);
            assert!(pages.len() >= len);
        }
        pages.range_mut(4096..4098).copy_from_slice(b"ab");
        assert_eq!(pages.range(4096..4098), b"ab");
    }
}
