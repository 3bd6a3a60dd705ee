//! Memory for chunks.

use crate::plan::PAGE;

/// A buffer that begins at a page, which the kernel and the cipher copy faster to and from.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        // Where alignment cannot be told, the buffer is merely slower.
        let start = match bytes.as_ptr().align_offset(PAGE) {
            start if start < PAGE => start,
            _ => 0,
        };
        Self { bytes, start, len }
    }

    /// Returns the first `len` bytes.
    ///
    /// # Panics
    ///
    /// When the buffer is shorter.
    pub(crate) fn first(&mut self, len: u64) -> &mut [u8] {
        let len = usize::try_from(len).expect("a chunk fits in memory");
        assert!(len <= self.len, "a piece of {len} bytes is longer than the buffer");
        &mut self.bytes[self.start..self.start + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_page() {
        for len in [4096, 262_144] {
            let mut buffer = Buffer::new(len);
            let bytes = buffer.first(len as u64);
            assert_eq!(bytes.as_ptr() as usize % PAGE, 0);
            assert_eq!(bytes.len(), len);
        }
    }
}
