//! Passphrases beside the KMS, and the end of the KMS's own keys.

use strongroom_crypto::Passphrase;
use strongroom_luks::{Header, luks2};

use super::retire::of_kms;
use super::{ManagedVolume, bound};
use crate::device::HeaderDisk;
use crate::keys::KeyslotRequest;
use crate::{Error, ErrorKind, Opener, Result, envelopes, system_rng};

/// What was taken from a KMS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The keyslots that are gone.
    pub removed: Vec<u32>,
    /// Those that its tokens named, too, and that stay: they derive as a person's passphrase does, or
    /// another token names them.
    pub left: Vec<u32>,
}

impl<D: HeaderDisk> ManagedVolume<'_, D> {
    /// Adds a passphrase for the day on which the KMS is lost, and marks its keyslot with a token where
    /// there are tokens. Returns the number of the keyslot.
    ///
    /// # Errors
    ///
    /// When `opener` opens nothing, or the header has no room.
    pub fn add_recovery(
        &self,
        opener: Opener<'_>,
        new: &Passphrase,
        request: &KeyslotRequest,
    ) -> Result<u32> {
        let luks = Error::luks(self.label());
        self.device.update(|header| {
            let key = self.unlock(header, opener)?.0.key;
            let slot = request.keyslot_of(header, self.label())?;
            let rng = &mut system_rng();
            match header {
                Header::Luks1(_) => {
                    let (id, _, change) =
                        header.add_keyslot(&key, new, &slot, &self.policy, rng).map_err(&luks)?;
                    Ok((id, change))
                }
                Header::Luks2(luks2) => {
                    let text = envelopes::recovery_token_text;
                    let added = luks2
                        .add_keyslot_with_token(&key, new, &slot, text, &self.policy, rng)
                        .map_err(&luks)?;
                    Ok((added.keyslot, added.change))
                }
            }
        })
    }

    /// Removes a recovery passphrase: that in `keyslot`, or the only one. `opener` must open another
    /// keyslot. Returns the number of the keyslot.
    ///
    /// # Errors
    ///
    /// When it is not clear which one is meant, or `opener` opens no other.
    pub fn remove_recovery(&self, opener: Opener<'_>, keyslot: Option<u32>) -> Result<u32> {
        self.device.update(|header| {
            let luks2 = self.luks2(header)?;
            let marked = self.recovery_keyslots(luks2);
            let (token, id) = match (keyslot, marked.as_slice()) {
                (Some(wanted), marked) => {
                    let found = marked.iter().find(|(_, id)| *id == wanted).copied();
                    found.ok_or_else(|| {
                        refused(format!(
                            "keyslot {wanted} of {} holds no recovery passphrase",
                            self.label()
                        ))
                    })?
                }
                (None, [only]) => *only,
                (None, []) => {
                    return Err(refused(format!("{} has no recovery passphrase", self.label())));
                }
                (None, [..]) => {
                    let ids: Vec<String> = marked.iter().map(|(_, id)| id.to_string()).collect();
                    let problem = format!(
                        "{} has several recovery passphrases, in keyslots {}: say which one",
                        self.label(),
                        ids.join(", ")
                    );
                    return Err(refused(problem));
                }
            };
            self.prove_other(header, opener, &[id])?;
            let (_, change) = luks2
                .remove_keyslots_and_tokens(&[id], &[token], &mut system_rng())
                .map_err(Error::luks(self.label()))?;
            Ok((id, change))
        })
    }

    /// Takes the volume from the KMS: its keyslots and envelopes are removed, here, without asking it.
    /// `passphrase` must open what remains. Of a keyslot that is not the KMS's alone, only the token
    /// goes.
    ///
    /// # Errors
    ///
    /// When the passphrase opens no other keyslot, or there is nothing of a KMS.
    pub fn revoke(&self, passphrase: &Passphrase) -> Result<Revoked> {
        self.device.update(|header| {
            let luks2 = self.luks2(header)?;
            let (tokens, removed) = of_kms(luks2, header, None);
            if tokens.is_empty() {
                return Err(Error::NoEnvelope { label: self.label().to_owned() });
            }
            let all = &luks2.metadata().tokens;
            let named = |id: &u32| tokens.iter().any(|token| all[token].keyslots.contains(id));
            let ids = header.keyslots().into_iter().map(|slot| slot.id);
            let left = ids.filter(|id| named(id) && !removed.contains(id)).collect();
            self.prove_other(header, Opener::Passphrase(passphrase), &removed)?;
            let (_, change) = luks2
                .remove_keyslots_and_tokens(&removed, &tokens, &mut system_rng())
                .map_err(Error::luks(self.label()))?;
            Ok((Revoked { removed, left }, change))
        })
    }

    /// Destroys every keyslot and every token: nobody opens the volume again without a header backup.
    ///
    /// # Errors
    ///
    /// When the header may not be changed.
    pub fn erase(&self) -> Result<()> {
        self.device.update(|header| {
            let rng = &mut system_rng();
            let change = match header {
                Header::Luks1(_) => header.erase(rng).map(|(_, change)| change),
                Header::Luks2(luks2) => luks2.erase_with_tokens(rng).map(|(_, change)| change),
            };
            Ok(((), change.map_err(Error::luks(self.label()))?))
        })
    }

    /// Makes sure that a keyslot other than these opens.
    fn prove_other(&self, header: &Header, opener: Opener<'_>, going: &[u32]) -> Result<()> {
        let passphrase = match opener {
            Opener::Passphrase(passphrase) => passphrase,
            Opener::Kms(_) => {
                let keyslot = self.unlock(header, opener)?.0.keyslot;
                return if going.contains(&keyslot) { Err(self.last(going)) } else { Ok(()) };
            }
        };
        let mut others = header.keyslots_to_try().map_err(Error::luks(self.label()))?;
        let bound = bound(header);
        others.retain(|id| bound.contains(id) && !going.contains(id));
        match self.with_trial(header, |trial| trial.open(&others, passphrase)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WrongPassphrase => Err(self.last(going)),
            Err(error) => Err(error),
        }
    }

    fn recovery_keyslots(&self, luks2: &luks2::Header) -> Vec<(u32, u32)> {
        let tokens = luks2.metadata().tokens.iter();
        tokens
            .filter(|(_, token)| token.kind == envelopes::RECOVERY_TOKEN_TYPE)
            .flat_map(|(id, token)| token.keyslots.iter().map(|keyslot| (*id, *keyslot)))
            .collect()
    }

    fn luks2<'h>(&self, header: &'h Header) -> Result<&'h luks2::Header> {
        match header {
            Header::Luks2(luks2) => Ok(luks2),
            Header::Luks1(_) => Err(Error::NotMarked { label: self.label().to_owned() }),
        }
    }

    fn last(&self, going: &[u32]) -> Error {
        let ids: Vec<String> = going.iter().map(ToString::to_string).collect();
        Error::NoOtherKey { label: self.label().to_owned(), keyslots: ids.join(", ") }
    }
}

fn refused(problem: String) -> Error {
    Error::Request { problem }
}
