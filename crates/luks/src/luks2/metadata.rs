//! The metadata as values (specification, section 3).

use std::collections::BTreeMap;
use std::ops::Range;

use crate::key_material;

/// Everything that the JSON area says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Keyslots by number.
    pub keyslots: BTreeMap<u32, Keyslot>,
    /// Tokens by number.
    pub tokens: BTreeMap<u32, Token>,
    /// Segments by number.
    pub segments: BTreeMap<u32, Segment>,
    /// Digests by number.
    pub digests: BTreeMap<u32, Digest>,
    /// The rest.
    pub config: Config,
}

/// A keyslot (specification, section 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyslot {
    /// The length of the key it holds, in bytes.
    pub key_size: u32,
    /// Where its material lies.
    pub area: Area,
    /// When it is tried.
    pub priority: Priority,
    /// What it is.
    pub kind: KeyslotKind,
}

/// The kinds of keyslot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyslotKind {
    /// Opened by a passphrase.
    Luks2(Luks2Keyslot),
    /// Holds the state of a re-encryption.
    Reencrypt {
        /// `reencrypt`, `encrypt` or `decrypt`.
        mode: String,
        /// `forward` or `backward`.
        direction: String,
    },
    /// Some other tool's.
    Unknown {
        /// Its type.
        kind: String,
    },
}

/// What opens a keyslot of type `luks2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luks2Keyslot {
    /// Key derivation.
    pub kdf: Kdf,
    /// The derivation's salt.
    pub salt: Vec<u8>,
    /// The splitter's hash, by name.
    pub af_hash: String,
    /// The area's cipher, by name.
    pub encryption: String,
    /// The length of the area's key in bytes.
    pub area_key_size: u32,
}

/// Key derivation as the header describes it; names that are unknown here only hurt when used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kdf {
    /// PBKDF2.
    Pbkdf2 {
        /// The hash by name.
        hash: String,
        /// Iterations.
        iterations: u32,
    },
    /// Argon2.
    Argon2 {
        /// `argon2i` or `argon2id`.
        kind: String,
        /// Passes.
        time: u32,
        /// Memory in KiB.
        memory: u32,
        /// Lanes.
        cpus: u32,
    },
}

/// A range of the keyslots area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// Offset on the device in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
    /// What lies there.
    pub kind: AreaKind,
}

/// The kinds of area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AreaKind {
    /// Encrypted key material.
    Raw,
    /// The resilience data of a re-encryption: `none`, `checksum`, `journal`, `datashift` …
    Resilience(String),
    /// Something else.
    Unknown(String),
}

/// When a keyslot is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Only when it is named.
    Ignore,
    /// With the others.
    Normal,
    /// Before the others.
    Prefer,
}

/// A token (specification, section 3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its type.
    pub kind: String,
    /// The keyslots that it can open.
    pub keyslots: Vec<u32>,
}

/// A segment of the data device (specification, section 3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Offset on the data device in bytes.
    pub offset: u64,
    /// Length.
    pub length: SegmentLength,
    /// Flags.
    pub flags: Vec<String>,
    /// What it is.
    pub kind: SegmentKind,
}

/// The length of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentLength {
    /// So many bytes.
    Bytes(u64),
    /// Up to the end of the device.
    Dynamic,
}

/// The kinds of segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentKind {
    /// Encrypted.
    Crypt {
        /// IV number of the first sector.
        iv_tweak: u64,
        /// The cipher by name.
        encryption: String,
        /// Size of an encryption sector in bytes.
        sector_size: u32,
        /// The kind of integrity protection, when there is one.
        integrity: Option<String>,
    },
    /// Plain, inside a re-encryption.
    Linear,
    /// Encrypted by the drive, or something newer.
    Unknown {
        /// Its type.
        kind: String,
    },
}

/// A digest of a volume key (specification, section 3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The keyslots that hold the key.
    pub keyslots: Vec<u32>,
    /// The segments that it encrypts; none for an unbound key.
    pub segments: Vec<u32>,
    /// What it is.
    pub kind: DigestKind,
}

/// The kinds of digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DigestKind {
    /// PBKDF2 of the key.
    Pbkdf2 {
        /// The hash by name.
        hash: String,
        /// Iterations.
        iterations: u32,
        /// Salt.
        salt: Vec<u8>,
        /// The result.
        digest: Vec<u8>,
    },
    /// Something else.
    Unknown {
        /// Its type.
        kind: String,
    },
}

/// Sizes, flags and requirements (specification, section 3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes of the JSON area.
    pub json_size: u64,
    /// Bytes of the keyslots area.
    pub keyslots_size: u64,
    /// Flags for activation.
    pub flags: Vec<String>,
    /// Features that whoever opens the volume must have.
    pub requirements: Vec<String>,
}

impl Metadata {
    /// Returns the digest that keyslot `id` is bound to.
    pub fn digest_of_keyslot(&self, id: u32) -> Option<(u32, &Digest)> {
        self.digests
            .iter()
            .find_map(|(&number, digest)| digest.keyslots.contains(&id).then_some((number, digest)))
    }

    /// Returns the digest that segment `id` is bound to.
    pub fn digest_of_segment(&self, id: u32) -> Option<(u32, &Digest)> {
        self.digests
            .iter()
            .find_map(|(&number, digest)| digest.segments.contains(&id).then_some((number, digest)))
    }
}

impl Area {
    /// Returns the range of the device that the area takes.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.size)
    }
}

impl Priority {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Normal => "normal",
            Self::Prefer => "prefer",
        }
    }
}

/// Returns the bytes of a keyslot area for a key of `key_len` bytes.
pub(crate) fn keyslot_area_len(key_len: usize) -> u64 {
    (key_material::sealed_len(key_len) as u64).next_multiple_of(super::ALIGNMENT)
}

/// The most keyslots, tokens or segments that a header may have.
pub(crate) const MAX_OBJECTS: u32 = 32;

/// The most digests that a header may have.
pub(crate) const MAX_DIGESTS: u32 = 8;
