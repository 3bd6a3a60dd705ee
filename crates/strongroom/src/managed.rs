//! The keys of volumes whose data key a KMS has wrapped: shown, rewrapped, rotated, moved, recovered.
//!
//! A data key opens a keyslot with the cheapest derivation there is, since it is random. Its envelope
//! is at home in a token of the LUKS2 header that names the keyslot; a LUKS1 header has no tokens, so
//! there it lies in a file, the *record*, which may lie beside a LUKS2 header as well.
//!
//! # Guarantees
//!
//! - Nothing that opens a volume is removed before something else was proved to open this very header.
//!   A crash at any write, or between two calls of the KMS, leaves a data key that opens, with an
//!   envelope; the same command, given again, goes on from there.
//! - A new data key is unwrapped again, and compared, before a keyslot opens with it.

mod bulk;
mod leaving;
mod pending;
mod record;
mod recover;
mod recovery;
mod retire;
mod rewrap;
mod rotate;
mod show;

use std::path::Path;

use strongroom_crypto::{CostPolicy, DataKey, Hash, Kdf, Passphrase, VolumeKey};
use strongroom_disk::Raw;
use strongroom_kms::{Binding as KeyBinding, Envelope, KeyProvider};
use strongroom_luks::{Binding, Header, KeyslotSummary};

pub use bulk::{BulkReport, Job, rewrap_all};
pub use recover::Recovered;
pub use rewrap::{NewestKey, Proof, Rewrapped, rewrap_file};
pub use rotate::{Replaced, Work};
pub use show::{KeyslotRole, Shown, ShownKeyslot};

use crate::device::HeaderDisk;
use crate::envelopes::Held;
use crate::{Device, Error, ErrorKind, Opener, Result, Unlocked, envelopes};

/// A volume whose data key a KMS has wrapped.
#[derive(Debug)]
pub struct ManagedVolume<'a, D = Raw> {
    device: &'a Device<D>,
    record: Option<&'a Path>,
    policy: CostPolicy,
}

/// An envelope that may open a header.
#[derive(Debug, Clone)]
struct Candidate {
    envelope: Envelope,
    /// Its token, and the keyslots that this names; `None` when it comes from elsewhere.
    token: Option<(u32, Vec<u32>)>,
}

/// An envelope that has opened a header.
#[derive(Debug)]
struct Opened {
    envelope: Envelope,
    token: Option<u32>,
    passphrase: Passphrase,
    unlocked: Unlocked,
}

impl<'a, D: HeaderDisk> ManagedVolume<'a, D> {
    /// Returns the volume on a device. `record` is the file of its envelope, needed where the header
    /// has no tokens; `policy` bounds what trying keyslots may cost.
    pub fn new(device: &'a Device<D>, record: Option<&'a Path>, policy: &CostPolicy) -> Self {
        Self { device, record, policy: *policy }
    }

    fn label(&self) -> &str {
        self.device.header_disk().label()
    }

    /// Reads the header.
    fn header(&self) -> Result<Header> {
        match self.device.read_header() {
            Ok(found) => Ok(found.header),
            Err(Error::NotEncrypted { label, signature: Some(QCOW2) }) => {
                Err(Error::KeyslotsFixed { label })
            }
            Err(error) => Err(error),
        }
    }

    /// Returns what envelopes there are for a header, the most promising first.
    fn candidates(&self, header: &Header) -> Result<Vec<Candidate>> {
        let mut candidates = self.held(header)?;
        if let Some(envelope) = self.recorded()?
            && candidates.iter().all(|known| known.envelope != envelope)
        {
            candidates.push(Candidate { envelope, token: None });
        }
        Ok(candidates)
    }

    /// Returns the envelopes in the header, the newest first: by when they were made, then by token.
    fn held(&self, header: &Header) -> Result<Vec<Candidate>> {
        let Header::Luks2(luks2) = header else { return Ok(Vec::new()) };
        let (mut held, mut unread) = (Vec::new(), None);
        for found in envelopes::each(luks2, self.label()) {
            match found {
                Ok(Held { token, keyslots, envelope }) => {
                    held.push(Candidate { envelope, token: Some((token, keyslots)) });
                }
                // Another one may open.
                Err(error) => drop(unread.get_or_insert(error)),
            }
        }
        if let (true, Some(error)) = (held.is_empty(), unread) {
            return Err(error);
        }
        // RFC 3339 in UTC sorts as text does. The sort is stable, and the newest token came first.
        held.sort_by(|one, other| other.envelope.created.cmp(&one.envelope.created));
        Ok(held)
    }

    /// Returns the envelope in the record, if there is one.
    fn recorded(&self) -> Result<Option<Envelope>> {
        self.record.map_or(Ok(None), record::read_if_there)
    }

    /// Opens a header with whichever envelope this KMS unwraps.
    ///
    /// # Errors
    ///
    /// [`Error::NoEnvelope`] when there is none; else why the most promising one does not open.
    fn open(&self, header: &Header, provider: &dyn KeyProvider) -> Result<Opened> {
        self.open_any(header, &self.candidates(header)?, provider)
    }

    fn open_any(
        &self,
        header: &Header,
        candidates: &[Candidate],
        provider: &dyn KeyProvider,
    ) -> Result<Opened> {
        let mut first = None;
        for candidate in candidates {
            match self.prove(header, candidate, provider) {
                Ok(opened) => return Ok(opened),
                // Whatever the others are, this KMS does not tell now.
                Err(error) if error.kind() == ErrorKind::KmsUnavailable => return Err(error),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::NoEnvelope { label: self.label().to_owned() }))
    }

    /// Opens a header with one envelope.
    ///
    /// # Errors
    ///
    /// What the KMS says; [`Error::DataKey`] when it unwraps, but no keyslot opens.
    fn prove(
        &self,
        header: &Header,
        candidate: &Candidate,
        provider: &dyn KeyProvider,
    ) -> Result<Opened> {
        let key = provider.unwrap(&candidate.envelope, &binding(header))?;
        let passphrase = passphrase(&key);
        let (token, keyslots) = match &candidate.token {
            Some((token, keyslots)) => (Some(*token), keyslots.clone()),
            None => (None, cheapest_first(header)),
        };
        for id in keyslots {
            if let Some(unlocked) = self.try_keyslot(header, &passphrase, id)? {
                let envelope = candidate.envelope.clone();
                return Ok(Opened { envelope, token, passphrase, unlocked });
            }
        }
        Err(Error::DataKey { label: self.label().to_owned(), kms: provider.label() })
    }

    /// Opens a keyslot that holds the volume key; `None` when the passphrase is another, or there is
    /// no such keyslot.
    fn try_keyslot(
        &self,
        header: &Header,
        passphrase: &Passphrase,
        id: u32,
    ) -> Result<Option<Unlocked>> {
        let bound = |slot: &KeyslotSummary| slot.id == id && slot.binding == Binding::Volume;
        if !header.keyslots().iter().any(bound) {
            return Ok(None);
        }
        match self.device.unlock(header, passphrase, Some(id), &self.policy) {
            Ok(unlocked) => Ok(Some(unlocked)),
            Err(error) if error.kind() == ErrorKind::WrongPassphrase => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a header with a passphrase or a KMS.
    fn unlock(&self, header: &Header, opener: Opener<'_>) -> Result<(Unlocked, Option<Opened>)> {
        self.unlock_with(header, opener, None)
    }

    /// Opens a header with a passphrase or a KMS, which may also unwrap `other`.
    fn unlock_with(
        &self,
        header: &Header,
        opener: Opener<'_>,
        other: Option<&Envelope>,
    ) -> Result<(Unlocked, Option<Opened>)> {
        match opener {
            Opener::Passphrase(passphrase) => {
                Ok((self.device.unlock(header, passphrase, None, &self.policy)?, None))
            }
            Opener::Kms(managed) => {
                let mut candidates = self.candidates(header)?;
                let given = managed.envelope.into_iter().chain(other).cloned();
                candidates.extend(given.map(|envelope| Candidate { envelope, token: None }));
                let opened = self.open_any(header, &candidates, managed.provider)?;
                let Unlocked { keyslot, key } = &opened.unlocked;
                Ok((Unlocked { keyslot: *keyslot, key: copy(key) }, Some(opened)))
            }
        }
    }
}

/// Returns what the data key of a volume belongs to.
fn binding(header: &Header) -> KeyBinding {
    KeyBinding::image(header.uuid())
}

/// Returns the data key as what opens its keyslot.
fn passphrase(key: &DataKey) -> Passphrase {
    Passphrase::new(key.expose_bytes().to_vec())
}

/// Returns a volume key again, for what outlives the first one.
fn copy(key: &VolumeKey) -> VolumeKey {
    VolumeKey::new(key.expose_bytes().to_vec())
}

/// Returns the keyslots of a header, those first that are tried quickly: that of a data key is.
fn cheapest_first(header: &Header) -> Vec<u32> {
    let mut ids: Vec<u32> = header.keyslots().iter().map(|keyslot| keyslot.id).collect();
    ids.retain(|id| header.keyslot_cost(*id).is_ok());
    ids.sort_by_key(|id| header.keyslot_cost(*id).unwrap_or_default());
    ids
}

/// Tells whether a keyslot derives as cheaply as only that of a data key does: no passphrase of a
/// person would be kept so.
fn is_of_data_key(keyslot: &KeyslotSummary) -> bool {
    matches!(keyslot.kdf, Some(Kdf::Pbkdf2 { iterations, .. }) if iterations <= Kdf::MIN_PBKDF2_ITERATIONS)
}

/// The derivation for data keys: they have 256 random bits, so there is nothing to slow down.
const DERIVATION: Kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: Kdf::MIN_PBKDF2_ITERATIONS };

/// How a header of this kind is named.
const QCOW2: &str = "a qcow2 image";
