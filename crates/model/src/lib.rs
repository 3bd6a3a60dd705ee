//! Pure. The nouns of the house and their rules, and the documents people already write.
//!
//! A dialect ([`dialect`]) reads somebody else's document into the types of this crate, so that
//! nothing above knows how the document spells them.

#![forbid(unsafe_code)]

pub mod dialect;

mod checksum;
mod encryption;
mod error;
mod image;
mod image_format;
mod key_management;
mod volume;

pub use checksum::{Checksum, ChecksumAlgorithm};
pub use encryption::{EncryptionRequest, EncryptionSettings, LuksFormat, Pbkdf};
pub use error::Error;
pub use image::{
    CacheMode, CloneFormats, CloneRequest, ClusterCompression, ExistingTarget, ImageOperation,
    ImageSource, ImageTarget, Reach, Resume, SourceFormat, TargetFormat, encrypted_target,
};
pub use image_format::{ImageFormat, NamedFormat};
pub use key_management::{KmsKind, KmsLogin, KmsRequest};
pub use volume::{FileSystem, ImageId, SnapshotId, Tuning, VolumeId};
