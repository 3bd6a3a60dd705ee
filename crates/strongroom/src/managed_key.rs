//! Data keys that a KMS manages: unwrapped to open an image, made and wrapped for a new one.

use strongroom_crypto::{CostPolicy, DataKey, Hash, Kdf, Passphrase};
use strongroom_kms::{Binding, Envelope, ErrorKind as Kms, KeyProvider, new_data_key};
use strongroom_luks::{FormatOptions, Formatted, Header, KeyslotSummary, Version};

use crate::device::{Trial, Unlocked};
use crate::envelope_file::EnvelopeFile;
use crate::envelopes::{self, Held, token_text};
use crate::{Error, ManagedKey, NewManagedKey, Result, system_rng};

/// A new data key that its KMS has wrapped, and has given back.
pub(crate) struct ProvedDataKey {
    pub(crate) passphrase: Passphrase,
    /// Its envelope, as it was stored.
    pub(crate) envelope: Envelope,
}

/// The data key of a volume that is about to be formatted.
pub(crate) struct NewDataKey {
    pub(crate) key: ProvedDataKey,
    /// The file that the envelope stands in besides the header. It has no name yet.
    pub(crate) file: Option<EnvelopeFile>,
}

/// An envelope, and the keyslots that the data key in it may open.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) envelope: Envelope,
    /// Its token; `None` when it comes from elsewhere.
    pub(crate) token: Option<u32>,
    pub(crate) keyslots: Vec<u32>,
}

/// An envelope that has opened a header.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) envelope: Envelope,
    pub(crate) token: Option<u32>,
    /// The data key, as what opens the keyslot.
    pub(crate) passphrase: Passphrase,
    pub(crate) unlocked: Unlocked,
}

/// Opens one of the keyslots `ids` with a data key that a KMS unwraps.
///
/// # Errors
///
/// That of the envelope that came closest.
pub(crate) fn unlock(trial: &mut Trial<'_>, ids: &[u32], key: ManagedKey<'_>) -> Result<Unlocked> {
    let (candidates, unread) = candidates(trial, ids, key);
    match open_any(trial, candidates, key.provider) {
        Ok(opened) => Ok(opened.unlocked),
        Err(error) => Err(match unread {
            Some(unread) if clarity(&unread) > clarity(&error) => unread,
            _ => error,
        }),
    }
}

/// Opens a header with one of these envelopes. Those that the KMS may have made are tried, and the
/// others are there to be told of.
///
/// # Errors
///
/// That of the envelope that came closest; [`Error::NoEnvelope`] when there is none.
pub(crate) fn open_any(
    trial: &mut Trial<'_>,
    mut candidates: Vec<Candidate>,
    provider: &dyn KeyProvider,
) -> Result<Opened> {
    let is_own = |candidate: &Candidate| candidate.envelope.kind == provider.kind();
    if candidates.iter().any(is_own) {
        candidates.retain(is_own);
    }
    let mut clearest: Option<Error> = None;
    for (index, Candidate { envelope, .. }) in candidates.iter().enumerate() {
        let same = |other: &&Candidate| other.envelope == *envelope;
        // Another token may hold the same: the KMS is asked once.
        if candidates[..index].iter().any(|earlier| same(&earlier)) {
            continue;
        }
        let places: Vec<&Candidate> = candidates[index..].iter().filter(same).collect();
        match open(trial, envelope, &places, provider) {
            Ok(opened) => return Ok(opened),
            // Whoever is not there will not be there for the next envelope.
            Err(Error::Kms(error)) if error.is_unreachable() => return Err(Error::Kms(error)),
            Err(error) => {
                if clearest.as_ref().is_none_or(|before| clarity(&error) > clarity(before)) {
                    clearest = Some(error);
                }
            }
        }
    }
    let label = || trial.disk.label().to_owned();
    Err(clearest.unwrap_or_else(|| Error::NoEnvelope { label: label() }))
}

/// Opens a header with one envelope, which may lie in several places.
fn open(
    trial: &mut Trial<'_>,
    envelope: &Envelope,
    places: &[&Candidate],
    provider: &dyn KeyProvider,
) -> Result<Opened> {
    let data_key = provider.unwrap(envelope, &Binding::image(trial.header.uuid()))?;
    let passphrase = text(&data_key);
    let label = trial.disk.label().to_owned();
    let mut problem = Error::DataKey { label, kms: provider.label() };
    for Candidate { token, keyslots, .. } in places {
        match trial.open(&promising(trial.header, keyslots), &passphrase) {
            Ok(unlocked) => {
                let (envelope, token) = (envelope.clone(), *token);
                return Ok(Opened { envelope, token, passphrase, unlocked });
            }
            Err(Error::Luks { source: strongroom_luks::Error::WrongPassphrase { .. }, .. }) => {}
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

/// Returns those of the keyslots that derive as that of a data key does, if there are any: another
/// costs time, and does not open.
fn promising(header: &Header, ids: &[u32]) -> Vec<u32> {
    let keyslots = header.keyslots();
    let named = |slot: &&KeyslotSummary| ids.contains(&slot.id) && is_of_data_key(slot);
    let cheap: Vec<u32> = keyslots.iter().filter(named).map(|slot| slot.id).collect();
    if cheap.is_empty() { ids.to_vec() } else { cheap }
}

/// Tells whether a keyslot derives as cheaply as only that of a data key does: no passphrase of a
/// person would be kept so.
pub(crate) fn is_of_data_key(keyslot: &KeyslotSummary) -> bool {
    matches!(keyslot.kdf, Some(Kdf::Pbkdf2 { iterations, .. }) if iterations <= Kdf::MIN_PBKDF2_ITERATIONS)
}

/// Returns the envelopes that may lead to one of the keyslots `ids`, and why one cannot be read.
fn candidates(
    trial: &Trial<'_>,
    ids: &[u32],
    key: ManagedKey<'_>,
) -> (Vec<Candidate>, Option<Error>) {
    let header = match (key.envelope, trial.header) {
        (Some(envelope), _) => {
            let envelope = envelope.clone();
            return (vec![Candidate { envelope, token: None, keyslots: ids.to_vec() }], None);
        }
        (None, Header::Luks1(_)) => return (Vec::new(), None),
        (None, Header::Luks2(header)) => header,
    };
    let (mut found, mut unread) = (Vec::new(), None);
    for held in envelopes::each(header, trial.disk.label()) {
        match held {
            Ok(Held { token, keyslots, envelope }) => {
                let named = ids.iter().copied().filter(|id| keyslots.contains(id));
                let keyslots: Vec<u32> = named.collect();
                if !keyslots.is_empty() {
                    found.push(Candidate { envelope, token: Some(token), keyslots });
                }
            }
            Err(error) => drop(unread.get_or_insert(error)),
        }
    }
    (found, unread)
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

impl ProvedDataKey {
    /// Makes a data key for what `binding` says and has it wrapped; what `store` has kept of the
    /// envelope is unwrapped and compared. What a KMS does not give back is never relied on.
    ///
    /// # Errors
    ///
    /// What the KMS or `store` says.
    pub(crate) fn wrap(
        provider: &dyn KeyProvider,
        binding: &Binding,
        store: impl FnOnce(&Envelope) -> Result<Envelope>,
    ) -> Result<Self> {
        let key = new_data_key(&mut system_rng());
        let envelope = store(&provider.wrap(&key, binding)?)?;
        if provider.unwrap(&envelope, binding)? != key {
            let problem = "it does not give back the data key that it was given";
            return Err(strongroom_kms::Error::new(Kms::Corrupt, provider.label(), problem).into());
        }
        Ok(Self { passphrase: text(&key), envelope })
    }

    /// Makes a data key for a header that will be formatted with `options`, which become those of a
    /// header that a KMS opens. `label` is what errors call the image.
    ///
    /// # Errors
    ///
    /// Those of [`wrap`](Self::wrap).
    pub(crate) fn for_header(
        provider: &dyn KeyProvider,
        options: &mut FormatOptions,
        label: &str,
        store: impl FnOnce(&Envelope) -> Result<Envelope>,
    ) -> Result<Self> {
        let uuid = options.settle_uuid(&mut system_rng()).map_err(Error::luks(label))?;
        let key = Self::wrap(provider, &Binding::image(&uuid), store)?;
        options.kdf = Kdf::for_random_key(match options.version {
            Version::Luks1 => options.hash,
            Version::Luks2 => Hash::Sha256,
        });
        options.digest_iterations = Kdf::MIN_PBKDF2_ITERATIONS;
        options.token = (options.version == Version::Luks2)
            .then(|| token_text(&key.envelope, &[FIRST_KEYSLOT]));
        Ok(key)
    }

    /// Formats a new volume for this data key. The header is not written anywhere.
    ///
    /// # Errors
    ///
    /// When the options do not fit each other.
    pub(crate) fn format(&self, options: &FormatOptions, label: &str) -> Result<Formatted> {
        // The cost is the least there is, whatever somebody allows.
        let policy = CostPolicy::default();
        options.format(&self.passphrase, &policy, &mut system_rng()).map_err(Error::luks(label))
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
        key.check_place(options.version, label)?;
        let file = key.envelope_file.map(EnvelopeFile::create).transpose()?;
        let store = |wrapped: &Envelope| match &file {
            Some(file) => file.store(wrapped),
            None => as_text(wrapped, label),
        };
        let key = ProvedDataKey::for_header(key.provider, options, label, store)?;
        Ok(Self { key, file })
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

/// Returns what is left of an envelope once it was text, as it is in a token.
pub(crate) fn as_text(envelope: &Envelope, label: &str) -> Result<Envelope> {
    Ok(Envelope::parse(envelope.to_json().as_bytes(), label)?)
}

/// Returns a data key as the passphrase of a keyslot: it is text.
pub(crate) fn text(key: &DataKey) -> Passphrase {
    Passphrase::new(key.expose_bytes().to_vec())
}

/// The keyslot that formatting fills.
const FIRST_KEYSLOT: u32 = 0;
