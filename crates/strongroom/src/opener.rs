//! What opens an image, and what will open a new one.

use std::path::{Path, PathBuf};

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

/// What opens an encrypted image, held: it is wiped with this.
#[derive(Debug)]
pub enum OwnedOpener {
    /// A passphrase.
    Passphrase(Passphrase),
    /// A KMS, which unwraps the data key.
    Kms {
        /// The KMS.
        provider: Box<dyn KeyProvider>,
        /// The envelope, where the header has none or is not to be asked.
        envelope: Option<Box<Envelope>>,
    },
}

/// What will open a new encrypted image, held: it is wiped with this.
#[derive(Debug)]
pub enum OwnedNewKey {
    /// A passphrase.
    Passphrase(Passphrase),
    /// A new data key that a KMS wraps.
    Kms {
        /// The KMS.
        provider: Box<dyn KeyProvider>,
        /// Where the envelope goes besides the header.
        envelope_file: Option<PathBuf>,
    },
}

impl OwnedOpener {
    /// Returns it for somebody to open with.
    pub fn opener(&self) -> Opener<'_> {
        match self {
            Self::Passphrase(passphrase) => Opener::Passphrase(passphrase),
            Self::Kms { provider, envelope } => Opener::Kms(ManagedKey {
                provider: provider.as_ref(),
                envelope: envelope.as_deref(),
            }),
        }
    }
}

impl OwnedNewKey {
    /// Returns it for somebody to encrypt with.
    pub fn new_key(&self) -> NewKey<'_> {
        match self {
            Self::Passphrase(passphrase) => NewKey::Passphrase(passphrase),
            Self::Kms { provider, envelope_file } => NewKey::Kms(NewManagedKey {
                provider: provider.as_ref(),
                envelope_file: envelope_file.as_deref(),
            }),
        }
    }
}

impl<'a> From<&'a Passphrase> for Opener<'a> {
    fn from(passphrase: &'a Passphrase) -> Self {
        Self::Passphrase(passphrase)
    }
}

impl<'a> Opener<'a> {
    /// Returns a KMS that is given no envelope.
    pub fn kms(provider: &'a dyn KeyProvider) -> Self {
        Self::Kms(ManagedKey { provider, envelope: None })
    }

    /// Returns the passphrase, where it is one.
    pub fn passphrase(self) -> Option<&'a Passphrase> {
        match self {
            Self::Passphrase(passphrase) => Some(passphrase),
            Self::Kms(_) => None,
        }
    }
}
