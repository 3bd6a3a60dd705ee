//! Header backups: made, checked, restored.

use std::ops::Range;

use rand_core::CryptoRng;
use serde_json::Value;

use crate::luks1::SECTOR;
use crate::{Change, Error, Found, Header, areas, luks1, luks2};

/// A header with its key material, as it is kept in a file.
#[derive(Debug)]
pub struct Backup {
    header: Header,
    bytes: Vec<u8>,
}

/// Whether a backup must be of the very volume that it is restored to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreCheck {
    /// The device's header has the same UUID and layout.
    SameVolume,
    /// Anything that is there may be overwritten, but for a valid header whose data lies elsewhere.
    Overwrite,
}

impl Header {
    /// Returns how many bytes from the start of the device a backup holds.
    pub fn backup_len(&self) -> u64 {
        match self {
            Self::Luks1(header) => header
                .keyslots
                .iter()
                .map(|keyslot| header.area(keyslot).end)
                .max()
                .unwrap_or(0)
                .next_multiple_of(luks1::ALIGNMENT),
            Self::Luks2(header) => header.total_len(),
        }
    }

    /// Returns whether the data lies on another device than the header.
    pub fn is_detached(&self) -> bool {
        self.data_offset() == 0
    }

    fn areas(&self) -> Vec<(u32, Range<u64>)> {
        self.keyslots()
            .iter()
            .filter_map(|keyslot| Some((keyslot.id, self.whole_area(keyslot.id).ok()?)))
            .collect()
    }

    fn data_offset(&self) -> u64 {
        match self {
            Self::Luks1(header) => u64::from(header.payload_offset) * SECTOR,
            Self::Luks2(header) => {
                header.metadata().segments.values().map(|segment| segment.offset).min().unwrap_or(0)
            }
        }
    }
}

impl Backup {
    /// Returns a backup of `header`; `bytes` are the first [`Header::backup_len`] of its device.
    ///
    /// A copy of the header that is damaged there is whole in the backup.
    ///
    /// # Errors
    ///
    /// When there are fewer bytes.
    pub fn of_device(header: &Header, mut bytes: Vec<u8>) -> Result<Self, Error> {
        let needed = header.backup_len();
        if (bytes.len() as u64) < needed {
            return Err(Error::Truncated {
                what: "the header with its keyslots",
                needed,
                available: bytes.len() as u64,
            });
        }
        bytes.truncate(needed as usize);
        if let (Header::Luks1(_), Some(unused)) = (header, bytes.get_mut(1024..4096)) {
            unused.fill(0);
        }
        let whole = Header::parse(&bytes, needed)
            .is_ok_and(|found| found.recovery.is_none() && found.header == *header);
        if !whole {
            let mut change = Change::default();
            header.write_to(&mut change);
            change.apply_to(&mut bytes);
        }
        Ok(Self { header: header.clone(), bytes })
    }

    /// Reads a backup from a file's bytes.
    ///
    /// # Errors
    ///
    /// When they are not a whole, undamaged header.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Error> {
        let found = Header::parse(&bytes, bytes.len() as u64)?;
        if let Some(recovery) = found.recovery {
            return Err(Error::Backup {
                problem: format!("its {} copy is damaged: {}", recovery.copy(), recovery.reason()),
            });
        }
        if let Header::Luks2(header) = &found.header {
            header.refuse_unknown_requirements()?;
        }
        Self::of_device(&found.header, bytes)
    }

    /// Returns the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the bytes for the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how many bytes from the start of a device [`Backup::restore`] should see: the
    /// header and every place where a copy of an earlier one may be left.
    pub fn restore_head_len(&self) -> usize {
        self.bytes.len().max(luks2::LAST_SECONDARY as usize + SECTOR as usize)
    }

    /// Returns the change that restores the backup.
    ///
    /// `current` is the device's header, where it has a valid one; `head` are the device's first
    /// [`Backup::restore_head_len`] bytes, at least as many as the backup has. A damaged copy of
    /// the current header is written anew first. Keyslots of the backup whose place is taken by
    /// other keys are first restored to free places, so that at every moment either all old or
    /// all restored keys open the volume.
    ///
    /// With [`RestoreCheck::Overwrite`] what is there counts for nothing, and an interrupted
    /// restore must be begun again. The whole backup is written; copies and key material of other
    /// headers are wiped, whatever lies before the data.
    ///
    /// # Errors
    ///
    /// [`Error::Backup`] when it is of another volume or another layout, [`Error::NoRoom`] when
    /// there is no free place.
    pub fn restore(
        &self,
        current: Option<&Found>,
        head: &[u8],
        check: RestoreCheck,
        rng: &mut dyn CryptoRng,
    ) -> Result<Change, Error> {
        match (current, check) {
            (current, RestoreCheck::Overwrite) => {
                self.overwrite(current.map(|found| &found.header), head, rng)
            }
            (None, RestoreCheck::SameVolume) => Err(Error::Backup {
                problem: "the device has no valid LUKS header of its own".to_owned(),
            }),
            (Some(current), RestoreCheck::SameVolume) => {
                self.refuse_other_volume(&current.header)?;
                // One torn write must not find the other copy damaged already.
                let (header, mut change) = match &current.recovery {
                    Some(recovery) => current.header.recover(recovery, rng),
                    None => (current.header.clone(), Change::default()),
                };
                change.append(self.replace(&header, head, rng)?);
                Ok(change)
            }
        }
    }

    /// Returns the change that puts the backup in the place of the same volume's header.
    fn replace(
        &self,
        current: &Header,
        head: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<Change, Error> {
        if let (Header::Luks1(backup), Header::Luks1(current)) = (&self.header, current) {
            return luks1::restore(backup, &self.bytes, current, head, rng);
        }
        let in_use = current.areas();
        let mut change = Change::default();
        let places = self.places(&in_use, head)?;
        for (_, range, place) in &places {
            change.write(place.unwrap_or(range.start), self.slice(range).to_vec());
        }
        change.flush();
        let seqid = self.sequence_id_after(Some(current))?;
        let moved: Vec<_> =
            places.iter().filter_map(|(id, _, place)| Some((*id, (*place)?))).collect();
        if !moved.is_empty() {
            self.header_with(&moved, seqid)?.write_to(&mut change);
            for (_, range, _) in places.iter().filter(|(_, _, place)| place.is_some()) {
                change.write(range.start, self.slice(range).to_vec());
            }
            change.flush();
        }
        let last = seqid.map(luks2::next_sequence_id).transpose()?;
        self.header_with(&[], last)?.write_to(&mut change);
        self.wipe_leftovers(&in_use, &places, rng, &mut change);
        Ok(change)
    }

    /// Returns the change that puts the backup over whatever is there.
    fn overwrite(
        &self,
        current: Option<&Header>,
        head: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<Change, Error> {
        if let Some(current) = current {
            self.refuse_other_layout(current)?;
        }
        let headers_end = match &self.header {
            Header::Luks1(_) => luks1::HEADER_LEN as u64,
            Header::Luks2(header) => header.headers_len(),
        };
        // What is rounded up to whole pages may reach into the data.
        let data = Some(self.header.data_offset()).filter(|offset| *offset > 0);
        let end = data.unwrap_or(u64::MAX).min(self.bytes.len() as u64);
        let mut areas = self.slice(&(headers_end..end)).to_vec();
        let mut change = Change::default();
        for offset in luks2::secondary_places().filter(|offset| *offset >= headers_end) {
            if self.header.areas().iter().any(|(_, area)| area.contains(&offset)) {
                continue;
            }
            if offset < end {
                let at = areas.get_mut((offset - headers_end) as usize..).unwrap_or_default();
                if luks2::is_secondary(at) {
                    at.iter_mut().take(SECTOR as usize).for_each(|byte| *byte = 0);
                }
            } else if data.is_some_and(|data| offset + SECTOR <= data)
                && head.get(offset as usize..).is_some_and(luks2::is_secondary)
            {
                change.write(offset, vec![0; SECTOR as usize]);
            }
        }
        change.write(headers_end, areas);
        for (_, area) in current.map(Header::areas).unwrap_or_default() {
            let left = area.start.max(end)..area.end.min(data.unwrap_or(u64::MAX));
            if !left.is_empty() {
                luks2::Header::wipe(&mut change, left, rng);
            }
        }
        change.flush();
        self.header_with(&[], self.sequence_id_after(current)?)?.write_to(&mut change);
        Ok(change)
    }

    /// Refuses what would make the data unreadable even though anything may be overwritten.
    fn refuse_other_layout(&self, current: &Header) -> Result<(), Error> {
        let same_size = match (&self.header, current) {
            (Header::Luks1(own), Header::Luks1(current)) => own.key_bytes == current.key_bytes,
            (Header::Luks2(own), Header::Luks2(current)) => own.total_len() == current.total_len(),
            _ => true,
        };
        if self.header.data_offset() != current.data_offset() {
            return Err(Error::Backup {
                problem: format!(
                    "its data begins at byte {}, that of the device at byte {}",
                    self.header.data_offset(),
                    current.data_offset()
                ),
            });
        }
        if !same_size {
            return Err(Error::Backup {
                problem: "the headers have different sizes, or keys of different lengths"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// Returns each keyslot of the backup that must be written, with the free place that it goes
    /// to first where its own is taken.
    #[allow(clippy::type_complexity, reason = "a private list of keyslot, range and place")]
    fn places(
        &self,
        in_use: &[(u32, Range<u64>)],
        head: &[u8],
    ) -> Result<Vec<(u32, Range<u64>, Option<u64>)>, Error> {
        let mut taken: Vec<Range<u64>> = in_use
            .iter()
            .map(|(_, range)| range.clone())
            .chain(self.header.areas().into_iter().map(|(_, range)| range))
            .collect();
        let mut places = Vec::new();
        for (id, range) in self.header.areas() {
            let there = head.get(range.start as usize..range.end as usize);
            if there == Some(self.slice(&range)) {
                continue;
            }
            let conflict = in_use.iter().any(|(_, other)| areas::overlap(&range, other));
            let place = if conflict {
                let needed = range.end - range.start;
                let place =
                    areas::first_gap(self.room(), taken.iter().cloned(), needed, luks2::ALIGNMENT)
                        .ok_or(Error::NoRoom { needed })?;
                taken.push(place..place + needed);
                Some(place)
            } else {
                None
            };
            places.push((id, range, place));
        }
        Ok(places)
    }

    /// Returns the room in which key material may lie for a while.
    fn room(&self) -> Range<u64> {
        match &self.header {
            Header::Luks1(_) => 0..0,
            Header::Luks2(header) => header.headers_len()..header.total_len(),
        }
    }

    /// Wipes the temporary places, and material of keyslots that the backup does not have.
    fn wipe_leftovers(
        &self,
        in_use: &[(u32, Range<u64>)],
        places: &[(u32, Range<u64>, Option<u64>)],
        rng: &mut dyn CryptoRng,
        change: &mut Change,
    ) {
        let restored = self.header.areas();
        let kept =
            |range: &Range<u64>| restored.iter().any(|(_, area)| areas::overlap(area, range));
        let temporary = places
            .iter()
            .filter_map(|(_, range, place)| place.map(|at| at..at + (range.end - range.start)));
        let abandoned = in_use.iter().map(|(_, range)| range.clone()).filter(|range| !kept(range));
        for range in temporary.chain(abandoned) {
            luks2::Header::wipe(change, range, rng);
        }
    }

    fn refuse_other_volume(&self, current: &Header) -> Result<(), Error> {
        let differs = |problem: String| Err(Error::Backup { problem });
        if self.header.version() != current.version() {
            return differs(format!(
                "it is {}, the device is {}",
                self.header.version(),
                current.version()
            ));
        }
        if self.header.uuid() != current.uuid() {
            return differs(format!(
                "it is of volume {}, the device is volume {}",
                self.header.uuid(),
                current.uuid()
            ));
        }
        if self.header.data_offset() != current.data_offset() {
            return differs("the data begins elsewhere".to_owned());
        }
        if self.bytes.len() as u64 != current.backup_len() {
            return differs("the headers have different sizes".to_owned());
        }
        if let (Header::Luks2(own), Header::Luks2(current)) = (&self.header, current) {
            current.refuse_unknown_requirements()?;
            if own.headers_len() != current.headers_len() {
                return differs("the headers have different sizes".to_owned());
            }
            // The names of keyslots in it differ as they come and go; the key's digest does not.
            let key = |header: &luks2::Header| {
                header.metadata().digest_of_segment(0).map(|(_, digest)| digest.kind.clone())
            };
            if key(own) != key(current) {
                return differs(
                    "it holds another volume key: the device was re-encrypted since".to_owned(),
                );
            }
        }
        Ok(())
    }

    fn sequence_id_after(&self, current: Option<&Header>) -> Result<Option<u64>, Error> {
        let current = current.and_then(Header::sequence_id).unwrap_or(0);
        let own = self.header.sequence_id();
        own.map(|own| luks2::next_sequence_id(own.max(current))).transpose()
    }

    /// Returns the backup's header with some keyslots elsewhere, under a sequence id.
    fn header_with(&self, moved: &[(u32, u64)], seqid: Option<u64>) -> Result<Header, Error> {
        match &self.header {
            Header::Luks1(header) => Ok(Header::Luks1(header.clone())),
            Header::Luks2(header) => {
                let mut header = header.edited(|document| {
                    for (id, offset) in moved {
                        let keyslot = document.section("keyslots").get_mut(&id.to_string());
                        if let Some(area) = keyslot.and_then(|keyslot| keyslot.get_mut("area")) {
                            area["offset"] = Value::String(offset.to_string());
                        }
                    }
                })?;
                if let Some(seqid) = seqid {
                    header.set_sequence_id(seqid);
                }
                Ok(Header::Luks2(header))
            }
        }
    }

    fn slice(&self, range: &Range<u64>) -> &[u8] {
        self.bytes
            .get(range.start as usize..range.end as usize)
            .expect("a parsed header's areas lie inside its backup")
    }
}

impl Header {
    fn write_to(&self, change: &mut Change) {
        match self {
            Self::Luks1(header) => header.write(change),
            Self::Luks2(header) => header.write(change),
        }
    }
}
