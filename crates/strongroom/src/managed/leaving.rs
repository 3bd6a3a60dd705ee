//! Which keyslots a volume loses when its data key is replaced.

use strongroom_crypto::{DataKey, Passphrase};
use strongroom_kms::Envelope;
use strongroom_luks::Header;

use super::ManagedVolume;
use super::pending::{Pending, Slot};
use crate::device::HeaderDisk;
use crate::managed_key::{Opened, is_of_data_key};
use crate::{Error, Opener, Result, Unlocked};

/// What is known of a volume that is about to get another data key.
pub(super) struct Known<'a> {
    /// What was given to open it.
    pub(super) opener: Opener<'a>,
    /// What that opened.
    pub(super) unlocked: &'a Unlocked,
    /// The envelope that did, where it was one.
    pub(super) current: Option<&'a Opened>,
    /// The envelope in the record.
    pub(super) recorded: Option<&'a Envelope>,
    /// What an earlier command has left to do.
    pub(super) pending: Option<&'a Pending>,
}

impl<D: HeaderDisk> ManagedVolume<'_, D> {
    /// Returns the keyslots that are the KMS's now, besides those that tokens tell of.
    ///
    /// # Errors
    ///
    /// [`Error::KeyslotsUnclear`] when a header without tokens leaves it open which they are.
    pub(super) fn leaving(&self, header: &Header, known: &Known<'_>) -> Result<Vec<Slot>> {
        // Those of an earlier command are all the KMS's, whether or not it came to use them.
        let mut slots: Vec<Slot> = match known.pending {
            Some(pending) => pending.slots_but(known.spared(), header),
            None => Vec::new(),
        };
        let opened = known.unlocked.keyslot;
        if opened != known.spared() {
            slots.extend(Slot::of(header, opened).filter(|slot| !slots.contains(slot)));
        }
        if let (Header::Luks1(_), None, true) = (header, known.current, slots.is_empty()) {
            slots.extend(self.unmarked(header, known)?);
        }
        Ok(slots)
    }

    /// Returns the keyslot of the envelope in the record, which nobody has unwrapped: the only one
    /// that derives as a data key's does.
    fn unmarked(&self, header: &Header, known: &Known<'_>) -> Result<Option<Slot>> {
        let cheap = header.keyslots().into_iter().filter(is_of_data_key).map(|slot| slot.id);
        let found: Vec<u32> = cheap.filter(|id| *id != known.unlocked.keyslot).collect();
        match (found.as_slice(), known.recorded) {
            ([], _) => Ok(None),
            ([only], Some(_)) => Ok(Slot::of(header, *only)),
            _ => {
                let ids: Vec<String> = found.iter().map(ToString::to_string).collect();
                let label = self.label().to_owned();
                Err(Error::KeyslotsUnclear { label, keyslots: ids.join(", ") })
            }
        }
    }
}

impl Known<'_> {
    /// Returns the keyslot that stays, whatever else is known of it: that of a passphrase, but for one
    /// that is the data key itself. There is none of this number where there is none.
    fn spared(&self) -> u32 {
        match self.opener {
            Opener::Passphrase(passphrase) if !self.is_data_key(passphrase) => {
                self.unlocked.keyslot
            }
            _ => u32::MAX,
        }
    }

    fn is_data_key(&self, passphrase: &Passphrase) -> bool {
        let key = DataKey::new(passphrase.expose_bytes().to_vec());
        let noted = self.pending.into_iter();
        let noted = noted.flat_map(|pending| pending.from.iter().chain([&pending.to]));
        let mut envelopes = self.recorded.into_iter().chain(noted);
        envelopes.any(|envelope| envelope.fingerprint.matches(&key))
    }
}
