//! Segments and requirements: whether the data can be opened, and where it lies.

use strongroom_crypto::{CipherSpec, SectorSize};

use super::Header;
use super::metadata::{KeyslotKind, SegmentKind, SegmentLength};
use crate::{Error, Payload, Version};

impl Header {
    /// Returns where the data lies on a data device of `data_len` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Requirement`], [`Error::Reencryption`], [`Error::Integrity`] and
    /// [`Error::Segment`] when it cannot be opened here.
    pub(crate) fn payload(&self, data_len: u64) -> Result<Payload, Error> {
        self.refuse_reencryption()?;
        self.refuse_unknown_requirements()?;
        let unusable = |problem: String| Error::Segment { id: 0, problem };
        let segment = self.metadata.segments.get(&0).expect("validation demands segment 0");
        if self.metadata.segments.len() != 1 {
            return Err(unusable("the volume has more than one segment".to_owned()));
        }
        let (iv_tweak, encryption, sector_size) = match &segment.kind {
            SegmentKind::Crypt { integrity: Some(kind), .. } => {
                return Err(Error::Integrity { kind: kind.clone() });
            }
            SegmentKind::Crypt { iv_tweak, encryption, sector_size, integrity: None } => {
                (*iv_tweak, encryption, *sector_size)
            }
            SegmentKind::Linear => return Err(unusable("it is not encrypted".to_owned())),
            SegmentKind::Unknown { kind } => {
                return Err(unusable(format!("it is of type {kind:?}, which is not supported")));
            }
        };
        let available = data_len.checked_sub(segment.offset).ok_or(Error::Truncated {
            what: "the encrypted data",
            needed: segment.offset,
            available: data_len,
        })?;
        let length = match segment.length {
            SegmentLength::Dynamic => available,
            SegmentLength::Bytes(bytes) if bytes <= available => bytes,
            SegmentLength::Bytes(bytes) => {
                return Err(Error::Truncated {
                    what: "the encrypted data",
                    needed: segment.offset.saturating_add(bytes),
                    available: data_len,
                });
            }
        };
        if !length.is_multiple_of(u64::from(sector_size)) {
            return Err(unusable(format!(
                "{length} bytes are not whole sectors of {sector_size}: the image may be cut short"
            )));
        }
        let spec: CipherSpec = encryption.parse()?;
        Ok(Payload {
            offset: segment.offset,
            length,
            encryption: spec.with_key_bits(self.volume_key_len()? * 8)?,
            sector_size: SectorSize::from_bytes(u64::from(sector_size))
                .expect("validation allows the sizes that exist"),
            iv_tweak,
        })
    }

    /// Returns the length of the volume key in bytes.
    fn volume_key_len(&self) -> Result<usize, Error> {
        let (_, digest) = self
            .metadata
            .digest_of_segment(0)
            .ok_or_else(|| Error::invalid(Version::Luks2, "segment 0", "is bound to no digest"))?;
        digest
            .keyslots
            .iter()
            .find_map(|id| self.metadata.keyslots.get(id))
            .map(|keyslot| keyslot.key_size as usize)
            .ok_or(Error::NoKeyslots)
    }

    /// Refuses to go on when a mandatory requirement is unknown: nothing may then be changed.
    pub(crate) fn refuse_unknown_requirements(&self) -> Result<(), Error> {
        match self.metadata.config.requirements.first() {
            Some(name) => Err(Error::Requirement { name: name.clone() }),
            None => Ok(()),
        }
    }

    fn refuse_reencryption(&self) -> Result<(), Error> {
        let required =
            self.metadata.config.requirements.iter().any(|name| name.contains("reencrypt"));
        let keyslot = self
            .metadata
            .keyslots
            .values()
            .any(|keyslot| matches!(keyslot.kind, KeyslotKind::Reencrypt { .. }));
        if required || keyslot { Err(Error::Reencryption) } else { Ok(()) }
    }
}
