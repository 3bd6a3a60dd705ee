//! What can be done to a disk image, as values that the command line and the dialects make.

mod formats;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

pub use self::formats::{CloneFormats, SourceFormat, TargetFormat, encrypted_target};
use crate::{Checksum, EncryptionRequest, ImageFormat};

/// A copy of an image into a new one, changed on the way or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneRequest {
    /// Where the image stands.
    pub source: ImageSource,
    /// The source's format, where somebody said so; the file's name tells it otherwise.
    pub source_format: Option<ImageFormat>,
    /// The folders from which backing and data files that the source names may be read; none by
    /// default.
    pub backing_from: Vec<PathBuf>,
    /// Certificates to trust beside the system's own, in PEM, for sources behind `https://`.
    pub ca_file: Option<PathBuf>,
    /// Which hosts are talked to, for sources behind a URL.
    pub reach: Reach,
    /// The checksum that the bytes of the source must have.
    pub checksum: Option<Checksum>,
    /// Where the new image goes.
    pub target: ImageTarget,
    /// The target's format, where somebody said so; the file's name tells it otherwise.
    pub target_format: Option<ImageFormat>,
    /// How the clusters of a qcow2 target are compressed, if at all.
    pub compression: Option<ClusterCompression>,
    /// What happens to the contents on the way.
    pub operation: ImageOperation,
    /// What happens to a target that exists.
    pub existing_target: ExistingTarget,
    /// What happens to the part of a target that an interrupted job has made.
    pub resume: Resume,
    /// The most bytes of data to copy in a second.
    pub rate_limit: Option<NonZeroU64>,
    /// What the operating system keeps of the files in memory.
    pub cache: CacheMode,
    /// How many threads work on it; as many as seem useful when `None`. The result is the same.
    pub threads: Option<NonZeroUsize>,
}

/// Where an image is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A plain file or a block device.
    File(PathBuf),
    /// Standard input, whose length is known only at its end.
    StandardInput,
    /// A resource behind `http://` or `https://`.
    Url(String),
}

/// Which hosts are talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reach {
    /// Any that a URL names: whoever names it may use the network of this machine.
    #[default]
    Anywhere,
    /// Neither this machine nor what only its own link reaches: whoever names the URL is somewhere else.
    OtherHosts,
}

/// Where a new image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageTarget {
    /// A file that gets its name when it is whole.
    File(PathBuf),
    /// Standard output, which is written from beginning to end.
    StandardOutput,
}

/// What happens to the contents of an image while it is cloned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageOperation {
    /// Nothing. In the same format it is the same bytes, holes kept (Longhorn's `encryption:
    /// ignore`); in another one the same contents.
    Copy,
    /// A plain source becomes an encrypted target.
    Encrypt(EncryptionRequest),
    /// An encrypted source becomes a plain target.
    Decrypt,
    /// An encrypted source becomes a target encrypted under another volume key and passphrase.
    Reencrypt(EncryptionRequest),
}

/// How clusters of a qcow2 image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterCompression {
    /// Deflate, which every reader of qcow2 knows.
    Zlib,
    /// Zstandard, which QEMU knows since version 5.1.
    Zstd,
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

/// Whether a job can be taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Resume {
    /// No journal is kept while it works; the part of an earlier job is reported and left alone.
    #[default]
    Never,
    /// A journal is kept, and one that is there already is gone on from.
    Allowed,
}

/// What the operating system keeps of source and target in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CacheMode {
    /// What it likes.
    #[default]
    Writeback,
    /// Nothing: reads and writes go past it.
    None,
}

impl CloneRequest {
    /// Returns a request in which everything else is as it is unless somebody says otherwise.
    pub fn new(source: ImageSource, target: ImageTarget, operation: ImageOperation) -> Self {
        Self {
            source,
            source_format: None,
            backing_from: Vec::new(),
            ca_file: None,
            reach: Reach::default(),
            checksum: None,
            target,
            target_format: None,
            compression: None,
            operation,
            existing_target: ExistingTarget::default(),
            resume: Resume::default(),
            rate_limit: None,
            cache: CacheMode::default(),
            threads: None,
        }
    }
}
