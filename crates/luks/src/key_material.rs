//! A key sealed in a keyslot's area: split, then encrypted under what the passphrase derives to.

use rand_core::CryptoRng;
use strongroom_crypto::{
    CostPolicy, Encryption, Hash, IvUnit, Kdf, Passphrase, SectorCipher, SectorSize, VolumeKey,
};
use zeroize::Zeroizing;

use crate::{Error, af};

/// How a key is sealed in an area, all but the passphrase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal<'a> {
    /// Encrypts the area. The area's sectors are 512 bytes, their IVs count from 0.
    pub(crate) encryption: Encryption,
    /// Derives the area's key.
    pub(crate) kdf: Kdf,
    /// The derivation's salt.
    pub(crate) salt: &'a [u8],
    /// The splitter's hash.
    pub(crate) af_hash: Hash,
}

/// Returns the bytes that a sealed key of `key_len` bytes takes: whole 512-byte sectors.
pub(crate) fn sealed_len(key_len: usize) -> usize {
    af::split_len(key_len).next_multiple_of(512)
}

/// Returns the policy for the last of `derivations`, the others done, so that all of them together
/// stay inside `policy`.
///
/// # Errors
///
/// When they do not, before any work.
pub(crate) fn policy_after(
    derivations: &[(Kdf, usize)],
    policy: &CostPolicy,
) -> Result<CostPolicy, Error> {
    let Some(((last, out_len), earlier)) = derivations.split_last() else { return Ok(*policy) };
    let mut rest = *policy;
    for (kdf, out_len) in earlier {
        rest = rest.after(kdf, *out_len)?;
    }
    rest.check(last, *out_len)?;
    Ok(rest)
}

impl Seal<'_> {
    /// Returns the area's contents for `key`.
    pub(crate) fn seal(
        &self,
        key: &[u8],
        passphrase: &Passphrase,
        policy: &CostPolicy,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Vec<u8>, Error> {
        let cipher = self.cipher(passphrase, policy)?;
        // At its final length from the start: growing it would leave the stripes behind in memory.
        let mut area = Zeroizing::new(vec![0; sealed_len(key.len())]);
        let (stripes, _) = area.split_at_mut(af::split_len(key.len()));
        af::split(key, self.af_hash, rng, stripes);
        cipher.encrypt(&mut area, 0);
        Ok(std::mem::take(&mut *area))
    }

    /// Returns the key of `key_len` bytes in `area`, or noise when the passphrase is another.
    pub(crate) fn open(
        &self,
        area: &[u8],
        key_len: usize,
        passphrase: &Passphrase,
        policy: &CostPolicy,
    ) -> Result<VolumeKey, Error> {
        let needed = sealed_len(key_len);
        let area = area.get(..needed).ok_or(Error::Truncated {
            what: "the key material",
            needed: needed as u64,
            available: area.len() as u64,
        })?;
        let cipher = self.cipher(passphrase, policy)?;
        let mut material = Zeroizing::new(area.to_vec());
        cipher.decrypt(&mut material, 0);
        material.truncate(af::split_len(key_len));
        Ok(VolumeKey::new(std::mem::take(&mut *af::merge(&material, key_len, self.af_hash))))
    }

    fn cipher(&self, passphrase: &Passphrase, policy: &CostPolicy) -> Result<SectorCipher, Error> {
        let mut key = Zeroizing::new(vec![0; self.encryption.key_size().bytes()]);
        self.kdf.derive(passphrase, self.salt, policy, &mut key)?;
        let key = VolumeKey::new(std::mem::take(&mut *key));
        Ok(SectorCipher::new(self.encryption, &key, SectorSize::B512, IvUnit::Bytes512)?)
    }
}
