//! What will open a target, for as long as it takes until its volume key is there.

use strongroom_crypto::CostPolicy;
use strongroom_disk::Disk;
use strongroom_kms::Envelope;
use strongroom_luks::{FormatOptions, Formatted};

use crate::envelope_file::EnvelopeFile;
use crate::managed_key::NewDataKey;
use crate::staged::Staged;
use crate::{Error, ManagedKey, NewKey, Opener, OwnedNewKey, Result};

/// What will open a target. It is gone once it has formatted or opened it.
pub(crate) struct TargetKey {
    key: OwnedNewKey,
    /// Where a KMS is asked, what it has wrapped for a target that is new.
    made: Option<NewDataKey>,
    /// The envelope of a target that an earlier job has begun, where the job's journal has one.
    earlier: Option<Box<Envelope>>,
}

/// What an earlier job says of the target.
pub(crate) enum Earlier {
    /// There was none, or nothing is left of it.
    Nothing,
    /// It has begun the target, and left this envelope.
    Begun(Option<Box<Envelope>>),
}

impl TargetKey {
    /// Prepares a key before there is any file: a KMS wraps a new data key, and `options` become
    /// those of a header that it opens.
    ///
    /// # Errors
    ///
    /// Those of [`NewDataKey::wrap`].
    pub(crate) fn prepare(
        key: OwnedNewKey,
        options: &mut FormatOptions,
        earlier: Earlier,
        label: &str,
    ) -> Result<Self> {
        let (made, earlier) = match (key.new_key(), earlier) {
            (NewKey::Kms(new), Earlier::Nothing) => {
                (Some(NewDataKey::wrap(new, options, label)?), None)
            }
            (NewKey::Kms(new), Earlier::Begun(envelope)) => {
                new.check_place(options.version, label)?;
                (None, envelope)
            }
            (NewKey::Passphrase(_), _) => (None, None),
        };
        Ok(Self { key, made, earlier })
    }

    /// Returns the envelope of the target, where it has one.
    pub(crate) fn envelope(&self) -> Option<&Envelope> {
        self.made.as_ref().map(|made| &made.key.envelope).or(self.earlier.as_deref())
    }

    /// Returns the file that the envelope is to stand in, if there is to be one.
    ///
    /// # Errors
    ///
    /// [`Error::EnvelopeExists`] when its name is taken.
    pub(crate) fn envelope_file(&mut self) -> Result<Option<EnvelopeFile>> {
        match (&mut self.made, &self.earlier, self.key.new_key()) {
            (Some(made), ..) => Ok(made.file.take()),
            (None, Some(envelope), NewKey::Kms(new)) => {
                let create = |path| EnvelopeFile::create_again(path, envelope);
                new.envelope_file.map(create).transpose()
            }
            _ => Ok(None),
        }
    }

    /// Formats a new volume. The header is not written anywhere.
    ///
    /// # Errors
    ///
    /// When the options do not fit each other.
    pub(crate) fn format(
        self,
        options: &FormatOptions,
        label: &str,
        policy: &CostPolicy,
    ) -> Result<Formatted> {
        match (&self.key, &self.made) {
            (OwnedNewKey::Passphrase(passphrase), _) => {
                Staged::format(options, label, passphrase, policy)
            }
            (OwnedNewKey::Kms { .. }, Some(made)) => made.key.format(options, label),
            (OwnedNewKey::Kms { .. }, None) => Err(Error::Request {
                problem: format!("what an interrupted job had left of {label} was taken away"),
            }),
        }
    }

    /// Opens the volume that an earlier job has begun.
    ///
    /// # Errors
    ///
    /// Those of [`Staged::open`].
    pub(super) fn open(self, disk: &dyn Disk, policy: &CostPolicy) -> Result<Staged> {
        let opener = match &self.key {
            OwnedNewKey::Passphrase(passphrase) => Opener::Passphrase(passphrase),
            OwnedNewKey::Kms { provider, .. } => Opener::Kms(ManagedKey {
                provider: provider.as_ref(),
                envelope: self.earlier.as_deref(),
            }),
        };
        Staged::open(disk, opener, policy)
    }
}
