//! What opens an image, and what will open a new one.

use std::path::Path;

use strongroom_crypto::Passphrase;
use strongroom_kms::{Envelope, KeyProvider};

/// What opens an encrypted image.
#[derive(Debug, Clone, Copy)]
pub enum Opener<'a> {
    /// A passphrase.
    Passphrase(&'a Passphrase),
    /// A KMS, which unwraps the data key.
    Kms(ManagedKey<'a>),
}

/// A data key that a KMS unwraps.
#[derive(Debug, Clone, Copy)]
pub struct ManagedKey<'a> {
    /// The KMS.
    pub provider: &'a dyn KeyProvider,
    /// The envelope, where the header has none or is not to be asked.
    pub envelope: Option<&'a Envelope>,
}

/// What will open a new encrypted image.
#[derive(Debug, Clone, Copy)]
pub enum NewKey<'a> {
    /// A passphrase.
    Passphrase(&'a Passphrase),
    /// A new data key that a KMS wraps.
    Kms(NewManagedKey<'a>),
}

/// A new data key that a KMS wraps.
#[derive(Debug, Clone, Copy)]
pub struct NewManagedKey<'a> {
    /// The KMS.
    pub provider: &'a dyn KeyProvider,
    /// Where the envelope goes besides the header; needed where the header has no tokens (LUKS1 and
    /// what is inside qcow2).
    pub envelope_file: Option<&'a Path>,
}
