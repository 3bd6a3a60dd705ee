//! Changes of the metadata: edited as a document, checked, written to both copies.

use rand_core::CryptoRng;

use super::binary::{Copy, MAX_LABEL};
use super::document::Document;
use super::read::Damage;
use super::{Header, keyslot_area_len};
use crate::{Change, Error, Version};

impl Header {
    /// Returns the header with its document changed by `edit`, under the next sequence id.
    ///
    /// # Errors
    ///
    /// When the result breaks a rule, or the volume has a requirement that is unknown here.
    pub(crate) fn edited(&self, edit: impl FnOnce(&mut Document)) -> Result<Self, Error> {
        self.refuse_unknown_requirements()?;
        let mut document = self.document.clone();
        edit(&mut document);
        let mut binary = self.binary.clone();
        binary.seqid = next_sequence_id(binary.seqid)?;
        Self::new(binary, document)
    }

    /// Returns the header with another label and subsystem; `None` keeps one.
    ///
    /// # Errors
    ///
    /// When one of them is longer than its field.
    pub(crate) fn labelled(
        &self,
        label: Option<&str>,
        subsystem: Option<&str>,
    ) -> Result<Self, Error> {
        let mut header = self.edited(|_| {})?;
        for (field, text, name) in [
            (&mut header.binary.label, label, "label"),
            (&mut header.binary.subsystem, subsystem, "subsystem"),
        ] {
            if let Some(text) = text {
                check_label(text, name)?;
                text.clone_into(field);
            }
        }
        Ok(header)
    }

    /// Sets the sequence id, where a header takes the place of one with a larger id.
    pub(crate) fn set_sequence_id(&mut self, seqid: u64) {
        self.binary.seqid = seqid;
    }

    /// Adds both copies to a change, the second one once the first is durable.
    pub(crate) fn write(&self, change: &mut Change) {
        let json = self.document.to_text();
        change.write(0, self.binary.to_bytes(json.as_bytes(), Copy::Primary));
        change.flush();
        let secondary = self.binary.to_bytes(json.as_bytes(), Copy::Secondary);
        change.write(self.binary.hdr_size, secondary);
        change.flush();
    }

    /// Returns the header under a new salt for the damaged copy, and the change that writes it.
    pub(crate) fn recover(&self, damage: &Damage, rng: &mut dyn CryptoRng) -> (Self, Change) {
        let mut header = self.clone();
        let [primary, secondary] = &mut header.binary.salts;
        let (salt, offset) = match damage.copy {
            Copy::Primary => (primary, 0),
            Copy::Secondary => (secondary, header.binary.hdr_size),
        };
        rng.fill_bytes(salt);
        let mut change = Change::default();
        let json = header.document.to_text();
        change.write(offset, header.binary.to_bytes(json.as_bytes(), damage.copy));
        change.flush();
        (header, change)
    }

    /// Adds random bytes over an area to a change.
    pub(crate) fn wipe(change: &mut Change, range: std::ops::Range<u64>, rng: &mut dyn CryptoRng) {
        let len = usize::try_from(range.end - range.start).expect("areas are at most 128 MiB");
        let mut noise = vec![0; len];
        rng.fill_bytes(&mut noise);
        change.write(range.start, noise);
        change.flush();
    }

    /// Returns the offset of a free area for a key of `key_len` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`].
    pub(crate) fn free_area(
        &self,
        key_len: usize,
        also_taken: &[std::ops::Range<u64>],
    ) -> Result<u64, Error> {
        let needed = keyslot_area_len(key_len);
        let taken = self
            .metadata
            .keyslots
            .values()
            .map(|keyslot| keyslot.area.range())
            .chain(also_taken.iter().cloned());
        crate::areas::first_gap(
            self.headers_len()..self.total_len(),
            taken,
            needed,
            super::ALIGNMENT,
        )
        .ok_or(Error::NoRoom { needed })
    }
}

/// Returns the sequence id of the header that follows the one with `seqid`.
///
/// # Errors
///
/// When there is none: counting up from 1 does not get there, so the header was tampered with.
pub(crate) fn next_sequence_id(seqid: u64) -> Result<u64, Error> {
    seqid
        .checked_add(1)
        .ok_or_else(|| Error::invalid(Version::Luks2, "sequence id", "is the largest there is"))
}

/// Checks that a label fits its field.
pub(super) fn check_label(text: &str, name: &str) -> Result<(), Error> {
    if text.len() > MAX_LABEL {
        return Err(Error::unfit(
            Version::Luks2,
            format!("the {name} has {} bytes, {MAX_LABEL} fit", text.len()),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::unfit(Version::Luks2, format!("the {name} has control characters")));
    }
    Ok(())
}
