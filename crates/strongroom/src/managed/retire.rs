//! What is removed once something else opens the volume.

use strongroom_crypto::Passphrase;
use strongroom_luks::{Change, Header, luks2};

use super::ManagedVolume;
use super::pending::Slot;
use crate::device::HeaderDisk;
use crate::managed_key::is_of_data_key;
use crate::{Error, Result, envelopes, system_rng};

/// What opens the volume when everything else is removed.
pub(super) struct Kept<'k> {
    pub(super) keyslot: u32,
    pub(super) token: Option<u32>,
    pub(super) passphrase: &'k Passphrase,
}

impl<D: HeaderDisk> ManagedVolume<'_, D> {
    /// Removes `old`, and everything of a KMS that tokens tell of, but `kept`, which must open the
    /// header that it is removed from. Returns the keyslots that are gone.
    pub(super) fn retire(&self, kept: &Kept<'_>, old: &[Slot]) -> Result<Vec<u32>> {
        let mut removed = Vec::new();
        loop {
            let gone = self.device.update(|header| {
                if self.try_keyslot(header, kept.passphrase, kept.keyslot)?.is_none() {
                    return Err(Error::ChangedMeanwhile { label: self.label().to_owned() });
                }
                let still = old.iter().filter(|slot| slot.is_in(header));
                let ids = still.map(|slot| slot.keyslot).filter(|id| *id != kept.keyslot);
                self.removal(header, kept, ids.collect())
            })?;
            // A header without tokens loses one keyslot at a time.
            if gone.is_empty() {
                return Ok(removed);
            }
            removed.extend(gone);
        }
    }

    /// Returns the change that removes keyslots, with what tokens tell of, and which keyslots go.
    fn removal(
        &self,
        header: &Header,
        kept: &Kept<'_>,
        mut going: Vec<u32>,
    ) -> Result<(Vec<u32>, Change)> {
        let luks = Error::luks(self.label());
        match header {
            Header::Luks1(_) => {
                going.truncate(1);
                let change = match going.first() {
                    Some(id) => header.remove_keyslot(*id, &mut system_rng()).map_err(&luks)?.1,
                    None => Change::default(),
                };
                Ok((going, change))
            }
            Header::Luks2(luks2) => {
                let (tokens, keyslots) = of_kms(luks2, header, kept.token);
                for id in keyslots {
                    if id != kept.keyslot && !going.contains(&id) {
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
    }
}

/// Returns the tokens of a KMS, other than one that is kept, and the keyslots that go with them:
/// those that derive as only a data key's does, and that nothing but such tokens names. What somebody
/// has put a passphrase into, or given another purpose, stays.
pub(super) fn of_kms(
    luks2: &luks2::Header,
    header: &Header,
    kept: Option<u32>,
) -> (Vec<u32>, Vec<u32>) {
    let tokens = &luks2.metadata().tokens;
    let going: Vec<u32> = tokens
        .iter()
        .filter(|(id, token)| token.kind == envelopes::TOKEN_TYPE && Some(**id) != kept)
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
        .filter(is_of_data_key)
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
