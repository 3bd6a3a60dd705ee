//! Keyslots together with the tokens that tell what opens them: both come and go in one write of the
//! metadata, so that neither is ever there without the other.

use rand_core::CryptoRng;
use strongroom_crypto::{CostPolicy, Passphrase, VolumeKey};

use super::keyslots::forget;
use super::{Header, KeyslotKind, next_sequence_id};
use crate::{Change, Error, NewKeyslot};

/// A keyslot that was added with its token.
#[derive(Debug, Clone, PartialEq)]
pub struct AddedKeyslot {
    /// The number of the keyslot.
    pub keyslot: u32,
    /// The number of the token.
    pub token: u32,
    /// The new header.
    pub header: Header,
    /// What writes it: the key material, then the metadata.
    pub change: Change,
}

/// Keyslots with their tokens.
impl Header {
    /// Seals `key` in a free keyslot and adds a token, whose JSON text `token` makes of the number of
    /// the keyslot.
    ///
    /// # Errors
    ///
    /// When no keyslot, token or room is free, the options do not fit, the text is no token, or `key`
    /// is not the volume key.
    pub fn add_keyslot_with_token(
        &self,
        key: &VolumeKey,
        passphrase: &Passphrase,
        new: &NewKeyslot,
        token: impl FnOnce(u32) -> String,
        policy: &CostPolicy,
        rng: &mut dyn CryptoRng,
    ) -> Result<AddedKeyslot, Error> {
        let (keyslot, header, mut change) = self.with_keyslot(key, passphrase, new, policy, rng)?;
        let (token, mut header) = header.with_token(None, &token(keyslot))?;
        // It is one change, whatever it took to make it.
        header.set_sequence_id(next_sequence_id(self.binary.seqid)?);
        header.write(&mut change);
        Ok(AddedKeyslot { keyslot, token, header, change })
    }

    /// Puts another token in the place of token `id`, under the same number. Returns the new header
    /// and the change.
    ///
    /// # Errors
    ///
    /// When there is no such token, or the text is no token.
    pub fn replace_token(&self, id: u32, text: &str) -> Result<(Self, Change), Error> {
        let header = self.with_token_replaced(id, text)?;
        let mut change = Change::default();
        header.write(&mut change);
        Ok((header, change))
    }

    /// Wipes keyslots and forgets them, and these tokens with them. Returns the new header and the
    /// change.
    ///
    /// As with [`Header::remove_keyslot`](crate::Header::remove_keyslot) the key material goes first:
    /// whoever is interrupted still finds in the header what is left to do. The other way round,
    /// material that nobody knows of any more could stay behind.
    ///
    /// # Errors
    ///
    /// When one of them does not exist; [`Error::LastKeyslot`] when no other keyslot that a passphrase
    /// opens holds the volume key.
    pub fn remove_keyslots_and_tokens(
        &self,
        keyslots: &[u32],
        tokens: &[u32],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Change), Error> {
        for id in tokens {
            self.token_text(*id)?;
        }
        let opens = |id: &u32| {
            self.is_bound(*id)
                && self.keyslot(*id).is_ok_and(|slot| matches!(slot.kind, KeyslotKind::Luks2(_)))
        };
        let remains = self.metadata.keyslots.keys().any(|id| !keyslots.contains(id) && opens(id));
        if let Some(id) = keyslots.iter().find(|id| self.is_bound(**id)).filter(|_| !remains) {
            return Err(Error::LastKeyslot { id: *id });
        }
        self.removed(keyslots, tokens, rng)
    }

    /// Wipes every keyslot, and forgets every token with them. Returns the new header and the change.
    ///
    /// # Errors
    ///
    /// When the header may not be changed.
    pub fn erase_with_tokens(&self, rng: &mut dyn CryptoRng) -> Result<(Self, Change), Error> {
        let keyslots: Vec<u32> = self.metadata.keyslots.keys().copied().collect();
        let tokens: Vec<u32> = self.metadata.tokens.keys().copied().collect();
        self.removed(&keyslots, &tokens, rng)
    }

    fn removed(
        &self,
        keyslots: &[u32],
        tokens: &[u32],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Change), Error> {
        let areas: Vec<_> = keyslots
            .iter()
            .map(|id| Ok(self.keyslot(*id)?.area.range()))
            .collect::<Result<_, Error>>()?;
        let header = self.edited(|document| {
            keyslots.iter().for_each(|id| forget(document, *id));
            let section = document.section("tokens");
            for id in tokens {
                section.shift_remove(&id.to_string());
            }
        })?;
        let mut change = Change::default();
        for area in areas {
            Self::wipe(&mut change, area, rng);
        }
        header.write(&mut change);
        Ok((header, change))
    }
}
