//! Edge. Makes an opened volume appear: as a device of the kernel, as one file in user space, as an
//! export over NBD; and what comes on top of a device, file systems and mounts.
//!
//! Everything here is synchronous. Nothing asks for a key: an [`OpenedVolume`] has its volume key.
//! What was done is told as [`Step`]s, which are undone backwards.

pub mod dm;
pub mod file_system;
pub mod fuse;
pub mod loop_device;
pub mod mount;
pub mod nbd;

mod error;
mod launcher;
mod message;
mod opened_volume;
mod plaintext;
mod service;
mod step;
mod support;
mod sys;
#[cfg(test)]
mod test_device;

pub use error::{Error, ErrorKind, Result};
pub use launcher::Launcher;
pub use opened_volume::{EncryptedContents, OpenedVolume};
pub use service::Service;
pub use step::Step;
pub use support::Support;
