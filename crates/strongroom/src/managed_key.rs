//! Data keys that a KMS manages: unwrapped to open an image, made and wrapped for a new one.

use strongroom_crypto::{DataKey, Kdf, Passphrase};
use strongroom_kms::{Binding, Envelope, ErrorKind as Kms, new_data_key};
use strongroom_luks::{FormatOptions, Formatted, Header, Version};

use crate::device::{Trial, Unlocked};
use crate::envelope_file::EnvelopeFile;
use crate::envelopes::{self, token_text};
use crate::{Error, ManagedKey, NewManagedKey, Result, system_rng};

/// A new data key, wrapped by its KMS, which gives it back.
pub(crate) struct NewDataKey {
    passphrase: Passphrase,
    pub(crate) envelope: Envelope,
    /// The file that the envelope stands in besides the header. It has no name yet.
    pub(crate) file: Option<EnvelopeFile>,
}

/// An envelope, and the keyslots that the data key in it may open.
struct Candidate {
    envelope: Envelope,
    keyslots: Vec<u32>,
}

/// Opens one of the keyslots `ids` with a data key that a KMS unwraps.
///
/// # Errors
///
/// That of the envelope that came closest.
pub(crate) fn unlock(trial: &mut Trial<'_>, ids: &[u32], key: ManagedKey<'_>) -> Result<Unlocked> {
    let binding = Binding::image(trial.header.uuid());
    let label = trial.disk.label().to_owned();
    let mut clearest: Option<Error> = None;
    let mut note = |error: Error| {
        if clearest.as_ref().is_none_or(|before| clarity(&error) > clarity(before)) {
            clearest = Some(error);
        }
    };
    for candidate in candidates(trial, ids, key, &label) {
        match candidate.and_then(|candidate| open(trial, &candidate, key, &binding)) {
            Ok(unlocked) => return Ok(unlocked),
            Err(Error::Kms(error)) if error.kind() == Kms::Unavailable => {
                // Whoever does not answer will not do so for the next envelope.
                return Err(Error::Kms(error));
            }
            Err(error) => note(error),
        }
    }
    Err(clearest.unwrap_or(Error::NoEnvelope { label }))
}

fn open(
    trial: &mut Trial<'_>,
    candidate: &Candidate,
    key: ManagedKey<'_>,
    binding: &Binding,
) -> Result<Unlocked> {
    let data_key = key.provider.unwrap(&candidate.envelope, binding)?;
    match trial.open(&candidate.keyslots, &text(&data_key)) {
        Err(Error::Luks { source: strongroom_luks::Error::WrongPassphrase { .. }, label }) => {
            Err(Error::DataKey { label, kms: key.provider.label() })
        }
        opened => opened,
    }
}

/// Returns the envelopes that may lead to one of the keyslots `ids`: those that the KMS may have made
/// before all others, which are there to be told of.
fn candidates(
    trial: &Trial<'_>,
    ids: &[u32],
    key: ManagedKey<'_>,
    label: &str,
) -> Vec<Result<Candidate>> {
    let header = match (key.envelope, trial.header) {
        (Some(envelope), _) => {
            return vec![Ok(Candidate { envelope: envelope.clone(), keyslots: ids.to_vec() })];
        }
        (None, Header::Luks1(_)) => return Vec::new(),
        (None, Header::Luks2(header)) => header,
    };
    let kind = key.provider.kind();
    let is_own = |found: &Result<_>| !matches!(found, Ok(Candidate { envelope, .. }) if envelope.kind != kind);
    let mut found: Vec<Result<Candidate>> = envelopes::each(header, label)
        .filter_map(|held| match held {
            Ok(held) => {
                let named = ids.iter().filter(|id| held.keyslots.contains(id));
                let keyslots: Vec<u32> = named.copied().collect();
                let envelope = held.envelope;
                (!keyslots.is_empty()).then_some(Ok(Candidate { envelope, keyslots }))
            }
            Err(error) => Some(Err(error)),
        })
        .collect();
    if found.iter().any(|found| found.is_ok() && is_own(found)) {
        found.retain(is_own);
    }
    found
}

/// Tells how much an error of one envelope says about why nothing opens, compared to others.
fn clarity(error: &Error) -> u8 {
    match error {
        Error::Kms(error) => match error.kind() {
            Kms::Unavailable => 5,
            Kms::Denied => 4,
            Kms::Corrupt => 3,
            Kms::NotFound => 2,
            Kms::Misconfigured => 0,
        },
        Error::DataKey { .. } => 3,
        _ => 1,
    }
}

impl NewDataKey {
    /// Makes a data key for a header that will be formatted with `options`, which become those of a
    /// header that a KMS opens. `label` is what errors call the image.
    ///
    /// # Guarantees
    ///
    /// The envelope was stored, read back and unwrapped: the KMS gives the same data key again.
    ///
    /// # Errors
    ///
    /// What the KMS says. [`Error::NoEnvelopeFile`] where the envelope has no place;
    /// [`Error::EnvelopeExists`] where its place is taken.
    pub(crate) fn wrap(
        key: NewManagedKey<'_>,
        options: &mut FormatOptions,
        label: &str,
    ) -> Result<Self> {
        let uuid = options.settle_uuid(&mut system_rng()).map_err(Error::luks(label))?;
        key.check_place(options.version, label)?;
        let file = key.envelope_file.map(EnvelopeFile::create).transpose()?;
        let binding = Binding::image(&uuid);
        let data_key = new_data_key(&mut system_rng());
        let wrapped = key.provider.wrap(&data_key, &binding)?;
        let envelope = match &file {
            Some(file) => file.store(&wrapped)?,
            None => Envelope::parse(wrapped.to_json().as_bytes(), label)?,
        };
        if key.provider.unwrap(&envelope, &binding)? != data_key {
            let problem = "it does not give back the data key that it was given";
            return Err(
                strongroom_kms::Error::new(Kms::Corrupt, key.provider.label(), problem).into()
            );
        }
        // The key has full entropy: nobody guesses it, however cheap a guess is.
        options.kdf = Kdf::Pbkdf2 {
            hash: match options.version {
                Version::Luks1 => options.hash,
                Version::Luks2 => strongroom_crypto::Hash::Sha256,
            },
            iterations: Kdf::MIN_PBKDF2_ITERATIONS,
        };
        options.digest_iterations = Kdf::MIN_PBKDF2_ITERATIONS;
        options.token =
            (options.version == Version::Luks2).then(|| token_text(&envelope, &[FIRST_KEYSLOT]));
        Ok(Self { passphrase: text(&data_key), envelope, file })
    }

    /// Formats a new volume for this data key. The header is not written anywhere.
    ///
    /// # Errors
    ///
    /// When the options do not fit each other.
    pub(crate) fn format(&self, options: &FormatOptions, label: &str) -> Result<Formatted> {
        // The cost is the least there is, whatever somebody allows.
        let policy = strongroom_crypto::CostPolicy::default();
        options.format(&self.passphrase, &policy, &mut system_rng()).map_err(Error::luks(label))
    }
}

impl NewManagedKey<'_> {
    /// Refuses a key of which the envelope would have no place.
    ///
    /// # Errors
    ///
    /// [`Error::NoEnvelopeFile`].
    pub(crate) fn check_place(&self, version: Version, label: &str) -> Result<()> {
        match (version, self.envelope_file) {
            (Version::Luks1, None) => Err(Error::NoEnvelopeFile { label: label.to_owned() }),
            _ => Ok(()),
        }
    }
}

/// Returns a data key as the passphrase of a keyslot: it is text.
fn text(key: &DataKey) -> Passphrase {
    Passphrase::new(key.expose_bytes().to_vec())
}

/// The keyslot that formatting fills.
const FIRST_KEYSLOT: u32 = 0;
