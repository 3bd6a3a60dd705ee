//! What can be wrong with a header, or with what is asked of it.

use crate::Version;

/// An error of the crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device bears no LUKS magic where one belongs.
    #[error("no LUKS header found")]
    NotLuks,
    /// An RBD clone that was encrypted under a key of its own: what it does not hold is its parent's, so
    /// it is never opened or changed alone.
    #[error(
        "it is an RBD clone that was encrypted under a key of its own, and can be opened only together \
         with its parents"
    )]
    FormattedClone,
    /// The magic is there, the version is none that exists.
    #[error("LUKS version {version} is not supported")]
    UnknownVersion {
        /// The version field.
        version: u16,
    },
    /// The device ends inside something that the header says is there.
    #[error("the device ends at byte {available}, {what} needs {needed}")]
    Truncated {
        /// What does not fit.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        available: u64,
    },
    /// A header breaks a rule of its format.
    #[error("invalid {version} header: {part}: {problem}")]
    Invalid {
        /// The format whose rule it is.
        version: Version,
        /// The part that breaks it: `keyslot 3`, `segment 0`, `checksum`.
        part: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The first bytes of the device are no longer those of a header; a secondary copy is still
    /// there, perhaps since before the device was put to another use.
    #[error(
        "the primary header was overwritten{}; a secondary copy survives at byte {secondary}",
        by(.found)
    )]
    PrimaryLost {
        /// What stands there instead, when it is known.
        found: Option<&'static str>,
        /// Where the secondary copy begins.
        secondary: u64,
    },
    /// Neither copy of a LUKS2 header can be used.
    #[error(
        "both copies of the LUKS2 header are damaged (primary: {primary}; secondary: {secondary})"
    )]
    BothCopiesDamaged {
        /// What is wrong with the first copy.
        primary: Box<Self>,
        /// What is wrong with the second copy.
        secondary: Box<Self>,
    },
    /// A header without any keyslot: somebody's format was interrupted, or all keys were erased.
    #[error("the header has no keyslot: formatting it was interrupted, or its keys were erased")]
    NoKeyslots,
    /// The header needs a feature that is not known here, and says that it must not be ignored.
    #[error("the header requires {name:?}, which this version does not support")]
    Requirement {
        /// The feature's name in the header.
        name: String,
    },
    /// The volume is in the middle of a re-encryption.
    #[error("the volume is being re-encrypted: finish that with the tool that began it")]
    Reencryption,
    /// The volume stores an authentication tag for every sector.
    #[error("the volume uses integrity protection ({kind:?}), which is not supported")]
    Integrity {
        /// The kind that the segment names.
        kind: String,
    },
    /// The data segment is of a kind that cannot be opened here.
    #[error("segment {id} cannot be opened: {problem}")]
    Segment {
        /// The segment's number.
        id: u32,
        /// Why not.
        problem: String,
    },
    /// There is no such keyslot, or it is empty.
    #[error("keyslot {id} is not in use")]
    KeyslotUnused {
        /// Its number.
        id: u32,
    },
    /// The keyslot asked for holds a key already.
    #[error("keyslot {id} is in use")]
    KeyslotInUse {
        /// Its number.
        id: u32,
    },
    /// The number is larger than the format has keyslots.
    #[error("there is no keyslot {id}: {version} has keyslots 0 to {last}")]
    KeyslotNumber {
        /// The number asked for.
        id: u32,
        /// The format.
        version: Version,
        /// The largest number.
        last: u32,
    },
    /// The keyslot is of a kind that no passphrase opens.
    #[error("keyslot {id} is of type {kind:?}, which a passphrase does not open")]
    KeyslotType {
        /// Its number.
        id: u32,
        /// Its type in the header.
        kind: String,
    },
    /// Every keyslot is taken.
    #[error("all {count} keyslots are in use")]
    NoFreeKeyslot {
        /// How many there are.
        count: u32,
    },
    /// No gap in the keyslots area is large enough.
    #[error("the keyslots area has no room for another {needed} bytes")]
    NoRoom {
        /// Bytes that were looked for.
        needed: u64,
    },
    /// Removing the keyslot would lock the volume for ever.
    #[error("keyslot {id} is the last one: without it nobody can open the volume again")]
    LastKeyslot {
        /// Its number.
        id: u32,
    },
    /// The passphrase opens none of the keyslots that were tried.
    #[error("no keyslot opens with this passphrase{}", untried(.skipped))]
    WrongPassphrase {
        /// Keyslots that could not be tried, with the reason.
        skipped: Vec<(u32, String)>,
    },
    /// A key was handed over that is not the volume's.
    #[error("the key is not the volume key of this header")]
    WrongVolumeKey,
    /// There is no such token, or the number is taken.
    #[error("token {id} {problem}")]
    Token {
        /// Its number.
        id: u32,
        /// What is wrong.
        problem: String,
    },
    /// What was asked for does not fit the format.
    #[error("{version} cannot do that: {problem}")]
    Unfit {
        /// The format.
        version: Version,
        /// What does not fit.
        problem: String,
    },
    /// A header backup does not fit the device it shall be restored to.
    #[error("the header backup does not fit this device: {problem}")]
    Backup {
        /// What differs.
        problem: String,
    },
    /// Cipher, hash or key derivation.
    #[error(transparent)]
    Crypto(#[from] strongroom_crypto::Error),
}

impl Error {
    /// Returns an [`Error::Invalid`].
    pub(crate) fn invalid(
        version: Version,
        part: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Self::Invalid { version, part: part.into(), problem: problem.into() }
    }

    /// Returns an [`Error::Unfit`].
    pub(crate) fn unfit(version: Version, problem: impl Into<String>) -> Self {
        Self::Unfit { version, problem: problem.into() }
    }
}

fn by(found: &Option<&'static str>) -> String {
    found.map(|found| format!(" by {found}")).unwrap_or_default()
}

fn untried(skipped: &[(u32, String)]) -> String {
    skipped.iter().map(|(id, reason)| format!("; keyslot {id} was not tried: {reason}")).collect()
}
