//! Providers against the real thing.

#![allow(clippy::unwrap_used, clippy::panic)]

#[cfg(feature = "pkcs11")]
mod pkcs11;
