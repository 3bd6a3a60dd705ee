//! Pure. LUKS1 and LUKS2 as functions from bytes to values and back.
//!
//! Reading: the caller reads [`head_len`] bytes from the start of the device and hands them to
//! [`Header::parse`]; it reads a keyslot's [`area`](Header::keyslot_area) and hands it to
//! [`Header::open_keyslot`]. Writing: every change is a value, a [`Change`] of writes and flushes
//! in an order that is safe to interrupt anywhere; the caller carries it out.
//!
//! Formats: LUKS On-Disk Format Specification 1.2.3 ("LUKS1") and LUKS2 On-Disk Format
//! Specification 1.1.1 ("LUKS2"), and what cryptsetup does where they are silent.

#![deny(clippy::indexing_slicing)]

mod af;
mod areas;
mod backup;
mod change;
mod convert;
mod error;
mod format;
mod formatted_clone;
mod header;
mod key_material;
pub mod luks1;
pub mod luks2;
mod payload;
mod wire;

pub use backup::{Backup, RestoreCheck};
pub use change::{Change, Step};
pub use convert::{to_luks1, to_luks2};
pub use error::Error;
pub use format::{FormatOptions, Formatted, Version};
pub use formatted_clone::{formatted_clone_head_len, is_formatted_clone};
pub use header::{
    Binding, Found, Header, KeyslotSummary, NewKeyslot, Recovery, RepairScope, head_len,
    other_signature,
};
pub use payload::Payload;
