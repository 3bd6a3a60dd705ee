//! What can go wrong in this crate. No variant ever holds a byte of a secret.

use crate::{CipherSpec, Hash};

/// An error of the crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Argon2 or PBKDF2 parameters are outside what the function allows.
    #[error("{kdf} does not allow {parameter} {value}: {allowed}")]
    CostOutOfRange {
        /// The function's name.
        kdf: &'static str,
        /// Which parameter.
        parameter: &'static str,
        /// The value that was asked for.
        value: u64,
        /// The values that work.
        allowed: &'static str,
    },
    /// A header or a Secret demands more memory than the policy allows.
    #[error(
        "key derivation with {kdf} needs {needed_kib} KiB of memory, the limit is {limit_kib} KiB"
    )]
    CostMemory {
        /// The function's name.
        kdf: &'static str,
        /// The memory it would take.
        needed_kib: u64,
        /// The policy's ceiling.
        limit_kib: u64,
    },
    /// A header or a Secret demands more time than the policy allows.
    #[error(
        "key derivation with {kdf} and {iterations} iterations needs about {needed_seconds} s of processor time, \
         the limit is {limit_seconds} s{note}"
    )]
    CostTime {
        /// The function's name.
        kdf: &'static str,
        /// The iterations asked for.
        iterations: u32,
        /// Nominal seconds on the reference machine.
        needed_seconds: u64,
        /// The policy's ceiling.
        limit_seconds: u64,
        /// Why an iteration is so expensive, where that surprises people.
        note: &'static str,
    },
    /// The keyslots of a header together demand more time than the policy allows for one unlock.
    #[error(
        "the keyslot needs about {needed_seconds} s more of processor time, {left_seconds} s are left of the          {limit_seconds} s that all keyslots may take together"
    )]
    CostTotal {
        /// Nominal seconds of the keyslot.
        needed_seconds: u64,
        /// Nominal seconds left.
        left_seconds: u64,
        /// The ceiling for all keyslots together.
        limit_seconds: u64,
    },
    /// The saved state of a hasher is none that this version has saved.
    #[error("the saved state of a {hash} digest cannot be read")]
    HasherState {
        /// The hash's name.
        hash: &'static str,
    },
    /// The specification names a cipher, mode or IV generator that does not fit the others.
    #[error("cipher specification {spec:?} is not possible: {reason}")]
    ImpossibleCipher {
        /// The text as it was given.
        spec: String,
        /// What does not fit.
        reason: String,
    },
    /// The key size does not fit the cipher and mode.
    #[error("{spec} has no {bits}-bit key: use {}", .allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    KeySize {
        /// The specification.
        spec: CipherSpec,
        /// The size that was asked for.
        bits: usize,
        /// The sizes that work, in bits.
        allowed: &'static [u16],
    },
    /// The key handed over has another length than its encryption needs.
    #[error("the key has {actual} bytes where {expected} are needed")]
    KeyLength {
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The processor lacks the instructions that a kernel needs.
    #[error("this processor cannot run the {kernel} kernel")]
    KernelUnavailable {
        /// The kernel that was asked for.
        kernel: &'static str,
    },
    /// The machine, or the limit that this process runs under, has too little memory.
    #[error("key derivation with {kdf} needs {needed_kib} KiB of memory, and there is not so much")]
    OutOfMemory {
        /// The function's name.
        kdf: &'static str,
        /// The memory it takes.
        needed_kib: u64,
    },
    /// A kernel gave a wrong answer to a known question: the processor or the build is faulty.
    #[error("self-test of the {kernel} kernel failed: this processor or build cannot be trusted")]
    SelfTest {
        /// The kernel that failed.
        kernel: &'static str,
    },
    /// A hash nobody here knows.
    #[error("unknown hash {name:?}: use one of {}", Hash::NAMES.join(", "))]
    UnknownHash {
        /// The name as given.
        name: String,
    },
    /// Both halves of an XTS key are equal, which breaks the mode.
    #[error("both halves of the XTS key are equal")]
    WeakXtsKey,
}
