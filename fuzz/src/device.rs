//! The start of a device, in memory.

use strongroom_luks::{Change, Error, Found, Header, Step, head_len};

/// A device of which only the first bytes are kept; what is written behind them is forgotten.
#[derive(Clone)]
pub struct Device {
    head: Vec<u8>,
    len: u64,
}

impl Device {
    /// Returns a device of `len` bytes that begins with `head`.
    pub fn new(head: &[u8], len: u64) -> Self {
        let kept = head.len().min(usize::try_from(len).unwrap_or(usize::MAX)).min(KEPT);
        Self { head: head[..kept].to_vec(), len }
    }

    /// Carries out the first `steps` of a change, the last one only up to `torn` bytes.
    pub fn apply_part(&mut self, change: &Change, steps: usize, torn: usize) {
        for (number, step) in change.steps().iter().take(steps).enumerate() {
            let Step::Write { offset, bytes } = step else { continue };
            let bytes = if number + 1 == steps { &bytes[..torn.min(bytes.len())] } else { bytes };
            self.write(*offset, bytes);
        }
    }

    /// Carries a change out.
    pub fn apply(&mut self, change: &Change) {
        self.apply_part(change, usize::MAX, 0);
    }

    /// Reads the header.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn header(&self) -> Result<Found, Error> {
        Header::parse(self.head(), self.len)
    }

    /// Returns the bytes that a reader of the header asks for.
    pub fn head(&self) -> &[u8] {
        &self.head[..head_len(&self.head).min(self.head.len())]
    }

    /// Returns the first `len` bytes, zeros where none were kept; `None` when they are too many.
    pub fn first(&self, len: u64) -> Option<Vec<u8>> {
        let len = usize::try_from(len).ok().filter(|&len| len <= KEPT && len as u64 <= self.len)?;
        let mut bytes = self.head.clone();
        bytes.resize(len, 0);
        Some(bytes)
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether there is not a byte on it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let Some(start) = usize::try_from(offset).ok().filter(|&start| start < KEPT) else {
            return;
        };
        let bytes = &bytes[..bytes.len().min(KEPT - start)];
        if self.head.len() < start + bytes.len() {
            self.head.resize(start + bytes.len(), 0);
        }
        self.head[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

/// Bytes kept of a device: more than the headers that the targets make.
const KEPT: usize = 1 << 20;
