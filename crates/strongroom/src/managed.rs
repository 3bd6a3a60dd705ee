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

use std::cell::RefCell;
use std::path::Path;

use strongroom_crypto::{CostBudget, CostPolicy, Passphrase, VolumeKey};
use strongroom_disk::Raw;
use strongroom_kms::{Binding as KeyBinding, Envelope, KeyProvider};
use strongroom_luks::{Binding, Header};

pub use bulk::{BulkReport, Job, rewrap_all};
pub use recover::Recovered;
pub use recovery::Revoked;
pub use rewrap::{NewestKey, Proof, Rewrapped, rewrap_file};
pub use rotate::{Replaced, Work};
pub use show::{KeyslotRole, Shown, ShownKeyslot};

use crate::device::{HeaderDisk, Trial};
use crate::envelopes::Held;
use crate::managed_key::{Candidate, Opened};
use crate::{Device, Error, ErrorKind, Opener, Result, Unlocked, envelopes, managed_key};

/// A volume whose data key a KMS has wrapped.
#[derive(Debug)]
pub struct ManagedVolume<'a, D = Raw> {
    device: &'a Device<D>,
    record: Option<&'a Path>,
    policy: CostPolicy,
    /// What all tries of keyslots together may cost.
    budget: RefCell<CostBudget>,
}

impl<'a, D: HeaderDisk> ManagedVolume<'a, D> {
    /// Returns the volume on a device. `record` is the file of its envelope, needed where the header
    /// has no tokens; `policy` bounds what trying a keyslot may cost, and its
    /// [`unlock_budget`](CostPolicy::unlock_budget) what all of them may, whatever is done.
    pub fn new(device: &'a Device<D>, record: Option<&'a Path>, policy: &CostPolicy) -> Self {
        let budget = RefCell::new(policy.unlock_budget());
        Self { device, record, policy: *policy, budget }
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
            candidates.push(loose(header, envelope));
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
                    held.push(Candidate { envelope, token: Some(token), keyslots });
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
        self.open_any(header, self.candidates(header)?, provider)
    }

    /// Opens a header with one of these.
    fn open_any(
        &self,
        header: &Header,
        mut candidates: Vec<Candidate>,
        provider: &dyn KeyProvider,
    ) -> Result<Opened> {
        let bound = bound(header);
        for candidate in &mut candidates {
            candidate.keyslots.retain(|id| bound.contains(id));
        }
        self.with_trial(header, |trial| managed_key::open_any(trial, candidates, provider))
    }

    fn with_trial<T>(&self, header: &Header, work: impl FnOnce(&mut Trial<'_>) -> T) -> T {
        let (disk, policy) = (self.device.header_disk(), &self.policy);
        let budget = &mut self.budget.borrow_mut();
        work(&mut Trial { disk, header, policy, budget })
    }

    /// Opens a keyslot that holds the volume key; `None` when the passphrase is another, or there is
    /// no such keyslot.
    fn try_keyslot(
        &self,
        header: &Header,
        passphrase: &Passphrase,
        id: u32,
    ) -> Result<Option<Unlocked>> {
        if !bound(header).contains(&id) {
            return Ok(None);
        }
        match self.with_trial(header, |trial| trial.open(&[id], passphrase)) {
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
                let ids = header.keyslots_to_try().map_err(Error::luks(self.label()))?;
                Ok((self.with_trial(header, |trial| trial.open(&ids, passphrase))?, None))
            }
            Opener::Kms(managed) => {
                let mut candidates = self.candidates(header)?;
                let given = managed.envelope.into_iter().chain(other).cloned();
                candidates.extend(given.map(|envelope| loose(header, envelope)));
                let opened = self.open_any(header, candidates, managed.provider)?;
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

/// Returns a volume key again, for what outlives the first one.
fn copy(key: &VolumeKey) -> VolumeKey {
    VolumeKey::new(key.expose_bytes().to_vec())
}

/// Returns an envelope that may open any keyslot.
fn loose(header: &Header, envelope: Envelope) -> Candidate {
    Candidate { envelope, token: None, keyslots: bound(header) }
}

/// Returns the keyslots that hold the volume key.
fn bound(header: &Header) -> Vec<u32> {
    let keyslots = header.keyslots().into_iter();
    keyslots.filter(|slot| slot.binding == Binding::Volume).map(|slot| slot.id).collect()
}

/// How a header of this kind is named.
const QCOW2: &str = "a qcow2 image";
