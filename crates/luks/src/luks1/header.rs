//! The LUKS1 header (specification, section 3): parsed, checked, written.

use std::ops::Range;

use strongroom_crypto::{CipherSpec, Encryption, Hash, SectorSize};

use super::{HEADER_LEN, KEYSLOTS, SECTOR};
use crate::wire::{array, put, string_at, u32_at};
use crate::{Error, Payload, Version, af, areas, key_material};

/// A LUKS1 header.
///
/// Keyslot areas neither overlap each other nor the header nor the payload; the key's digest has
/// at least one iteration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The cipher's name as it stands in the header.
    pub cipher_name: String,
    /// Mode and IV as they stand in the header.
    pub cipher_mode: String,
    /// The hash's name as it stands in the header, for key derivation, splitter and digest.
    pub hash_spec: String,
    /// Where the encrypted data begins, in sectors of 512 bytes; 0 for a detached header.
    pub payload_offset: u32,
    /// The length of the volume key in bytes.
    pub key_bytes: u32,
    /// PBKDF2 of the volume key.
    pub digest: [u8; 20],
    /// The digest's salt.
    pub digest_salt: [u8; 32],
    /// The digest's iterations.
    pub digest_iterations: u32,
    /// The volume's UUID as it stands in the header.
    pub uuid: String,
    /// The keyslots.
    pub keyslots: [Keyslot; KEYSLOTS],
}

/// A LUKS1 keyslot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyslot {
    /// Whether it holds a key.
    pub active: bool,
    /// PBKDF2 iterations.
    pub iterations: u32,
    /// PBKDF2 salt.
    pub salt: [u8; 32],
    /// Where its area begins, in sectors of 512 bytes.
    pub offset: u32,
    /// Stripes of the splitter.
    pub stripes: u32,
}

impl Header {
    /// Reads a header from the first bytes of a device of `device_len` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] names the rule that is broken.
    pub fn parse(head: &[u8], device_len: u64) -> Result<Self, Error> {
        let header = Self::fields(head)?;
        header.check_fields()?;
        header.check_areas(device_len)?;
        Ok(header)
    }

    /// Reads the fields without judging them: what a repair starts from.
    pub(crate) fn fields(head: &[u8]) -> Result<Self, Error> {
        let mut keyslots = Vec::with_capacity(KEYSLOTS);
        for index in 0..KEYSLOTS {
            keyslots.push(Keyslot::parse(head, index)?);
        }
        let text = |offset, len, field| string_at(head, offset, len, field, Version::Luks1);
        Ok(Self {
            cipher_name: text(CIPHER_NAME, 32, "cipher name")?,
            cipher_mode: text(CIPHER_MODE, 32, "cipher mode")?,
            hash_spec: text(HASH_SPEC, 32, "hash")?,
            payload_offset: u32_at(head, PAYLOAD_OFFSET)?,
            key_bytes: u32_at(head, KEY_BYTES)?,
            digest: array(head, DIGEST)?,
            digest_salt: array(head, DIGEST_SALT)?,
            digest_iterations: u32_at(head, DIGEST_ITERATIONS)?,
            uuid: text(UUID, 40, "UUID")?,
            keyslots: keyslots.try_into().expect("the loop pushes exactly KEYSLOTS"),
        })
    }

    /// Returns the header's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        put(&mut bytes, 0, Version::MAGIC);
        put(&mut bytes, 6, &1u16.to_be_bytes());
        put(&mut bytes, CIPHER_NAME, self.cipher_name.as_bytes());
        put(&mut bytes, CIPHER_MODE, self.cipher_mode.as_bytes());
        put(&mut bytes, HASH_SPEC, self.hash_spec.as_bytes());
        put(&mut bytes, PAYLOAD_OFFSET, &self.payload_offset.to_be_bytes());
        put(&mut bytes, KEY_BYTES, &self.key_bytes.to_be_bytes());
        put(&mut bytes, DIGEST, &self.digest);
        put(&mut bytes, DIGEST_SALT, &self.digest_salt);
        put(&mut bytes, DIGEST_ITERATIONS, &self.digest_iterations.to_be_bytes());
        put(&mut bytes, UUID, self.uuid.as_bytes());
        for (index, keyslot) in self.keyslots.iter().enumerate() {
            keyslot.put(&mut bytes, index);
        }
        bytes
    }

    /// Returns cipher, mode and key size.
    ///
    /// # Errors
    ///
    /// When this house does not have the cipher.
    pub fn encryption(&self) -> Result<Encryption, Error> {
        let spec: CipherSpec = format!("{}-{}", self.cipher_name, self.cipher_mode).parse()?;
        Ok(spec.with_key_bits(self.key_bytes as usize * 8)?)
    }

    /// Returns the hash.
    ///
    /// # Errors
    ///
    /// When this house does not have it.
    pub fn hash(&self) -> Result<Hash, Error> {
        Ok(self.hash_spec.parse()?)
    }

    /// Returns where the data lies on a data device of `data_len` bytes.
    ///
    /// # Errors
    ///
    /// When the device ends before the data begins, or inside a sector.
    pub fn payload(&self, data_len: u64) -> Result<Payload, Error> {
        let offset = u64::from(self.payload_offset) * SECTOR;
        let length = data_len.checked_sub(offset).ok_or(Error::Truncated {
            what: "the encrypted data",
            needed: offset,
            available: data_len,
        })?;
        if length % SECTOR != 0 {
            return Err(Error::invalid(
                Version::Luks1,
                "payload",
                format!("{length} bytes are not whole sectors of 512: the image may be cut short"),
            ));
        }
        Ok(Payload {
            offset,
            length,
            encryption: self.encryption()?,
            sector_size: SectorSize::B512,
            iv_tweak: 0,
        })
    }

    /// Returns the range of a keyslot's area in bytes.
    pub(crate) fn area(&self, keyslot: &Keyslot) -> Range<u64> {
        let start = u64::from(keyslot.offset) * SECTOR;
        start..start + self.area_len()
    }

    /// Returns the bytes of key material in an area.
    pub(crate) fn area_len(&self) -> u64 {
        key_material::sealed_len(self.key_bytes as usize) as u64
    }

    fn check_fields(&self) -> Result<(), Error> {
        let invalid =
            |part: &str, problem: &str| Err(Error::invalid(Version::Luks1, part, problem));
        if self.cipher_name == "cipher_null" {
            return invalid("cipher", "the null cipher does not encrypt");
        }
        if self.cipher_name.is_empty() || self.cipher_mode.is_empty() {
            return invalid("cipher", "name or mode is empty");
        }
        if self.cipher_name.starts_with("capi:") {
            return invalid("cipher", "LUKS1 has no kernel cipher names");
        }
        if !(8..=MAX_KEY_BYTES).contains(&self.key_bytes) {
            return invalid("key size", &format!("{} bytes are not a key", self.key_bytes));
        }
        if self.digest_iterations == 0 {
            return invalid("digest", "has no iterations");
        }
        if let Ok(hash) = self.hash()
            && hash.digest_len() < 20
        {
            return invalid("hash", "is shorter than the digest");
        }
        Ok(())
    }

    fn check_areas(&self, device_len: u64) -> Result<(), Error> {
        let payload = match u64::from(self.payload_offset) * SECTOR {
            0 => u64::MAX,
            payload => payload,
        };
        let mut earlier: Vec<Range<u64>> = Vec::with_capacity(KEYSLOTS);
        for (index, keyslot) in self.keyslots.iter().enumerate() {
            let invalid = |problem: &str| {
                Err(Error::invalid(Version::Luks1, format!("keyslot {index}"), problem))
            };
            let area = self.area(keyslot);
            if keyslot.stripes != af::STRIPES {
                return invalid("does not have 4000 stripes");
            }
            if keyslot.active && keyslot.iterations == 0 {
                return invalid("has no iterations");
            }
            if area.start < HEADER_LEN as u64 {
                return invalid("its area lies inside the header");
            }
            if area.end > payload {
                return invalid("its area reaches into the encrypted data");
            }
            if earlier.iter().any(|other| areas::overlap(&area, other)) {
                return invalid("its area overlaps that of another keyslot");
            }
            // Inactive ones too: a backup holds all areas, and a key may come to lie in any.
            if area.end > device_len {
                return invalid("its area reaches past the end of the device");
            }
            if area.end > MAX_AREAS_END {
                return invalid("its area lies beyond the first 128 MiB");
            }
            earlier.push(area);
        }
        Ok(())
    }
}

impl Keyslot {
    fn parse(head: &[u8], index: usize) -> Result<Self, Error> {
        let start = FIRST_KEYSLOT + index * KEYSLOT_LEN;
        let state = u32_at(head, start)?;
        let active = match state {
            ACTIVE => true,
            INACTIVE | OLD_INACTIVE => false,
            _ => {
                return Err(Error::invalid(
                    Version::Luks1,
                    format!("keyslot {index}"),
                    format!("is neither active nor inactive but {state:#010x}"),
                ));
            }
        };
        Ok(Self {
            active,
            iterations: u32_at(head, start + 4)?,
            salt: array(head, start + 8)?,
            offset: u32_at(head, start + 40)?,
            stripes: u32_at(head, start + 44)?,
        })
    }

    fn put(&self, bytes: &mut [u8], index: usize) {
        let start = FIRST_KEYSLOT + index * KEYSLOT_LEN;
        let state = if self.active { ACTIVE } else { INACTIVE };
        put(bytes, start, &state.to_be_bytes());
        put(bytes, start + 4, &self.iterations.to_be_bytes());
        put(bytes, start + 8, &self.salt);
        put(bytes, start + 40, &self.offset.to_be_bytes());
        put(bytes, start + 44, &self.stripes.to_be_bytes());
    }
}

// Offsets of the fields in the header.
const CIPHER_NAME: usize = 8;
const CIPHER_MODE: usize = 40;
const HASH_SPEC: usize = 72;
const PAYLOAD_OFFSET: usize = 104;
const KEY_BYTES: usize = 108;
const DIGEST: usize = 112;
const DIGEST_SALT: usize = 132;
const DIGEST_ITERATIONS: usize = 164;
const UUID: usize = 168;
const FIRST_KEYSLOT: usize = 208;
const KEYSLOT_LEN: usize = 48;

const ACTIVE: u32 = 0x00AC_71F3;
const INACTIVE: u32 = 0x0000_DEAD;
/// What early versions of cryptsetup wrote. Their word for active, 0xCAFE, is not known here: such
/// a keyslot must neither be opened nor be taken for a free one.
const OLD_INACTIVE: u32 = 0;

/// The longest volume key, that of XTS with two 256-bit keys; more only wastes memory.
const MAX_KEY_BYTES: u32 = 512;

/// Where the last area must end, in bytes: what LUKS2 allows, and eight times what any tool lays
/// out. It bounds what a hostile header can have read into a backup.
const MAX_AREAS_END: u64 = 128 << 20;

/// What areas and payload are aligned to, in bytes.
pub(crate) const ALIGNMENT: u64 = 4096;
