//! Which ways a machine has.

/// Whether this machine has a way to make volumes appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// It has.
    Usable,
    /// It has not; this is missing, and what to do about it.
    Missing {
        /// What is missing: `the kernel has no target crypt`.
        what: String,
        /// What to do: `modprobe dm_crypt`.
        remedy: String,
    },
}

impl Support {
    /// Returns whether the machine has the way.
    pub fn is_usable(&self) -> bool {
        *self == Self::Usable
    }
}
