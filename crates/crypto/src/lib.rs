//! Pure. Sector ciphers, hashes, key derivation, and every secret type of the house.
//!
//! A *cipher specification* ([`CipherSpec`]) is what people write: `aes-xts-plain64`. With a key
//! size it becomes an [`Encryption`], which only exists for pairs that work. With a key it becomes
//! a [`SectorCipher`], which encrypts and decrypts runs of sectors in place.

mod cipher_spec;
mod error;
mod hash;
mod hasher;
mod kdf;
mod secret;
mod sector;
mod stack;

pub use cipher_spec::{Cipher, CipherSpec, Encryption, Iv, KeySize, Mode};
pub use error::Error;
pub use hash::Hash;
pub use hasher::Hasher;
pub use kdf::{Argon2Variant, CostBudget, CostPolicy, Kdf};
pub use secret::{DataKey, Passphrase, Token, VolumeKey};
pub use sector::{IvUnit, Kernel, SectorCipher, SectorSize};
pub use stack::leaving_no_trace;
