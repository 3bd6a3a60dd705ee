//! Edge. The use cases: what people want done, joined from the floors below.
//!
//! Every outside face parses words into `strongroom_model` values, calls a function here, and maps
//! [`ErrorKind`] to its own codes.

pub mod audit;
pub mod catalog;
mod credentials;
mod derivations;
pub mod device;
pub mod encryption;
mod envelope_file;
pub mod envelopes;
mod error;
pub mod image_size;
pub mod images;
pub mod jobs;
pub mod keys;
pub mod layers;
pub mod library;
pub mod libvirt;
pub mod managed;
mod managed_key;
pub mod new_image;
mod opener;
pub mod qcow2_image;
pub mod sealing;
mod staged;
pub mod volumes;

use std::time::{SystemTime, UNIX_EPOCH};

pub use credentials::credentials;
pub use device::{Device, Unlocked};
pub use error::{Error, ErrorKind, Result};
pub use opener::{ManagedKey, NewKey, NewManagedKey, Opener, OwnedNewKey, OwnedOpener};

/// Returns the time, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns bytes as hexadecimal digits, in small letters.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the operating system's random numbers.
pub fn system_rng() -> impl rand_core::CryptoRng {
    rand_core::UnwrapErr(getrandom::SysRng)
}
