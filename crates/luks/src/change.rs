//! Changes to a device as values.

use std::fmt;

/// Writes and flushes in the order in which they must happen.
///
/// # Guarantees
///
/// After any prefix of the steps, the last write torn anywhere, the header opens with the keys of
/// before or with those of after.
///
/// # Assumptions
///
/// The device has at least [`Change::end`] bytes: the file of a detached header may have to grow
/// first.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Change {
    steps: Vec<Step>,
}

/// One step of a [`Change`].
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Everything before must be durable before anything after begins.
    Flush,
    /// These bytes go to this offset of the device.
    Write {
        /// Offset in bytes from the start of the device.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

impl Change {
    /// Returns the steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the offset behind the last byte written: how long the device must be.
    pub fn end(&self) -> u64 {
        let end = |step: &Step| match step {
            Step::Flush => 0,
            Step::Write { offset, bytes } => offset + bytes.len() as u64,
        };
        self.steps.iter().map(end).max().unwrap_or(0)
    }

    /// Carries the change out on bytes in memory, as many as it needs.
    pub(crate) fn apply_to(&self, device: &mut [u8]) {
        for step in &self.steps {
            if let Step::Write { offset, bytes } = step
                && let Some(place) = device.get_mut(*offset as usize..)
            {
                place.iter_mut().zip(bytes).for_each(|(out, byte)| *out = *byte);
            }
        }
    }

    /// Adds a write.
    pub(crate) fn write(&mut self, offset: u64, bytes: Vec<u8>) {
        self.steps.push(Step::Write { offset, bytes });
    }

    /// Adds a flush.
    pub(crate) fn flush(&mut self) {
        self.steps.push(Step::Flush);
    }

    /// Adds the steps of another change behind those of this one.
    pub(crate) fn append(&mut self, other: Self) {
        self.steps.extend(other.steps);
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flush => f.write_str("Flush"),
            Self::Write { offset, bytes } => write!(f, "Write({} bytes at {offset})", bytes.len()),
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.steps).finish()
    }
}
