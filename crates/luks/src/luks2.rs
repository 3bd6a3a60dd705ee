//! LUKS2 (LUKS2 On-Disk Format Specification 1.1.1).

mod binary;
mod digests;
mod document;
mod format;
mod keyslots;
mod metadata;
mod parse;
mod read;
mod segments;
mod token_keyslots;
mod tokens;
mod validate;
mod write;

pub use binary::BinaryHeader;
pub use metadata::{
    Area, AreaKind, Config, Digest, DigestKind, Kdf, Keyslot, KeyslotKind, Luks2Keyslot, Metadata,
    Priority, Segment, SegmentKind, SegmentLength, Token,
};
pub use token_keyslots::AddedKeyslot;

pub(crate) use binary::{Copy, LAST_SECONDARY, MIN_LEN, is_secondary, secondary_places};
pub(crate) use document::{Document, ParsedDocument};
pub(crate) use format::format;
pub(crate) use keyslots::kdf_object;
pub(crate) use metadata::keyslot_area_len;
pub(crate) use read::{Damage, GPT_MAGIC, foreign_signature, head_len, overwritten, read};
pub(crate) use write::next_sequence_id;

/// Bytes of a keyslots area that may not be exceeded.
pub(crate) const MAX_KEYSLOTS_AREA: u64 = 128 << 20;

/// What areas are aligned to, in bytes.
pub(crate) const ALIGNMENT: u64 = 4096;

/// A LUKS2 header: both copies hold the same of it, but for salt and checksum.
///
/// The metadata keeps every rule of the specification; what it holds beyond it is kept verbatim.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    binary: BinaryHeader,
    document: Document,
    metadata: Metadata,
}

impl Header {
    /// Returns the fields of the binary header.
    pub fn binary(&self) -> &BinaryHeader {
        &self.binary
    }

    /// Returns the metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the JSON text as it stands on the device.
    pub fn json(&self) -> String {
        self.document.to_text()
    }

    /// Returns the bytes that both copies of header and metadata take.
    pub(crate) fn headers_len(&self) -> u64 {
        2 * self.binary.hdr_size
    }

    /// Returns the bytes up to the end of the keyslots area: what a header backup holds.
    pub(crate) fn total_len(&self) -> u64 {
        self.headers_len() + self.metadata.config.keyslots_size
    }

    /// Returns a header of these fields and metadata.
    ///
    /// # Errors
    ///
    /// When the metadata break a rule or do not fit their area.
    pub(crate) fn new(binary: BinaryHeader, document: Document) -> Result<Self, crate::Error> {
        let metadata = parse::metadata(&document)?;
        validate::validate(&metadata, &binary, &document)?;
        Ok(Self { binary, document, metadata })
    }
}
