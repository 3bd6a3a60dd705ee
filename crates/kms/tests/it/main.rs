//! Providers against the real thing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this binary is tests throughout")]

mod envelope;
#[cfg(feature = "pkcs11")]
mod pkcs11;
