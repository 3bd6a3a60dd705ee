//! Providers against the real thing: other people's servers, and networks that fail.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this binary is tests throughout")]

mod envelope;
mod kmip;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod transit;
