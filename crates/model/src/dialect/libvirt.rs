//! libvirt's storage XML: `<volume>`, `<encryption>`, `<secret>`, and the `<disk>` of a domain
//! (libvirt.org/formatstorage.html, formatstorageencryption.html, formatsecret.html, formatdomain.html).
//!
//! Every type is read from an element and written as one; what it does not know is kept and written
//! again. Where the documentation and the daemon differ, this reads both and writes what the daemon
//! takes.

mod disk;
mod encryption;
mod secret;
mod volume;
pub mod xml;

pub use disk::{DiskSource, DomainDisk};
pub use encryption::{
    CipherChoice, Encryption, EncryptionFormat, Engine, IvGenerator, SecretName, SecretReference,
};
pub use secret::{Secret, SecretUsage};
pub use volume::{BackingStore, Permissions, Target, Volume, VolumeFormat};
