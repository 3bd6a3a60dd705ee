//! libvirt's storage XML: `<volume>`, `<encryption>`, `<secret>`, and the `<disk>` of a domain
//! (libvirt.org/formatstorage.html, formatstorageencryption.html, formatsecret.html, formatdomain.html).
//!
//! Every type is read from an element and written as one; what it does not know is kept and written
//! again. Where the documentation and the daemon differ, this reads both and writes what the daemon
//! takes. What a reader should tell but not fail for comes as notes beside the value (`read_with_notes`).

mod contents;
mod disk;
mod encryption;
mod secret;
mod uuid;
mod volume;
pub mod xml;

pub use disk::{BackingChain, DiskLayer, DiskSource, DomainDisk};
pub use encryption::{
    CipherChoice, Encryption, EncryptionFormat, Engine, IvGenerator, Preset, SecretName,
    SecretReference,
};
pub use secret::{Secret, SecretUsage};
pub use uuid::canonical_uuid;
pub use volume::{BackingStore, Creation, Permissions, Target, TargetLines, Volume, VolumeFormat};
