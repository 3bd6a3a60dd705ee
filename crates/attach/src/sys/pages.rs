//! Memory in whole pages, which takes none until it is touched.
#![allow(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut};

use rustix::mm::{MapFlags, ProtFlags};
use zeroize::Zeroize;

/// A buffer that begins at a page.
#[derive(Debug)]
pub(crate) struct Pages {
    start: *mut u8,
    len: usize,
}

// JUSTIFICATION: a raw pointer keeps the compiler from seeing that the memory has one owner.
// SAFETY: nothing else refers to the memory, and it belongs to no thread.
unsafe impl Send for Pages {}

impl Pages {
    /// Returns a buffer of `len` zeros.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // JUSTIFICATION: a vector begins anywhere, and never gives pages back that were touched.
        // SAFETY: the kernel chooses the address, so that no other memory is replaced.
        let start =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, protection, flags) }?;
        Ok(Self { start: start.cast(), len })
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // JUSTIFICATION: the memory is known by its address alone.
        // SAFETY: so many bytes are mapped there, zeros at first, until this value is dropped.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // JUSTIFICATION: the memory is known by its address alone.
        // SAFETY: so many bytes are mapped there until this value is dropped, which is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.zeroize();
        // JUSTIFICATION: what was mapped by hand is unmapped by hand.
        // SAFETY: it is mapped, and nobody has a reference to it any more.
        let unmapped = unsafe { rustix::mm::munmap(self.start.cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "what is mapped can be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_page_and_keeps_what_is_written() {
        let mut pages = Pages::new(1 << 20).unwrap();
        assert!(pages.as_ptr().addr().is_multiple_of(rustix::param::page_size()));
        assert!(pages.iter().all(|byte| *byte == 0));
        pages[(1 << 20) - 1] = 7;
        assert_eq!(pages[(1 << 20) - 1], 7);
    }
}
