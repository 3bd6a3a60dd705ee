//! A small volume whose key derivation costs next to nothing, and an editor for its header.
//!
//! The editor knows the formats on its own, so that a mistake in the crate is not repeated here.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use strongroom_crypto::{CipherSpec, Encryption, Hash, Kdf, Passphrase, VolumeKey};
use strongroom_luks::{
    Backup, Change, Error, FormatOptions, Found, Header, NewKeyslot, Version, head_len, luks1,
    luks2,
};

use crate::device::{apply, parse, passphrase, policy, rng};

/// A device in memory together with its volume key.
#[derive(Clone)]
pub(crate) struct Volume {
    pub(crate) bytes: Vec<u8>,
    key: Vec<u8>,
}

/// PBKDF2 as cheap as LUKS allows.
pub(crate) const CHEAP: Kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1000 };

/// AES-128-XTS, whose keyslot areas are half as large as the default's.
pub(crate) fn short_key() -> Encryption {
    CipherSpec::AES_XTS_PLAIN64.with_key_bits(256).unwrap()
}

/// Options for a volume with room for exactly `slots` LUKS2 keyslots.
pub(crate) fn small_options(version: Version, slots: u64) -> FormatOptions {
    let luks2 = version == Version::Luks2;
    FormatOptions {
        encryption: short_key(),
        kdf: CHEAP,
        data_offset: luks2.then_some(HEADERS + slots * AREA),
        ..FormatOptions::new(version)
    }
}

impl Volume {
    /// Returns a volume with the passphrase "old" in keyslot 0 and one sector of data.
    pub(crate) fn new(options: &FormatOptions) -> Self {
        let formatted = options.format(&passphrase("old"), &policy(), &mut rng(7)).unwrap();
        let end = match &formatted.header {
            Header::Luks1(header) => u64::from(header.payload_offset) * 512,
            Header::Luks2(header) => header.metadata().segments[&0].offset,
        };
        let len = end.max(formatted.header.backup_len()) + 4096;
        let mut volume = Self {
            bytes: vec![0; len as usize],
            key: formatted.volume_key.expose_bytes().to_vec(),
        };
        volume.apply(&formatted.change);
        volume.cheapen_digest();
        volume
    }

    /// Returns a volume with room for `slots` LUKS2 keyslots, LUKS1 having its eight.
    pub(crate) fn small(version: Version, slots: u64) -> Self {
        // Formatting costs a real digest, so every test of the binary shares it.
        static MADE: Mutex<BTreeMap<(u16, u64), Volume>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap();
        let volume = made.entry((version.number(), slots));
        volume.or_insert_with(|| Self::new(&small_options(version, slots))).clone()
    }

    pub(crate) fn key(&self) -> VolumeKey {
        VolumeKey::new(self.key.clone())
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        apply(&mut self.bytes, change);
    }

    pub(crate) fn header(&self) -> Header {
        parse(&self.bytes).unwrap()
    }

    pub(crate) fn luks1(&self) -> luks1::Header {
        let Header::Luks1(header) = self.header() else { panic!("the volume is LUKS2") };
        header
    }

    pub(crate) fn luks2(&self) -> luks2::Header {
        let Header::Luks2(header) = self.header() else { panic!("the volume is LUKS1") };
        header
    }

    pub(crate) fn found(&self) -> Result<Found, Error> {
        found(&self.bytes)
    }

    /// Returns whether the passphrase opens the volume; panics when it opens it to a wrong key.
    pub(crate) fn opens(&self, text: &str) -> bool {
        opens(&self.bytes, text, &self.key)
    }

    /// Returns the options for a cheap keyslot.
    pub(crate) fn keyslot(&self) -> NewKeyslot {
        NewKeyslot { kdf: CHEAP, ..self.header().default_keyslot().unwrap() }
    }

    /// Adds a passphrase; returns the number of its keyslot.
    pub(crate) fn add(&mut self, text: &str) -> u32 {
        let (id, change) = self.adding(text, &self.keyslot()).unwrap();
        self.apply(&change);
        id
    }

    pub(crate) fn adding(&self, text: &str, new: &NewKeyslot) -> Result<(u32, Change), Error> {
        let mut rng = rng(seed(text));
        let (id, _, change) =
            self.header().add_keyslot(&self.key(), &passphrase(text), new, &policy(), &mut rng)?;
        Ok((id, change))
    }

    /// Returns whether the header refuses another keyslot.
    pub(crate) fn adding_fails(&self) -> bool {
        let Ok(new) = self.header().default_keyslot() else { return true };
        self.adding("new", &NewKeyslot { kdf: CHEAP, ..new }).is_err()
    }

    /// Gives keyslot `id` another passphrase; returns the number that it then has.
    pub(crate) fn change(&mut self, id: u32, text: &str) -> u32 {
        let (id, change) = self.changing(id, text).unwrap();
        self.apply(&change);
        id
    }

    pub(crate) fn changing(&self, id: u32, text: &str) -> Result<(u32, Change), Error> {
        let (new, key) = (self.keyslot(), self.key());
        let (text, mut rng) = (passphrase(text), rng(seed(text)));
        let (id, _, change) =
            self.header().change_keyslot(id, &key, &text, &new, &policy(), &mut rng)?;
        Ok((id, change))
    }

    pub(crate) fn remove(&mut self, id: u32) {
        let (_, change) = self.header().remove_keyslot(id, &mut rng(23)).unwrap();
        self.apply(&change);
    }

    pub(crate) fn backup(&self) -> Backup {
        let header = self.header();
        let bytes = self.bytes[..header.backup_len() as usize].to_vec();
        Backup::of_device(&header, bytes).unwrap()
    }

    /// Returns the metadata of the primary copy.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.json_text()).unwrap()
    }

    /// Returns the JSON text of the primary copy.
    pub(crate) fn json_text(&self) -> Vec<u8> {
        let area = &self.bytes[BINARY..self.hdr_size()];
        let end = area.iter().position(|&byte| byte == 0).unwrap();
        area[..end].to_vec()
    }

    /// Edits the metadata in both copies.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut json = self.json();
        edit(&mut json);
        self.put_json(json.to_string().as_bytes());
    }

    /// Replaces the JSON text of both copies.
    pub(crate) fn put_json(&mut self, text: &[u8]) {
        let mut area = vec![0; self.hdr_size() - BINARY];
        area[..text.len()].copy_from_slice(text);
        self.put_json_area(&area);
    }

    /// Replaces the whole JSON area of both copies.
    pub(crate) fn put_json_area(&mut self, area: &[u8]) {
        for start in [0, self.hdr_size()] {
            self.bytes[start + BINARY..][..area.len()].copy_from_slice(area);
        }
        self.sum();
    }

    /// Replaces bytes of the binary header in both copies and sums them up anew.
    pub(crate) fn put_binary(&mut self, offset: usize, bytes: &[u8]) {
        for start in [0, self.hdr_size()] {
            self.bytes[start + offset..][..bytes.len()].copy_from_slice(bytes);
        }
        self.sum();
    }

    /// Replaces bytes of a LUKS1 header or of any place that no checksum covers.
    pub(crate) fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Sets the sequence id of the copy at `start`.
    pub(crate) fn put_seqid(&mut self, start: usize, seqid: u64) {
        self.put(start + 16, &seqid.to_be_bytes());
        sum(&mut self.bytes[start..], HDR_SIZE);
    }

    /// Computes the checksums of both copies anew.
    pub(crate) fn sum(&mut self) {
        let size = self.hdr_size();
        for start in [0, size] {
            sum(&mut self.bytes[start..], size);
        }
    }

    /// The size of a copy, from where the secondary one stands: the field may be damaged.
    pub(crate) fn hdr_size(&self) -> usize {
        (14..=22)
            .map(|shift| 1 << shift)
            .find(|&at| self.bytes.len() > at && self.bytes[at..].starts_with(b"SKUL\xba\xbe"))
            .unwrap_or(HDR_SIZE)
    }

    /// Replaces the digest of the volume key by one that is quick to check.
    pub(crate) fn cheapen_digest(&mut self) {
        let salt = [9; 32];
        if self.bytes[7] == 1 {
            let digest = pbkdf2(&self.key, &salt, 20);
            self.put(112, &digest);
            self.put(132, &salt);
            self.put(164, &1000u32.to_be_bytes());
        } else {
            let digest = pbkdf2(&self.key, &salt, 32);
            self.edit(|json| {
                let object = &mut json["digests"]["0"];
                object["iterations"] = json!(1000);
                object["salt"] = json!(STANDARD.encode(salt));
                object["digest"] = json!(STANDARD.encode(digest));
            });
        }
    }
}

/// Reads the header the way a caller does: more and more of the device until it is enough.
pub(crate) fn found(device: &[u8]) -> Result<Found, Error> {
    let mut len = 4096.min(device.len());
    loop {
        let needed = head_len(&device[..len]).min(device.len());
        if needed <= len {
            return Header::parse(&device[..len], device.len() as u64);
        }
        len = needed;
    }
}

/// Returns whether `text` opens `device`; panics when it opens it to another key than `key`.
pub(crate) fn opens(device: &[u8], text: &str, key: &[u8]) -> bool {
    let Ok(header) = parse(device) else { return false };
    let order = header.keyslots_to_try().unwrap_or_default();
    order.into_iter().any(|id| opens_keyslot(&header, id, device, text, key))
}

/// Opening is a function of few bytes, and the crash tests ask for the same ones again and again.
fn opens_keyslot(header: &Header, id: u32, device: &[u8], text: &str, key: &[u8]) -> bool {
    static KNOWN: Mutex<BTreeMap<u64, bool>> = Mutex::new(BTreeMap::new());
    let range = header.keyslot_area(id).unwrap();
    let Some(area) = device.get(range.start as usize..range.end as usize) else { return false };
    let described = match header {
        Header::Luks1(header) => {
            let names = (&header.cipher_name, &header.cipher_mode, &header.hash_spec);
            let digest = (header.digest, header.digest_salt, header.digest_iterations);
            format!("{:?}{names:?}{digest:?}{}", header.keyslots[id as usize], header.key_bytes)
        }
        Header::Luks2(header) => {
            let metadata = header.metadata();
            format!("{:?}{:?}", metadata.keyslots[&id], metadata.digest_of_keyslot(id))
        }
    };
    let mut hasher = DefaultHasher::new();
    (described, area, text, key).hash(&mut hasher);
    let question = hasher.finish();
    if let Some(&known) = KNOWN.lock().unwrap().get(&question) {
        return known;
    }
    let opened = match header.open_keyslot(id, area, &passphrase(text), &policy()) {
        Ok(found) => {
            assert_eq!(found.expose_bytes(), key, "a wrong key was accepted");
            true
        }
        Err(_) => false,
    };
    KNOWN.lock().unwrap().insert(question, opened);
    opened
}

/// Computes the checksum of the LUKS2 copy of `size` bytes at the start of `copy`.
pub(crate) fn sum(copy: &mut [u8], size: usize) {
    copy[448..512].fill(0);
    let digest = Hash::Sha256.digest(&[&copy[..size]]);
    copy[448..480].copy_from_slice(&digest);
}

/// Returns a seed, so that no two passphrases get the same salt.
fn seed(text: &str) -> u64 {
    text.bytes().fold(21, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte))
}

fn pbkdf2(key: &[u8], salt: &[u8], len: usize) -> Vec<u8> {
    let mut digest = vec![0; len];
    CHEAP.derive(&Passphrase::new(key.to_vec()), salt, &policy(), &mut digest).unwrap();
    digest
}

/// The bytes of one LUKS2 copy with the usual metadata size.
pub(crate) const HDR_SIZE: usize = 16 << 10;

/// The bytes of the binary header.
pub(crate) const BINARY: usize = 4096;

/// The bytes of both copies.
pub(crate) const HEADERS: u64 = 32 << 10;

/// The bytes of a LUKS2 keyslot area for [`short_key`].
pub(crate) const AREA: u64 = 128 << 10;
