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
pub mod library;
pub mod managed;
mod managed_key;
pub mod new_image;
mod opener;
pub mod qcow2_image;
pub mod sealing;
mod staged;
pub mod volumes;

pub use credentials::credentials;
pub use device::{Device, Unlocked};
pub use error::{Error, ErrorKind, Result};
pub use opener::{ManagedKey, NewKey, NewManagedKey, Opener, OwnedNewKey, OwnedOpener};

/// Returns the operating system's random numbers.
pub fn system_rng() -> impl rand_core::CryptoRng {
    rand_core::UnwrapErr(getrandom::SysRng)
}
