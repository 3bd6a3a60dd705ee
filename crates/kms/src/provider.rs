//! What every KMS does for us.

use std::fmt;
use std::time::SystemTime;

use strongroom_crypto::DataKey;
use strongroom_model::KmsKind;

use crate::{Binding, Envelope, Result};

/// Wraps and unwraps data keys with one key encryption key.
///
/// # Guarantees
///
/// - A call ends in bounded time.
/// - `unwrap` gives the data key that was wrapped for this binding, or an error.
/// - Nothing in the KMS is created, changed or deleted.
///
/// All of them pass the suite in [`conformance`](crate::conformance).
pub trait KeyProvider: fmt::Debug + Send + Sync {
    /// Returns which KMS it is.
    fn kind(&self) -> KmsKind;

    /// Returns what errors call the KMS and its key.
    fn label(&self) -> String;

    /// Wraps a data key that belongs to `binding`.
    ///
    /// # Errors
    ///
    /// What the KMS says.
    fn wrap(&self, key: &DataKey, binding: &Binding) -> Result<Envelope>;

    /// Returns the data key in an envelope. Only which key of the KMS has wrapped it is taken from
    /// the envelope; with whom to talk, and with which credentials, was settled before, since an
    /// envelope may come from anybody.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) when it belongs to something else, or was altered.
    fn unwrap(&self, envelope: &Envelope, binding: &Binding) -> Result<DataKey>;

    /// Checks that an envelope unwraps to the data key that was wrapped, whatever that belongs to,
    /// and gives nothing out.
    ///
    /// # Errors
    ///
    /// Those of [`unwrap`](Self::unwrap), but for the binding.
    fn verify(&self, envelope: &Envelope) -> Result<()>;

    /// Returns the same data key under the newest version of the key encryption key. It does not
    /// leave the KMS where the KMS and its policy can do so.
    ///
    /// # Errors
    ///
    /// What the KMS says.
    fn rewrap(&self, envelope: &Envelope) -> Result<Envelope>;

    /// Asks how the KMS is and what these credentials may do, without changing anything.
    ///
    /// # Errors
    ///
    /// When it cannot even be asked.
    fn probe(&self) -> Result<Probe>;
}

/// How a KMS is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// The name and version of the server, as far as it tells.
    pub server: Option<String>,
    /// The newest version of the key encryption key, where it has versions.
    pub key_version: Option<String>,
    /// The oldest version that still unwraps, where the KMS tells.
    pub oldest_key_version: Option<String>,
    /// How long the credentials last.
    pub credentials: Expiry,
    /// What works, in words: `encrypt`, `decrypt`, `rewrap`, `renew` …
    pub allowed: Vec<String>,
    /// What is missing or soon will be, and what to do about it; a line each.
    pub findings: Vec<String>,
}

/// How long credentials last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Nobody tells.
    #[default]
    Unknown,
    /// For ever.
    Never,
    /// Until then.
    At(SystemTime),
}
