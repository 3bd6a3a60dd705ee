//! The formats as their users see them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this binary is tests throughout")]

mod backup;
mod convert;
mod crash;
mod damaged_luks1;
mod damaged_luks2;
mod device;
mod flips;
mod formatted_clone;
mod keyslots;
mod lifecycle;
mod properties;
mod recovery;
mod reencryption;
mod token_keyslots;
mod tokens;
mod volume;
