//! Another data key in the place of the old one, from the same KMS or from another.
//!
//! The order, each step durable before the next: the new data key is wrapped, unwrapped and compared;
//! keyslot and token are added in one write, read back and opened; the record is replaced; what is old
//! is removed, keyslots and tokens in one write. A header without tokens gets a note beside its record
//! first, of what is under way.

use strongroom_crypto::{Hash, Kdf, VolumeKey};
use strongroom_kms::{Envelope, KeyProvider};
use strongroom_luks::luks2::AddedKeyslot;
use strongroom_luks::{Binding, Header, NewKeyslot};

use super::leaving::Known;
use super::pending::{Pending, Slot};
use super::record::Record;
use super::retire::Kept;
use super::{ManagedVolume, binding, loose};
use crate::device::HeaderDisk;
use crate::managed_key::{Candidate, Opened, ProvedDataKey, as_text};
use crate::{Error, ErrorKind, Opener, Result, envelopes, system_rng};

/// A data key that has taken the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The keyslot that it opens.
    pub keyslot: u32,
    /// The token with its envelope, in headers that have tokens.
    pub token: Option<u32>,
    /// Its envelope.
    pub envelope: Envelope,
    /// The keyslots that were removed.
    pub removed: Vec<u32>,
    /// What was done.
    pub work: Work,
}

/// What was done to give a volume another data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// All of it.
    Whole,
    /// What an interrupted one had left to do, if anything.
    Finished,
}

impl<D: HeaderDisk> ManagedVolume<'_, D> {
    /// Gives the volume another data key from the same KMS. What an interrupted rotation or move has
    /// left is removed as well: a volume has one data key.
    ///
    /// # Errors
    ///
    /// When the KMS does not unwrap the old data key, or header or record cannot be written. The
    /// volume opens with the old data key then, or with the new one, or with both.
    pub fn rotate(&self, provider: &dyn KeyProvider) -> Result<Replaced> {
        let header = self.header()?;
        self.check_record(&header)?;
        let new = wrap(provider, &header)?;
        let mut record = self.lock_record()?;
        // Nobody has replaced the record since, which the header must fit.
        let header = self.header()?;
        let current = self.settle(&header, provider, &mut record)?;
        let old: Vec<Slot> = Slot::of(&header, current.unlocked.keyslot).into_iter().collect();
        self.replace(&current.unlocked.key, &old, Some(&current.envelope), &new, &mut record)
    }

    /// Gives the volume another data key from another KMS, or under another key of the same. `old`
    /// opens the volume now: the KMS that it leaves, or a recovery passphrase when that one is lost.
    ///
    /// The data key is a new one, so that the old KMS, and whoever has its key, opens nothing any
    /// more.
    ///
    /// # Errors
    ///
    /// As [`rotate`](Self::rotate).
    pub fn move_to(&self, old: Opener<'_>, new: &dyn KeyProvider) -> Result<Replaced> {
        let header = self.header()?;
        self.check_record(&header)?;
        // Asked first: a KMS that does not work changes nothing.
        let key = wrap(new, &header)?;
        let mut record = self.lock_record()?;
        let header = self.header()?;
        let pending = self.pending(&header)?;
        let wanted = &key.envelope;
        if let Some(done) = self.finish_move(&header, new, wanted, pending.as_ref(), &mut record)? {
            return Ok(done);
        }
        let noted = pending.as_ref().and_then(|pending| pending.from.as_ref());
        let (unlocked, current) = self.unlock_with(&header, old, noted)?;
        let recorded = record.as_ref().and_then(Record::envelope).cloned();
        let going = self.leaving(
            &header,
            &Known {
                opener: old,
                unlocked: &unlocked,
                current: current.as_ref(),
                recorded: recorded.as_ref(),
                pending: pending.as_ref(),
            },
        )?;
        let from = current.as_ref().map(|current| &current.envelope).or(recorded.as_ref());
        self.replace(&unlocked.key, &going, from, &key, &mut record)
    }

    /// Keeps other commands from replacing the record, where there is one, until this one has ended.
    fn lock_record(&self) -> Result<Option<Record>> {
        self.record.map(Record::lock).transpose()
    }

    /// Refuses a header that has nowhere to keep an envelope.
    fn check_record(&self, header: &Header) -> Result<()> {
        match (header, self.record) {
            (Header::Luks1(_), None) => Err(Error::NoEnvelope { label: self.label().to_owned() }),
            _ => Ok(()),
        }
    }

    /// Opens the volume, and removes what an interrupted rotation has left.
    fn settle(
        &self,
        header: &Header,
        provider: &dyn KeyProvider,
        record: &mut Option<Record>,
    ) -> Result<Opened> {
        let pending = self.pending(header)?;
        if let Some(pending) = &pending
            && let Some((current, _)) = self.finish(header, pending, provider, record)?
        {
            return Ok(current);
        }
        let current = self.open(header, provider)?;
        let left = match &pending {
            // Its KMS may be another or gone, but nobody needs it: what opens the volume is the old
            // envelope.
            Some(pending) => pending.slots_but(current.unlocked.keyslot, header),
            None => Vec::new(),
        };
        // Several of them would fill the header at last, one more for each interruption.
        if !left.is_empty() || current.token.is_some() && self.held(header)?.len() > 1 {
            write_record(record, &current.envelope)?;
            self.retire(&current.kept(), &left)?;
        }
        if pending.is_some() {
            self.forget_pending()?;
        }
        Ok(current)
    }

    /// Finishes what a note says, if its new envelope opens the header: `None` if it does not.
    fn finish(
        &self,
        header: &Header,
        pending: &Pending,
        provider: &dyn KeyProvider,
        record: &mut Option<Record>,
    ) -> Result<Option<(Opened, Vec<u32>)>> {
        let candidate = loose(header, pending.to.clone());
        let current = match self.open_any(header, vec![candidate], provider) {
            Ok(current) => current,
            Err(error) if may_pass(&error) => return Err(error),
            Err(_) => return Ok(None),
        };
        write_record(record, &current.envelope)?;
        let old = pending.slots_but(current.unlocked.keyslot, header);
        let removed = self.retire(&current.kept(), &old)?;
        self.forget_pending()?;
        Ok(Some((current, removed)))
    }

    /// Returns what was done when the volume has moved to the key of `wanted` already, or nearly.
    fn finish_move(
        &self,
        header: &Header,
        new: &dyn KeyProvider,
        wanted: &Envelope,
        pending: Option<&Pending>,
        record: &mut Option<Record>,
    ) -> Result<Option<Replaced>> {
        if let Some(pending) = pending.filter(|pending| is_at(&pending.to, wanted))
            && let Some((current, removed)) = self.finish(header, pending, new, record)?
        {
            return Ok(Some(current.replaced(removed)));
        }
        let mut moved = self.candidates(header)?;
        moved.retain(|candidate| is_at(&candidate.envelope, wanted));
        let current = match self.open_any(header, moved, new) {
            Ok(current) => current,
            Err(error) if may_pass(&error) => return Err(error),
            Err(_) => return Ok(None),
        };
        write_record(record, &current.envelope)?;
        let left = pending
            .map(|pending| pending.slots_but(current.unlocked.keyslot, header))
            .unwrap_or_default();
        let removed = self.retire(&current.kept(), &left)?;
        self.forget_pending()?;
        Ok(Some(current.replaced(removed)))
    }

    /// Puts a new data key in the place of the keyslots `old`, if there are any; `from` is the envelope
    /// that was there.
    fn replace(
        &self,
        key: &VolumeKey,
        old: &[Slot],
        from: Option<&Envelope>,
        new: &ProvedDataKey,
        record: &mut Option<Record>,
    ) -> Result<Replaced> {
        let note = |slot| Pending {
            old: old.to_vec(),
            from: from.cloned(),
            new: slot,
            to: new.envelope.clone(),
        };
        let (keyslot, token) = self.add(key, new, note)?;
        let kept = Kept { keyslot, token, passphrase: &new.passphrase };
        self.read_back(&kept, &new.envelope)?;
        write_record(record, &new.envelope)?;
        let removed = self.retire(&kept, old)?;
        self.forget_pending()?;
        Ok(Replaced { keyslot, token, envelope: new.envelope.clone(), removed, work: Work::Whole })
    }

    /// Adds the keyslot of a new data key, with its token where there are tokens; elsewhere a note of
    /// it is written first.
    fn add(
        &self,
        key: &VolumeKey,
        new: &ProvedDataKey,
        note: impl Fn(Slot) -> Pending,
    ) -> Result<(u32, Option<u32>)> {
        let luks = Error::luks(self.label());
        self.device.update(|header| {
            let usual = header.default_keyslot().map_err(&luks)?;
            let kdf = Kdf::for_random_key(match header {
                // Every keyslot of LUKS1 derives with the header's hash.
                Header::Luks1(_) => usual.af_hash,
                Header::Luks2(_) => Hash::Sha256,
            });
            let slot = NewKeyslot { kdf, binding: Binding::Volume, ..usual };
            let (opens, rng) = (&new.passphrase, &mut system_rng());
            match header {
                Header::Luks1(_) => {
                    let (keyslot, after, change) =
                        header.add_keyslot(key, opens, &slot, &self.policy, rng).map_err(&luks)?;
                    if let (Some(record), Some(slot)) = (self.record, Slot::of(&after, keyslot)) {
                        note(slot).write(record)?;
                    }
                    Ok(((keyslot, None), change))
                }
                Header::Luks2(luks2) => {
                    let text = |id| envelopes::token_text(&new.envelope, &[id]);
                    let AddedKeyslot { keyslot, token, change, .. } = luks2
                        .add_keyslot_with_token(key, opens, &slot, text, &self.policy, rng)
                        .map_err(&luks)?;
                    Ok(((keyslot, Some(token)), change))
                }
            }
        })
    }

    /// Makes sure that what was written is there and opens.
    fn read_back(&self, kept: &Kept<'_>, envelope: &Envelope) -> Result<()> {
        let header = self.header()?;
        let is_there = |held: &Candidate| held.token == kept.token && held.envelope == *envelope;
        let changed = || Error::ChangedMeanwhile { label: self.label().to_owned() };
        if kept.token.is_some() && !self.held(&header)?.iter().any(is_there) {
            return Err(changed());
        }
        self.try_keyslot(&header, kept.passphrase, kept.keyslot)?.map(drop).ok_or_else(changed)
    }

    fn pending(&self, header: &Header) -> Result<Option<Pending>> {
        match (header, self.record) {
            (Header::Luks1(_), Some(record)) => Pending::read(record),
            _ => Ok(None),
        }
    }

    fn forget_pending(&self) -> Result<()> {
        self.record.map_or(Ok(()), Pending::remove)
    }
}

impl Opened {
    fn kept(&self) -> Kept<'_> {
        let Self { token, passphrase, unlocked, .. } = self;
        Kept { keyslot: unlocked.keyslot, token: *token, passphrase }
    }

    fn replaced(self, removed: Vec<u32>) -> Replaced {
        let Self { envelope, token, unlocked, .. } = self;
        Replaced { keyslot: unlocked.keyslot, token, envelope, removed, work: Work::Finished }
    }
}

/// Has a new data key wrapped for the volume of a header.
fn wrap(provider: &dyn KeyProvider, header: &Header) -> Result<ProvedDataKey> {
    let store = |wrapped: &Envelope| as_text(wrapped, &provider.label());
    ProvedDataKey::wrap(provider, &binding(header), store)
}

fn write_record(record: &mut Option<Record>, envelope: &Envelope) -> Result<()> {
    record.as_mut().map_or(Ok(()), |record| record.replace(envelope))
}

/// Tells whether an error says nothing of the envelope: it may open another time.
fn may_pass(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::KmsUnavailable | ErrorKind::Io | ErrorKind::Busy)
}

/// Tells whether an envelope is under the same key of the same KMS as another.
fn is_at(envelope: &Envelope, wanted: &Envelope) -> bool {
    let (one, other) = (&envelope.wrapped, &wanted.wrapped);
    envelope.kind == wanted.kind
        && (&one.endpoint, &one.namespace, &one.mount, &one.key_id)
            == (&other.endpoint, &other.namespace, &other.mount, &other.key_id)
}
