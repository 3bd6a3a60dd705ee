//! Digests: whether a key is the right one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand_core::CryptoRng;
use serde_json::{Value, json};
use strongroom_crypto::{CostPolicy, Hash, Kdf, Passphrase, VolumeKey};
use subtle::ConstantTimeEq;

use super::metadata::{Digest, DigestKind};
use crate::Error;

impl Digest {
    /// Returns what checking a key derives, with the bytes of it; `None` when the kind is unknown.
    ///
    /// # Errors
    ///
    /// When the hash is unknown here.
    pub(super) fn derivation(&self) -> Result<Option<(Kdf, usize)>, Error> {
        let DigestKind::Pbkdf2 { hash, iterations, digest, .. } = &self.kind else {
            return Ok(None);
        };
        let kdf = Kdf::Pbkdf2 { hash: hash.parse()?, iterations: *iterations };
        Ok(Some((kdf, digest.len())))
    }

    /// Returns whether this is the digest of `key`.
    ///
    /// # Errors
    ///
    /// When the digest is of an unknown kind, or costs more than the policy allows.
    pub(super) fn matches(&self, key: &VolumeKey, policy: &CostPolicy) -> Result<bool, Error> {
        let DigestKind::Pbkdf2 { hash, iterations, salt, digest } = &self.kind else {
            return Ok(false);
        };
        let computed = pbkdf2(key, hash.parse()?, *iterations, salt, digest.len(), policy)?;
        Ok(computed.ct_eq(digest).into())
    }
}

/// Returns a new digest object for `key`, bound to nothing yet.
pub(super) fn new(
    key: &VolumeKey,
    hash: Hash,
    iterations: u32,
    policy: &CostPolicy,
    rng: &mut dyn CryptoRng,
) -> Result<Value, Error> {
    let mut salt = [0; 32];
    rng.fill_bytes(&mut salt);
    let digest = pbkdf2(key, hash, iterations, &salt, hash.digest_len(), policy)?;
    Ok(json!({
        "type": "pbkdf2",
        "keyslots": [],
        "segments": [],
        "hash": hash.name(),
        "iterations": iterations,
        "salt": STANDARD.encode(salt),
        "digest": STANDARD.encode(digest),
    }))
}

fn pbkdf2(
    key: &VolumeKey,
    hash: Hash,
    iterations: u32,
    salt: &[u8],
    len: usize,
    policy: &CostPolicy,
) -> Result<Vec<u8>, Error> {
    let mut digest = vec![0; len];
    let key = Passphrase::new(key.expose_bytes().to_vec());
    Kdf::Pbkdf2 { hash, iterations }.derive(&key, salt, policy, &mut digest)?;
    Ok(digest)
}
