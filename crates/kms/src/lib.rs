//! Edge. Data keys, wrapped by a key that stays in a key management system (KMS).
//!
//! A *data key* ([`DataKey`](strongroom_crypto::DataKey)) opens a keyslot. A [`KeyProvider`] wraps
//! it under a *key encryption key* (KEK), which makes an [`Envelope`]: text that may lie anywhere,
//! since only whoever may use the KEK gets the data key out of it. What the data key belongs to is
//! sealed in with it ([`Binding`]), so that no envelope opens in the place of another.
//!
//! [`open`] makes a provider of what people say: which KMS, which key, which credentials.

#![forbid(unsafe_code)]

pub mod conformance;

mod binding;
mod breaker;
mod envelope;
mod error;
mod kek;
pub mod kmip;
mod limits;
mod local;
mod open;
mod passphrase;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod provider;
mod random;
mod sealed;
mod tls;
mod transit;

pub use binding::Binding;
pub use envelope::{Derivation, Envelope, Fingerprint, Wrapped};
pub use error::{Error, ErrorKind, Result};
pub use kmip::ttlv;
pub use limits::Limits;
pub use local::LocalKek;
pub use open::{Credentials, open, open_within};
pub use provider::{Expiry, KeyProvider, Probe};
pub use sealed::new_data_key;
