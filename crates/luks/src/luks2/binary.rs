//! The binary header of each copy (specification, section 2.1).

use strongroom_crypto::Hash;

use crate::wire::{array, put, string_at, u16_at, u64_at};
use crate::{Error, Version};

/// The fields of a LUKS2 binary header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryHeader {
    /// Bytes of one copy: binary header and JSON area.
    pub hdr_size: u64,
    /// Goes up with every change of the metadata.
    pub seqid: u64,
    /// The volume's label, empty when it has none.
    pub label: String,
    /// The checksum's hash.
    pub checksum_hash: Hash,
    /// The salts of the primary and the secondary copy.
    pub salts: [[u8; SALT_LEN]; 2],
    /// The volume's UUID.
    pub uuid: String,
    /// A second label, empty when there is none.
    pub subsystem: String,
}

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    /// At the start of the device.
    Primary,
    /// Right behind the first.
    Secondary,
}

impl Copy {
    /// Returns the copy's magic.
    pub(crate) fn magic(self) -> &'static [u8; 6] {
        match self {
            Self::Primary => Version::MAGIC,
            Self::Secondary => b"SKUL\xba\xbe",
        }
    }

    fn salt(self, header: &BinaryHeader) -> &[u8; SALT_LEN] {
        let [primary, secondary] = &header.salts;
        match self {
            Self::Primary => primary,
            Self::Secondary => secondary,
        }
    }
}

impl BinaryHeader {
    /// Reads the copy in `bytes`, which lies at `offset` of the device. Returns it with the text
    /// of its JSON area; both salts are the copy's own.
    ///
    /// # Errors
    ///
    /// [`Error::NotLuks`] without the magic, [`Error::UnknownVersion`], [`Error::Invalid`] for a
    /// wrong checksum and whatever else is wrong.
    pub(crate) fn read(bytes: &[u8], offset: u64, copy: Copy) -> Result<(Self, &[u8]), Error> {
        if bytes.get(..6) != Some(copy.magic()) {
            return Err(Error::NotLuks);
        }
        let version = u16_at(bytes, 6)?;
        if version != 2 {
            return Err(Error::UnknownVersion { version });
        }
        let invalid = |part, problem: String| Err(Error::invalid(Version::Luks2, part, problem));
        let hdr_size = u64_at(bytes, HDR_SIZE)?;
        if !HEADER_SIZES.contains(&hdr_size) {
            return invalid("header size", format!("{hdr_size} is none that exists"));
        }
        let hdr_offset = u64_at(bytes, HDR_OFFSET)?;
        if hdr_offset != offset {
            return invalid(
                "header offset",
                format!("is {hdr_offset}, the header lies at {offset}"),
            );
        }
        if copy == Copy::Secondary && hdr_size != offset {
            return invalid("header size", format!("is {hdr_size}, the primary's is {offset}"));
        }
        let text = |offset, len, field| string_at(bytes, offset, len, field, Version::Luks2);
        let checksum_hash: Hash = text(CHECKSUM_HASH, 32, "checksum hash")?.parse()?;
        let area = bytes.get(..hdr_size as usize).ok_or(Error::Truncated {
            what: "the metadata",
            needed: offset + hdr_size,
            available: offset + bytes.len() as u64,
        })?;
        let stored: [u8; CHECKSUM_LEN] = array(area, CHECKSUM)?;
        if stored != checksum(area, checksum_hash) {
            return invalid("checksum", "does not match the contents".to_owned());
        }
        let salt = array(area, SALT)?;
        let header = Self {
            hdr_size,
            seqid: u64_at(area, SEQID)?,
            label: text(LABEL, 48, "label")?,
            checksum_hash,
            salts: [salt, salt],
            uuid: text(UUID, 40, "UUID")?,
            subsystem: text(SUBSYSTEM, 48, "subsystem")?,
        };
        Ok((header, area.split_at(MIN_LEN).1))
    }

    /// Returns the bytes of a copy that holds `json`, which fits.
    pub(crate) fn to_bytes(&self, json: &[u8], copy: Copy) -> Vec<u8> {
        let offset = match copy {
            Copy::Primary => 0,
            Copy::Secondary => self.hdr_size,
        };
        let mut bytes = vec![0; self.hdr_size as usize];
        put(&mut bytes, 0, copy.magic());
        put(&mut bytes, 6, &2u16.to_be_bytes());
        put(&mut bytes, HDR_SIZE, &self.hdr_size.to_be_bytes());
        put(&mut bytes, SEQID, &self.seqid.to_be_bytes());
        put(&mut bytes, LABEL, self.label.as_bytes());
        put(&mut bytes, CHECKSUM_HASH, self.checksum_hash.name().as_bytes());
        put(&mut bytes, SALT, copy.salt(self));
        put(&mut bytes, UUID, self.uuid.as_bytes());
        put(&mut bytes, SUBSYSTEM, self.subsystem.as_bytes());
        put(&mut bytes, HDR_OFFSET, &offset.to_be_bytes());
        put(&mut bytes, MIN_LEN, json);
        let checksum = checksum(&bytes, self.checksum_hash);
        put(&mut bytes, CHECKSUM, &checksum);
        bytes
    }

    /// Returns the room for JSON text in bytes; the text ends with a NUL inside it.
    pub(crate) fn json_area_len(&self) -> u64 {
        self.hdr_size - MIN_LEN as u64
    }
}

/// Returns every offset at which a secondary copy may lie.
pub(crate) fn secondary_places() -> impl Iterator<Item = u64> {
    HEADER_SIZES.into_iter()
}

/// Returns whether `bytes` begin as a secondary copy does.
pub(crate) fn is_secondary(bytes: &[u8]) -> bool {
    bytes.starts_with(Copy::Secondary.magic())
}

/// Returns the checksum of a copy, its own field counting as zeros.
fn checksum(area: &[u8], hash: Hash) -> [u8; CHECKSUM_LEN] {
    let (before, rest) = area.split_at(CHECKSUM.min(area.len()));
    let after = rest.get(CHECKSUM_LEN..).unwrap_or_default();
    let digest = hash.digest(&[before, &[0; CHECKSUM_LEN], after]);
    let mut checksum = [0; CHECKSUM_LEN];
    for (out, byte) in checksum.iter_mut().zip(digest) {
        *out = byte;
    }
    checksum
}

/// The sizes that one copy may have, in bytes.
pub(crate) const HEADER_SIZES: [u64; 9] =
    [16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20];

/// The last offset at which a secondary copy may lie.
pub(crate) const LAST_SECONDARY: u64 = 4 << 20;

/// The length of the binary header in bytes.
pub(crate) const MIN_LEN: usize = 4096;

/// The longest text that fits label and subsystem, in bytes.
pub(crate) const MAX_LABEL: usize = 47;

const SALT_LEN: usize = 64;
const CHECKSUM_LEN: usize = 64;

// Offsets of the fields in the header.
pub(crate) const HDR_SIZE: usize = 8;
const SEQID: usize = 16;
const LABEL: usize = 24;
const CHECKSUM_HASH: usize = 72;
const SALT: usize = 104;
const UUID: usize = 168;
const SUBSYSTEM: usize = 208;
const HDR_OFFSET: usize = 256;
const CHECKSUM: usize = 448;
