//! Another data key in the place of the old one, from the same KMS or from another.
//!
//! The order, each step durable before the next: the new data key is wrapped, unwrapped and compared;
//! keyslot and token are added in one write, read back and opened; the record is replaced; what is old
//! is removed, keyslots and tokens in one write. A header without tokens gets a note beside its record
//! first, of what is under way.

use strongroom_crypto::{Kdf, Passphrase, VolumeKey};
use strongroom_kms::{Envelope, ErrorKind as Kms, KeyProvider, new_data_key};
use strongroom_luks::luks2::AddedKeyslot;
use strongroom_luks::{Binding, Change, Header, NewKeyslot, luks2};

use super::record::{Pending, Record};
use super::{
    Candidate, DERIVATION, ManagedVolume, Opened, binding, copy, is_of_data_key, passphrase,
};
use crate::device::HeaderDisk;
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

/// A new data key.
struct NewDataKey {
    passphrase: Passphrase,
    envelope: Envelope,
}

/// What opens the volume when everything else is removed.
struct Kept<'k> {
    keyslot: u32,
    token: Option<u32>,
    passphrase: &'k Passphrase,
}

/// A keyslot that is to go.
struct Old {
    keyslot: u32,
    /// What opens it, where that is known.
    passphrase: Option<Passphrase>,
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
        let new = NewDataKey::wrap(provider, &header)?;
        let mut record = self.lock_record()?;
        // Nobody has replaced the record since, which the header must fit.
        let header = self.header()?;
        let current = self.settle(&header, provider, &mut record)?;
        let key = copy(&current.unlocked.key);
        self.replace(&key, Some(current), &new, &mut record)
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
        let key = NewDataKey::wrap(new, &header)?;
        let mut record = self.lock_record()?;
        let header = self.header()?;
        if let Some(done) = self.finish_move(&header, old, new, &key.envelope, &mut record)? {
            return Ok(done);
        }
        let (unlocked, current) = self.unlock(&header, old)?;
        self.replace(&unlocked.key, current, &key, &mut record)
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
        if let Some(pending) = self.pending(header)? {
            match self.settle_pending(header, &pending, provider, Opener::kms(provider), record) {
                Ok(current) => return Ok(current),
                // The new keyslot was not there yet.
                Err(Error::DataKey { .. }) => self.forget_pending()?,
                Err(error) => return Err(error),
            }
        }
        let current = self.open(header, provider)?;
        // Several of them would fill the header at last, one more for each interruption.
        if current.token.is_some() && self.held(header)?.len() > 1 {
            write_record(record, &current.envelope)?;
            self.retire(&current.kept(), None)?;
        }
        Ok(current)
    }

    /// Finishes what a note says, if its new envelope opens the header.
    fn settle_pending(
        &self,
        header: &Header,
        pending: &Pending,
        provider: &dyn KeyProvider,
        old: Opener<'_>,
        record: &mut Option<Record>,
    ) -> Result<Opened> {
        let candidate = Candidate { envelope: pending.new.clone(), token: None };
        let current = self.prove(header, &candidate, provider)?;
        write_record(record, &current.envelope)?;
        if let Some((keyslot, envelope)) = &pending.old {
            let candidate = Candidate { envelope: envelope.clone(), token: None };
            let proved = match old {
                Opener::Kms(managed) => self.prove(header, &candidate, managed.provider),
                Opener::Passphrase(_) => Err(Error::NoEnvelope { label: self.label().to_owned() }),
            };
            let old = match proved {
                Ok(old) => Old { keyslot: old.unlocked.keyslot, passphrase: Some(old.passphrase) },
                Err(error) if error.kind() == ErrorKind::KmsUnavailable => return Err(error),
                // Its key material may be half wiped already, or its KMS out of use.
                Err(_) => Old { keyslot: *keyslot, passphrase: None },
            };
            self.retire(&current.kept(), Some(&old))?;
        }
        self.forget_pending()?;
        Ok(current)
    }

    /// Returns what was done when the volume has moved to the key of `wanted` already, or nearly.
    fn finish_move(
        &self,
        header: &Header,
        old: Opener<'_>,
        new: &dyn KeyProvider,
        wanted: &Envelope,
        record: &mut Option<Record>,
    ) -> Result<Option<Replaced>> {
        if let Some(pending) = self.pending(header)?.filter(|pending| is_at(&pending.new, wanted)) {
            match self.settle_pending(header, &pending, new, old, record) {
                Ok(current) => return Ok(Some(current.replaced(Vec::new()))),
                Err(Error::DataKey { .. }) => self.forget_pending()?,
                Err(error) => return Err(error),
            }
        }
        let moved = self.candidates(header)?.into_iter();
        for candidate in moved.filter(|candidate| is_at(&candidate.envelope, wanted)) {
            match self.prove(header, &candidate, new) {
                Ok(current) => {
                    write_record(record, &current.envelope)?;
                    let removed = self.retire(&current.kept(), None)?;
                    return Ok(Some(current.replaced(removed)));
                }
                Err(error) if error.kind() == ErrorKind::KmsUnavailable => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Puts a new data key in the place of the current one, if there is one.
    fn replace(
        &self,
        key: &VolumeKey,
        current: Option<Opened>,
        new: &NewDataKey,
        record: &mut Option<Record>,
    ) -> Result<Replaced> {
        let header = self.header()?;
        if let (Header::Luks1(_), Some(path)) = (&header, self.record) {
            let old = current
                .as_ref()
                .map(|current| (current.unlocked.keyslot, current.envelope.clone()));
            Pending { old, new: new.envelope.clone() }.write(path)?;
        }
        let (keyslot, token) = self.add(key, new)?;
        let kept = Kept { keyslot, token, passphrase: &new.passphrase };
        self.read_back(&kept, &new.envelope)?;
        write_record(record, &new.envelope)?;
        let old = current.map(|Opened { unlocked, passphrase, .. }| Old {
            keyslot: unlocked.keyslot,
            passphrase: Some(passphrase),
        });
        let removed = self.retire(&kept, old.as_ref())?;
        self.forget_pending()?;
        Ok(Replaced { keyslot, token, envelope: new.envelope.clone(), removed, work: Work::Whole })
    }

    /// Adds the keyslot of a new data key, with its token where there are tokens.
    fn add(&self, key: &VolumeKey, new: &NewDataKey) -> Result<(u32, Option<u32>)> {
        let luks = Error::luks(self.label());
        self.device.update(|header| {
            let usual = header.default_keyslot().map_err(&luks)?;
            let kdf = match header {
                // Every keyslot of LUKS1 derives with the header's hash.
                Header::Luks1(_) => {
                    Kdf::Pbkdf2 { hash: usual.af_hash, iterations: Kdf::MIN_PBKDF2_ITERATIONS }
                }
                Header::Luks2(_) => DERIVATION,
            };
            let slot = NewKeyslot { kdf, binding: Binding::Volume, ..usual };
            let (opens, rng) = (&new.passphrase, &mut system_rng());
            match header {
                Header::Luks1(_) => {
                    let (keyslot, _, change) =
                        header.add_keyslot(key, opens, &slot, &self.policy, rng).map_err(&luks)?;
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
        let is_there = |held: &Candidate| {
            held.token.as_ref().map(|(id, _)| *id) == kept.token && held.envelope == *envelope
        };
        let changed = || Error::ChangedMeanwhile { label: self.label().to_owned() };
        if kept.token.is_some() && !self.held(&header)?.iter().any(is_there) {
            return Err(changed());
        }
        self.try_keyslot(&header, kept.passphrase, kept.keyslot)?.map(drop).ok_or_else(changed)
    }

    /// Removes everything of a KMS but `kept`, which must open the header that it is removed from.
    /// `old` is what has opened it before. Returns the keyslots that are gone.
    fn retire(&self, kept: &Kept<'_>, old: Option<&Old>) -> Result<Vec<u32>> {
        self.device.update(|header| {
            if self.try_keyslot(header, kept.passphrase, kept.keyslot)?.is_none() {
                return Err(Error::ChangedMeanwhile { label: self.label().to_owned() });
            }
            let mut going: Vec<u32> = match old {
                Some(old) if old.keyslot != kept.keyslot && self.is_still(header, old)? => {
                    vec![old.keyslot]
                }
                _ => Vec::new(),
            };
            let luks = Error::luks(self.label());
            match header {
                Header::Luks1(_) => {
                    let change = match going.first() {
                        Some(id) => header.remove_keyslot(*id, &mut system_rng()).map_err(&luks)?.1,
                        None => Change::default(),
                    };
                    Ok((going, change))
                }
                Header::Luks2(luks2) => {
                    let (tokens, keyslots) = leftovers(luks2, header, kept);
                    for id in keyslots {
                        if !going.contains(&id) {
                            going.push(id);
                        }
                    }
                    if tokens.is_empty() && going.is_empty() {
                        return Ok((going, Change::default()));
                    }
                    let (_, change) = luks2
                        .remove_keyslots_and_tokens(&going, &tokens, &mut system_rng())
                        .map_err(&luks)?;
                    Ok((going, change))
                }
            }
        })
    }

    /// Tells whether a keyslot is what it was, and not somebody else's by now: the old data key opens
    /// it, or at least it derives as only that of a data key does.
    fn is_still(&self, header: &Header, old: &Old) -> Result<bool> {
        if let Some(passphrase) = &old.passphrase
            && self.try_keyslot(header, passphrase, old.keyslot)?.is_some()
        {
            return Ok(true);
        }
        let keyslots = header.keyslots();
        Ok(keyslots.iter().any(|slot| slot.id == old.keyslot && is_of_data_key(slot)))
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

impl NewDataKey {
    /// Makes a data key for a volume and has it wrapped, unwrapped and compared: what a KMS does not
    /// give back is never relied on.
    fn wrap(provider: &dyn KeyProvider, header: &Header) -> Result<Self> {
        let (key, binding) = (new_data_key(&mut system_rng()), binding(header));
        let envelope = provider.wrap(&key, &binding)?;
        // What will be kept is its text.
        let kept = Envelope::parse(envelope.to_json().as_bytes(), &provider.label())?;
        if provider.unwrap(&kept, &binding)? != key {
            let problem = "what it unwrapped is not what it was given to wrap";
            let error = strongroom_kms::Error::new(Kms::Corrupt, provider.label(), problem);
            return Err(error.into());
        }
        Ok(Self { passphrase: passphrase(&key), envelope: kept })
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

fn write_record(record: &mut Option<Record>, envelope: &Envelope) -> Result<()> {
    record.as_mut().map_or(Ok(()), |record| record.replace(envelope))
}

/// Returns the tokens of a KMS other than the one that is kept, and the keyslots that go with them:
/// those that derive as only a data key's does, and that nothing but such tokens names. What somebody
/// has put a passphrase into, or given another purpose, stays.
fn leftovers(luks2: &luks2::Header, header: &Header, kept: &Kept<'_>) -> (Vec<u32>, Vec<u32>) {
    let tokens = &luks2.metadata().tokens;
    let going: Vec<u32> = tokens
        .iter()
        .filter(|(id, token)| token.kind == envelopes::TOKEN_TYPE && Some(**id) != kept.token)
        .map(|(id, _)| *id)
        .collect();
    let named = |id: u32, by_going: Named| {
        tokens.iter().any(|(token, named)| {
            going.contains(token) == (by_going == Named::ByThese) && named.keyslots.contains(&id)
        })
    };
    let keyslots = header
        .keyslots()
        .into_iter()
        .filter(|slot| slot.id != kept.keyslot && is_of_data_key(slot))
        .map(|slot| slot.id)
        .filter(|id| named(*id, Named::ByThese) && !named(*id, Named::ByOthers))
        .collect();
    (going, keyslots)
}

/// Which tokens name a keyslot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    ByThese,
    ByOthers,
}

/// Tells whether an envelope is under the same key of the same KMS as another.
fn is_at(envelope: &Envelope, wanted: &Envelope) -> bool {
    let (one, other) = (&envelope.wrapped, &wanted.wrapped);
    envelope.kind == wanted.kind
        && (&one.endpoint, &one.namespace, &one.mount, &one.key_id)
            == (&other.endpoint, &other.namespace, &other.mount, &other.key_id)
}
