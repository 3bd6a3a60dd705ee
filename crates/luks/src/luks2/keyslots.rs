//! LUKS2 keyslots: opened, added, removed, changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand_core::CryptoRng;
use serde_json::{Value, json};
use strongroom_crypto::{
    Argon2Variant, CipherSpec, CostPolicy, Encryption, Kdf, Passphrase, VolumeKey,
};

use super::metadata::{
    self, Keyslot, KeyslotKind, Luks2Keyslot, MAX_DIGESTS, MAX_OBJECTS, Priority,
};
use super::{Document, Header, digests, keyslot_area_len};
use crate::format::DIGEST_ITERATIONS;
use crate::header::Binding;
use crate::key_material::{Seal, policy_after};
use crate::{Change, Error, NewKeyslot, Version, af};

impl Header {
    /// Returns keyslot `id`.
    ///
    /// # Errors
    ///
    /// [`Error::KeyslotUnused`] when there is none.
    pub fn keyslot(&self, id: u32) -> Result<&Keyslot, Error> {
        self.metadata.keyslots.get(&id).ok_or(Error::KeyslotUnused { id })
    }

    /// Returns the key in keyslot `id`, `area` being the bytes of its area.
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
        let keyslot = self.keyslot(id)?;
        let luks2 = self.luks2_keyslot(id)?;
        let seal = Seal {
            encryption: area_encryption(luks2)?,
            kdf: derivation(&luks2.kdf)?,
            salt: &luks2.salt,
            af_hash: luks2.af_hash.parse()?,
        };
        let rest = policy_after(&self.derivations(id)?, policy)?;
        let key = seal.open(area, keyslot.key_size as usize, passphrase, policy)?;
        let (_, digest) =
            self.metadata.digest_of_keyslot(id).expect("validation binds every keyslot");
        if digest.matches(&key, &rest)? {
            Ok(key)
        } else {
            Err(Error::WrongPassphrase { skipped: Vec::new() })
        }
    }

    /// Returns what trying a passphrase on keyslot `id` derives, with the bytes of each.
    pub(crate) fn derivations(&self, id: u32) -> Result<Vec<(Kdf, usize)>, Error> {
        let luks2 = self.luks2_keyslot(id)?;
        let slot = (derivation(&luks2.kdf)?, luks2.area_key_size as usize);
        let (_, digest) =
            self.metadata.digest_of_keyslot(id).expect("validation binds every keyslot");
        Ok([slot].into_iter().chain(digest.derivation()?).collect())
    }

    /// Checks that `key` is the key of segment 0.
    ///
    /// # Errors
    ///
    /// [`Error::WrongVolumeKey`] when it is not.
    pub(crate) fn verify(&self, key: &VolumeKey, policy: &CostPolicy) -> Result<(), Error> {
        let bound = self.metadata.digest_of_segment(0);
        // A zero-padded key has the digest of the shorter one, so the length counts as well.
        let right_length = bound.is_some_and(|(_, digest)| {
            digest.keyslots.iter().all(|id| {
                self.keyslot(*id).is_ok_and(|keyslot| keyslot.key_size as usize == key.len())
            })
        });
        match bound {
            Some((_, digest)) if right_length && digest.matches(key, policy)? => Ok(()),
            _ => Err(Error::WrongVolumeKey),
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
        let (id, header, mut change) = self.with_keyslot(key, passphrase, new, policy, rng)?;
        header.write(&mut change);
        Ok((id, header, change))
    }

    /// Seals `key` in a free keyslot. Returns its number, the new header, and the change that writes
    /// the key material alone.
    pub(super) fn with_keyslot(
        &self,
        key: &VolumeKey,
        passphrase: &Passphrase,
        new: &NewKeyslot,
        policy: &CostPolicy,
        rng: &mut dyn CryptoRng,
    ) -> Result<(u32, Self, Change), Error> {
        self.refuse_unknown_requirements()?;
        let id = self.free_keyslot(new.id)?;
        let offset = self.free_area(key.len(), &[])?;
        let (object, area) = sealed_keyslot(key, passphrase, new, offset, policy, rng)?;
        let digest = match new.binding {
            Binding::Volume => {
                self.verify(key, policy)?;
                self.metadata.digest_of_segment(0).map(|(number, _)| number)
            }
            Binding::None => None,
        };
        let new_digest = match digest {
            Some(_) => None,
            None => {
                let digest = digests::new(key, new.af_hash, DIGEST_ITERATIONS, policy, rng)?;
                Some((self.free_digest()?, digest))
            }
        };
        let header = self.edited(|document| {
            document.section("keyslots").insert(id.to_string(), object);
            let number = match (digest, new_digest) {
                (_, Some((number, object))) => {
                    document.section("digests").insert(number.to_string(), object);
                    number
                }
                (number, None) => number.expect("there is a digest or a new one"),
            };
            bind(document, number, id);
        })?;
        let mut change = Change::default();
        change.write(offset, area);
        change.flush();
        Ok((id, header, change))
    }

    /// Wipes keyslot `id` and forgets it. Returns the new header and the change.
    pub(crate) fn remove_keyslot(
        &self,
        id: u32,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Change), Error> {
        let area = self.keyslot(id)?.area.range();
        let header = self.edited(|document| forget(document, id))?;
        let mut change = Change::default();
        // The material goes first: a header that still names it then only fails to open.
        Self::wipe(&mut change, area, rng);
        header.write(&mut change);
        Ok((header, change))
    }

    /// Seals `key`, which keyslot `old` holds, under a new passphrase in its place. Returns the new
    /// header and the change.
    pub(crate) fn change_keyslot(
        &self,
        old: u32,
        key: &VolumeKey,
        passphrase: &Passphrase,
        new: &NewKeyslot,
        policy: &CostPolicy,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Change), Error> {
        self.refuse_unknown_requirements()?;
        self.luks2_keyslot(old)?;
        let (number, digest) =
            self.metadata.digest_of_keyslot(old).expect("validation binds every keyslot");
        // The keyslot stays bound to its digest: any other key would lock it for ever.
        let right_length = self.keyslot(old)?.key_size as usize == key.len();
        if !right_length || !digest.matches(key, policy)? {
            return Err(Error::WrongVolumeKey);
        }
        let id = self.free_keyslot(None)?;
        let offset = self.free_area(key.len(), &[])?;
        let (object, area) = sealed_keyslot(key, passphrase, new, offset, policy, rng)?;
        let added = self.edited(|document| {
            document.section("keyslots").insert(id.to_string(), object);
            bind(document, number, id);
        })?;
        let mut change = Change::default();
        change.write(offset, area);
        change.flush();
        added.write(&mut change);
        let (header, wiped) = added.replace_keyslot(old, id, rng)?;
        change.append(wiped);
        Ok((header, change))
    }

    /// Wipes keyslot `old` and gives its number to keyslot `new`, with what named `old`.
    fn replace_keyslot(
        &self,
        old: u32,
        new: u32,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Change), Error> {
        let area = self.keyslot(old)?.area.range();
        self.keyslot(new)?;
        let header = self.edited(|document| {
            let keyslots = document.section("keyslots");
            if let Some(object) = keyslots.shift_remove(&new.to_string()) {
                keyslots.insert(old.to_string(), object);
            }
            unbind(document, "digests", new);
            unbind(document, "tokens", new);
        })?;
        let mut change = Change::default();
        Self::wipe(&mut change, area, rng);
        header.write(&mut change);
        Ok((header, change))
    }

    /// Returns the header without any keyslot, and the change that wipes the whole area.
    pub(crate) fn erase(&self, rng: &mut dyn CryptoRng) -> Result<(Self, Change), Error> {
        let header = self.edited(|document| {
            for id in self.metadata.keyslots.keys() {
                forget(document, *id);
            }
        })?;
        let mut change = Change::default();
        for keyslot in self.metadata.keyslots.values() {
            Self::wipe(&mut change, keyslot.area.range(), rng);
        }
        header.write(&mut change);
        Ok((header, change))
    }

    /// Returns the header with another priority for keyslot `id`.
    pub(crate) fn with_priority(&self, id: u32, priority: Priority) -> Result<Self, Error> {
        self.keyslot(id)?;
        self.edited(|document| {
            let keyslot = document.section("keyslots").get_mut(&id.to_string());
            if let Some(object) = keyslot.and_then(Value::as_object_mut) {
                match priority {
                    Priority::Ignore => object.insert("priority".to_owned(), json!(0)),
                    Priority::Normal => object.shift_remove("priority"),
                    Priority::Prefer => object.insert("priority".to_owned(), json!(2)),
                };
            }
        })
    }

    /// Returns the keyslots that a passphrase is tried on, in order.
    pub(crate) fn order(&self) -> Vec<u32> {
        let with = |priority| {
            self.metadata.keyslots.iter().filter(move |(_, keyslot)| {
                keyslot.priority == priority && matches!(keyslot.kind, KeyslotKind::Luks2(_))
            })
        };
        with(Priority::Prefer)
            .chain(with(Priority::Normal))
            .map(|(&id, _)| id)
            .filter(|&id| self.is_bound(id))
            .collect()
    }

    /// Returns whether keyslot `id` holds the volume key.
    pub(crate) fn is_bound(&self, id: u32) -> bool {
        self.metadata.digest_of_keyslot(id).is_some_and(|(_, digest)| !digest.segments.is_empty())
    }

    /// Returns the part of keyslot `id` that a passphrase opens.
    pub(crate) fn luks2_keyslot(&self, id: u32) -> Result<&Luks2Keyslot, Error> {
        match &self.keyslot(id)?.kind {
            KeyslotKind::Luks2(luks2) => Ok(luks2),
            KeyslotKind::Reencrypt { .. } => {
                Err(Error::KeyslotType { id, kind: "reencrypt".to_owned() })
            }
            KeyslotKind::Unknown { kind } => Err(Error::KeyslotType { id, kind: kind.clone() }),
        }
    }

    /// Returns the key derivation of keyslot `id`, when it is one that is known here.
    pub(crate) fn derivation_of(&self, id: u32) -> Option<Kdf> {
        self.luks2_keyslot(id).ok().and_then(|luks2| derivation(&luks2.kdf).ok())
    }

    /// Returns the cipher for the areas of new keyslots: that of the data where it is one that
    /// new key material may have, else AES-256-XTS.
    pub(crate) fn area_encryption(&self) -> Encryption {
        let fallback = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
        let Some((_, digest)) = self.metadata.digest_of_segment(0) else { return fallback };
        let existing = digest.keyslots.iter().find_map(|id| self.luks2_keyslot(*id).ok());
        existing
            .and_then(|luks2| area_encryption(luks2).ok())
            .filter(|encryption| encryption.spec().open_only().is_none())
            .unwrap_or(fallback)
    }

    fn free_keyslot(&self, wanted: Option<u32>) -> Result<u32, Error> {
        match wanted {
            Some(id) if id >= MAX_OBJECTS => {
                Err(Error::KeyslotNumber { id, version: Version::Luks2, last: MAX_OBJECTS - 1 })
            }
            Some(id) if self.metadata.keyslots.contains_key(&id) => Err(Error::KeyslotInUse { id }),
            Some(id) => Ok(id),
            None => (0..MAX_OBJECTS)
                .find(|id| !self.metadata.keyslots.contains_key(id))
                .ok_or(Error::NoFreeKeyslot { count: MAX_OBJECTS }),
        }
    }

    fn free_digest(&self) -> Result<u32, Error> {
        (0..MAX_DIGESTS).find(|id| !self.metadata.digests.contains_key(id)).ok_or_else(|| {
            Error::unfit(Version::Luks2, format!("all {MAX_DIGESTS} digests are in use"))
        })
    }
}

/// Returns a keyslot object and the contents of its area.
pub(super) fn sealed_keyslot(
    key: &VolumeKey,
    passphrase: &Passphrase,
    new: &NewKeyslot,
    offset: u64,
    policy: &CostPolicy,
    rng: &mut dyn CryptoRng,
) -> Result<(Value, Vec<u8>), Error> {
    let mut salt = [0; 32];
    rng.fill_bytes(&mut salt);
    let kdf = new.kdf.checked()?;
    let seal = Seal { encryption: new.area_encryption, kdf, salt: &salt, af_hash: new.af_hash };
    let area = seal.seal(key.expose_bytes(), passphrase, policy, rng)?;
    let mut object = json!({
        "type": "luks2",
        "key_size": key.len(),
        "af": { "type": "luks1", "stripes": af::STRIPES, "hash": new.af_hash.name() },
        "area": {
            "type": "raw",
            "offset": offset.to_string(),
            "size": keyslot_area_len(key.len()).to_string(),
            "encryption": new.area_encryption.spec().to_string(),
            "key_size": new.area_encryption.key_size().bytes(),
        },
        "kdf": kdf_object(kdf, &salt),
    });
    let members = object.as_object_mut().expect("it was written as an object");
    match new.priority {
        Priority::Normal => {}
        Priority::Ignore => drop(members.insert("priority".to_owned(), json!(0))),
        Priority::Prefer => drop(members.insert("priority".to_owned(), json!(2))),
    }
    Ok((object, area))
}

/// Returns the `kdf` member for a derivation and its salt.
pub(crate) fn kdf_object(kdf: Kdf, salt: &[u8]) -> Value {
    let salt = STANDARD.encode(salt);
    match kdf {
        Kdf::Pbkdf2 { hash, iterations } => {
            json!({ "type": "pbkdf2", "hash": hash.name(), "iterations": iterations, "salt": salt })
        }
        Kdf::Argon2 { time, memory_kib, lanes, .. } => json!({
            "type": kdf.name(),
            "time": time,
            "memory": memory_kib,
            "cpus": lanes,
            "salt": salt,
        }),
    }
}

/// Returns the derivation that a header describes.
pub(crate) fn derivation(kdf: &metadata::Kdf) -> Result<Kdf, Error> {
    Ok(match kdf {
        metadata::Kdf::Pbkdf2 { hash, iterations } => {
            Kdf::Pbkdf2 { hash: hash.parse()?, iterations: *iterations }
        }
        metadata::Kdf::Argon2 { kind, time, memory, cpus } => Kdf::Argon2 {
            variant: match kind.as_str() {
                "argon2i" => Argon2Variant::Argon2i,
                _ => Argon2Variant::Argon2id,
            },
            time: *time,
            memory_kib: *memory,
            lanes: *cpus,
        },
    })
}

fn area_encryption(luks2: &Luks2Keyslot) -> Result<Encryption, Error> {
    let spec: CipherSpec = luks2.encryption.parse()?;
    Ok(spec.with_key_bits(luks2.area_key_size as usize * 8)?)
}

/// Adds keyslot `id` to a digest.
pub(super) fn bind(document: &mut Document, digest: u32, id: u32) {
    let digest = document.section("digests").get_mut(&digest.to_string());
    if let Some(ids) =
        digest.and_then(|digest| digest.get_mut("keyslots")).and_then(Value::as_array_mut)
    {
        ids.push(Value::String(id.to_string()));
    }
}

/// Removes keyslot `id` from every array of keyslots in a section.
fn unbind(document: &mut Document, section: &str, id: u32) {
    let id = id.to_string();
    for (_, object) in document.section(section).iter_mut() {
        if let Some(ids) = object.get_mut("keyslots").and_then(Value::as_array_mut) {
            ids.retain(|value| value.as_str() != Some(&id));
        }
    }
}

/// Removes keyslot `id`, and a digest that then protects nothing.
pub(super) fn forget(document: &mut Document, id: u32) {
    document.section("keyslots").shift_remove(&id.to_string());
    unbind(document, "digests", id);
    unbind(document, "tokens", id);
    document.section("digests").retain(|_, digest| {
        let empty = |member| digest.get(member).and_then(Value::as_array).is_none_or(Vec::is_empty);
        !(empty("keyslots") && empty("segments"))
    });
}
