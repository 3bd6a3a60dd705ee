//! What is exported, and what clients may do with it.

use std::fmt;

use strongroom_disk::{Access, Discards, Disk};

use super::wire::*;

/// A disk that clients can reach.
pub struct Export {
    pub(super) disk: Box<dyn Disk>,
    name: String,
    access: Access,
    discards: Discards,
    len: u64,
}

impl Export {
    /// Exports a disk under a name; clients that name none get it too.
    pub fn new(disk: Box<dyn Disk>, name: impl Into<String>) -> Self {
        let len = disk.len();
        let (access, discards) = (Access::ReadWrite, Discards::Refuse);
        Self { disk, name: name.into(), access, discards, len }
    }

    /// Chooses whether clients may write.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Chooses whether clients may give up blocks. The disk has to be able to.
    #[must_use]
    pub fn with_discards(mut self, discards: Discards) -> Self {
        self.discards = discards;
        self
    }

    /// The smallest, the preferred and the largest request, in bytes. Sectors that a request covers in
    /// part are read, changed and written by the disk.
    pub(super) const BLOCK_SIZES: [u32; 3] = [1, 4096, LARGEST_REQUEST];

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the length in bytes, which stays what it was when the export began: clients cannot be
    /// told that it has changed.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn is_called(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.name.as_bytes()
    }

    pub(super) fn is_writable(&self) -> bool {
        self.access == Access::ReadWrite
    }

    pub(super) fn takes_discards(&self) -> bool {
        self.is_writable() && self.discards == Discards::Pass
    }

    /// Returns the transmission flags.
    pub(super) fn flags(&self, structured: bool) -> u16 {
        let mut flags = FLAG_HAS_FLAGS | FLAG_SEND_FLUSH | FLAG_SEND_FUA | FLAG_CAN_MULTI_CONN;
        if self.is_writable() {
            flags |= FLAG_SEND_WRITE_ZEROES | FLAG_SEND_FAST_ZERO;
        } else {
            flags |= FLAG_READ_ONLY;
        }
        if self.takes_discards() {
            flags |= FLAG_SEND_TRIM;
        }
        if structured {
            flags |= FLAG_SEND_DF;
        }
        flags
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("name", &self.name).field("len", &self.len).finish()
    }
}

/// The most bytes that are read or written by one request: what clients expect of a server that says
/// nothing about it.
pub(super) const LARGEST_REQUEST: u32 = 32 << 20;
