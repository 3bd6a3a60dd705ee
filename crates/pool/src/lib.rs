//! Edge. Where the bytes of volumes and snapshots live. No key ever comes here: what a pool holds is
//! ciphertext, or was never meant to be.
//!
//! [`Pool`] is what every storage engine implements; [`Directory`] keeps files in a directory. Every
//! pool passes the suite in [`conformance`].

#![forbid(unsafe_code)]

pub mod conformance;

mod directory;
mod error;
mod pool;

pub use directory::Directory;
pub use error::{Error, ErrorKind, Result};
pub use pool::{CopyProgress, Entry, FormatMark, FormatStage, Item, ItemGuard, Pool, Space};
