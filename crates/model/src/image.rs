//! What can be done to a disk image, as values that the command line and the dialects make.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::EncryptionRequest;

/// A copy of an image into a new one, changed on the way or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneRequest {
    /// Where the image stands.
    pub source: PathBuf,
    /// Where the new image goes.
    pub target: PathBuf,
    /// What happens to the contents on the way.
    pub operation: ImageOperation,
    /// What happens to a target that exists.
    pub existing_target: ExistingTarget,
    /// How many threads work on it; as many as seem useful when `None`. The result is the same.
    pub threads: Option<NonZeroUsize>,
}

/// What happens to the contents of an image while it is cloned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageOperation {
    /// Nothing: the same bytes, holes kept. Longhorn's `encryption: ignore`.
    Copy,
    /// A plain source becomes an encrypted target.
    Encrypt(EncryptionRequest),
    /// An encrypted source becomes a plain target.
    Decrypt,
    /// An encrypted source becomes a target encrypted under another volume key and passphrase.
    Reencrypt(EncryptionRequest),
}

/// What happens to a target that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ExistingTarget {
    /// It stays and the request fails.
    #[default]
    Refuse,
    /// The finished clone takes its place.
    Replace,
}
