//! LUKS1 (LUKS On-Disk Format Specification 1.2.3).

mod format;
mod header;
mod keyslots;
mod repair;
mod restore;

pub use header::{Header, Keyslot};

pub(crate) use format::format;
pub(crate) use header::ALIGNMENT;
pub(crate) use repair::repair;
pub(crate) use restore::restore;

/// The number of keyslots of every LUKS1 header.
pub const KEYSLOTS: usize = 8;

/// Bytes from the start of the device that [`Header::parse`] needs.
pub(crate) const HEADER_LEN: usize = 1024;

/// The unit of every offset in the header, in bytes.
pub(crate) const SECTOR: u64 = 512;
