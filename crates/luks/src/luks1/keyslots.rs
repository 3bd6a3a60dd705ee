//! LUKS1 keyslots: opened, added, removed, changed.

use rand_core::CryptoRng;
use strongroom_crypto::{CostPolicy, Hash, Kdf, Passphrase, VolumeKey};
use subtle::ConstantTimeEq;

use super::header::{Header, Keyslot};
use super::{ALIGNMENT, KEYSLOTS, SECTOR};
use crate::key_material::{Seal, policy_after};
use crate::{Change, Error, NewKeyslot, Version, areas};

impl Header {
    /// Returns a keyslot that holds a key.
    ///
    /// # Errors
    ///
    /// [`Error::KeyslotNumber`], [`Error::KeyslotUnused`].
    pub fn active(&self, id: u32) -> Result<&Keyslot, Error> {
        let keyslot = self.keyslots.get(id as usize).ok_or_else(|| number(id))?;
        if keyslot.active { Ok(keyslot) } else { Err(Error::KeyslotUnused { id }) }
    }

    /// Returns the volume key in keyslot `id`, `area` being the bytes of its area.
    ///
    /// # Errors
    ///
    /// [`Error::WrongPassphrase`] when the passphrase is another.
    pub(crate) fn open(
        &self,
        id: u32,
        area: &[u8],
        passphrase: &Passphrase,
        policy: &CostPolicy,
    ) -> Result<VolumeKey, Error> {
        let seal = self.seal(self.active(id)?)?;
        let rest = policy_after(&self.derivations(id)?, policy)?;
        let key = seal.open(area, self.key_bytes as usize, passphrase, policy)?;
        match self.verify(&key, &rest) {
            Err(Error::WrongVolumeKey) => Err(Error::WrongPassphrase { skipped: Vec::new() }),
            other => other.map(|()| key),
        }
    }

    /// Returns what trying a passphrase on keyslot `id` derives, with the bytes of each.
    pub(crate) fn derivations(&self, id: u32) -> Result<Vec<(Kdf, usize)>, Error> {
        let (hash, keyslot) = (self.hash()?, self.active(id)?);
        let pbkdf2 = |iterations| Kdf::Pbkdf2 { hash, iterations };
        Ok(vec![
            (pbkdf2(keyslot.iterations), self.key_bytes as usize),
            (pbkdf2(self.digest_iterations), self.digest.len()),
        ])
    }

    /// Checks that `key` is the volume key.
    ///
    /// # Errors
    ///
    /// [`Error::WrongVolumeKey`] when it is not.
    pub(crate) fn verify(&self, key: &VolumeKey, policy: &CostPolicy) -> Result<(), Error> {
        let digest = digest(key, self.hash()?, &self.digest_salt, self.digest_iterations, policy)?;
        let right_length = key.len() == self.key_bytes as usize;
        if right_length && bool::from(digest.ct_eq(&self.digest)) {
            Ok(())
        } else {
            Err(Error::WrongVolumeKey)
        }
    }

    /// Seals `key` in a free keyslot. Returns its number, the new header and the change.
    pub(crate) fn add_keyslot(
        &self,
        key: &VolumeKey,
        passphrase: &Passphrase,
        new: &NewKeyslot,
        policy: &CostPolicy,
        rng: &mut dyn CryptoRng,
    ) -> Result<(u32, Self, Change), Error> {
        let id = self.free_keyslot(new.id)?;
        let (mut header, mut change) = (self.clone(), Change::default());
        let (keyslot, area) = self.sealed_keyslot(id, key, passphrase, new, policy, rng)?;
        change.write(header.area(&keyslot).start, area);
        change.flush();
        *header.keyslot_mut(id) = keyslot;
        header.write(&mut change);
        Ok((id, header, change))
    }

    /// Wipes keyslot `id`. Returns the new header and the change.
    pub(crate) fn remove_keyslot(
        &self,
        id: u32,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Change), Error> {
        let (mut header, mut change) = (self.clone(), Change::default());
        let area = self.area(self.active(id)?);
        // The material goes first: a header that still names it then only fails to open.
        let mut noise = vec![0; usize::try_from(area.end - area.start).expect("areas are small")];
        rng.fill_bytes(&mut noise);
        change.write(area.start, noise);
        change.flush();
        let keyslot = header.keyslot_mut(id);
        keyslot.active = false;
        keyslot.iterations = 0;
        keyslot.salt = [0; 32];
        header.write(&mut change);
        Ok((header, change))
    }

    /// Adds the header itself to a change.
    ///
    /// A write torn between its two sectors harms keyslots 6 and 7 at most: an entry that was
    /// becoming active is then not yet usable, one that was becoming inactive is wiped already.
    pub(crate) fn write(&self, change: &mut Change) {
        change.write(0, self.to_bytes());
        change.flush();
    }

    /// Returns a keyslot that has its own free area, and the area's contents.
    fn sealed_keyslot(
        &self,
        id: u32,
        key: &VolumeKey,
        passphrase: &Passphrase,
        new: &NewKeyslot,
        policy: &CostPolicy,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Keyslot, Vec<u8>), Error> {
        let Kdf::Pbkdf2 { hash, iterations } = new.kdf else {
            return Err(Error::unfit(Version::Luks1, "its keyslots only have pbkdf2"));
        };
        if hash != self.hash()? {
            return Err(Error::unfit(
                Version::Luks1,
                format!("every keyslot uses the header's hash, {}", self.hash_spec),
            ));
        }
        new.kdf.checked()?;
        let mut keyslot = self.keyslots.get(id as usize).cloned().ok_or_else(|| number(id))?;
        keyslot.active = true;
        keyslot.iterations = iterations;
        rng.fill_bytes(&mut keyslot.salt);
        let area = self.seal(&keyslot)?.seal(key.expose_bytes(), passphrase, policy, rng)?;
        Ok((keyslot, area))
    }

    fn seal<'a>(&self, keyslot: &'a Keyslot) -> Result<Seal<'a>, Error> {
        let hash = self.hash()?;
        Ok(Seal {
            encryption: self.encryption()?,
            kdf: Kdf::Pbkdf2 { hash, iterations: keyslot.iterations },
            salt: &keyslot.salt,
            af_hash: hash,
        })
    }

    fn free_keyslot(&self, wanted: Option<u32>) -> Result<u32, Error> {
        match wanted {
            Some(id) => match self.keyslots.get(id as usize) {
                None => Err(number(id)),
                Some(keyslot) if keyslot.active => Err(Error::KeyslotInUse { id }),
                Some(_) => Ok(id),
            },
            None => (0..)
                .zip(&self.keyslots)
                .find_map(|(id, keyslot)| (!keyslot.active).then_some(id))
                .ok_or(Error::NoFreeKeyslot { count: KEYSLOTS as u32 }),
        }
    }

    /// Returns keyslot `id`, which exists.
    pub(crate) fn keyslot_mut(&mut self, id: u32) -> &mut Keyslot {
        self.keyslots.get_mut(id as usize).expect("the caller checked the number")
    }

    /// Gives every inactive keyslot an area that touches no other, between `from` and the payload.
    pub(crate) fn place_inactive_keyslots(&mut self, from: u64) -> Result<(), Error> {
        let end = match u64::from(self.payload_offset) * SECTOR {
            0 => u64::from(u32::MAX) * SECTOR,
            payload => payload,
        };
        let mut taken: Vec<_> =
            self.keyslots.iter().filter(|slot| slot.active).map(|slot| self.area(slot)).collect();
        let size = self.area_len();
        for keyslot in self.keyslots.iter_mut().filter(|slot| !slot.active) {
            let start = areas::first_gap(from..end, taken.iter().cloned(), size, ALIGNMENT)
                .or_else(|| areas::first_gap(from..end, taken.iter().cloned(), size, SECTOR))
                .ok_or(Error::NoRoom { needed: size })?;
            taken.push(start..start + size);
            keyslot.offset =
                u32::try_from(start / SECTOR).map_err(|_| Error::NoRoom { needed: size })?;
            keyslot.stripes = crate::af::STRIPES;
        }
        Ok(())
    }
}

/// Returns the digest of a volume key (specification, section 4.1).
pub(crate) fn digest(
    key: &VolumeKey,
    hash: Hash,
    salt: &[u8; 32],
    iterations: u32,
    policy: &CostPolicy,
) -> Result<[u8; 20], Error> {
    let mut digest = [0; 20];
    let key = Passphrase::new(key.expose_bytes().to_vec());
    Kdf::Pbkdf2 { hash, iterations }.derive(&key, salt, policy, &mut digest)?;
    Ok(digest)
}

fn number(id: u32) -> Error {
    Error::KeyslotNumber { id, version: Version::Luks1, last: KEYSLOTS as u32 - 1 }
}
