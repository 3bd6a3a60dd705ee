//! A copy of a volume under a volume key of its own.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use strongroom_clone::{Pass, Plan, Progress, Zeroes};
use strongroom_disk::{Access, Disk, Encrypted, Extents, Raw, Slice};
use strongroom_model::FileSystem;
use strongroom_pool::{FormatStage, Item};

use super::ledger::item;
use super::opening::{self, Opening, check_opener, unlock};
use super::{
    Condition, FormatState, NewVolume, Snapshot, Source, Volume, VolumeOpener, VolumeProblem,
    Volumes, device_len,
};
use crate::catalog::{Records, Stored};
use crate::{Device, Error, Result};

/// Whoever watches a copy, and may end it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Is told of every piece.
    pub progress: &'a dyn Progress,
    /// Set when the copy shall end.
    pub cancelled: &'a AtomicBool,
}

impl Volumes {
    /// Makes a volume with the contents of its source, encrypted anew: another volume key, and whatever
    /// encryption the new volume says. What the source never wrote stays unwritten.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create), but that the encryption may differ as long as both are encrypted;
    /// what the keys or KMSs say.
    pub fn copy_anew(
        &self,
        new: &NewVolume,
        from: VolumeOpener<'_>,
        to: VolumeOpener<'_>,
        watch: Watch<'_>,
    ) -> Result<Volume> {
        let Some(source) = &new.source else {
            let source_name = "nothing".to_owned();
            return Err(Error::volume(&new.id, VolumeProblem::NoSource { source_name }));
        };
        let (of, source_item) = self.source(new, source)?;
        let _source_guard = self.pool.try_lock(&source_item)?;
        if let Source::Volume(id) = source
            && let Some(attachment) = self.attachment(id)?
            && !attachment.read_only
        {
            let by = format!("it is {}: detach it first", attachment.describe());
            return Err(Error::volume(id, VolumeProblem::InUse { by }));
        }
        check_opener(&of, Some(from))?;
        // Before anything is made: most who fail have the wrong key.
        let opened = match of.format {
            FormatState::Formatted { .. } => {
                let disk = self.pool.open(&source_item, Access::ReadOnly)?;
                Some(self.open_source(&of, disk.with_label(source.to_string()), from)?)
            }
            _ => None,
        };
        let _guard = self.lock(&new.id)?;
        let size = new.size.max(of.size);
        let source_name = Some(source.to_string());
        let stored = self.begin_anew(&NewVolume { size, ..new.clone() }, source_name)?;
        let filled = match opened {
            None => self.make_ready(stored),
            Some(opened) => self.fill_anew(stored, &of, &opened, to, watch),
        };
        filled.inspect_err(|_| {
            // It is of this call, nobody has used it, and it is not what it was to be.
            if let Ok(stored) = self.load(&new.id) {
                let _ = self.delete_locked(stored);
            }
        })
    }

    /// Makes the record and the room of a volume that is filled anew: it cannot be used before it is
    /// whole. What an earlier call has left unfinished is taken away. `source` is what it is made of, in
    /// words.
    pub(super) fn begin_anew(
        &self,
        new: &NewVolume,
        source: Option<String>,
    ) -> Result<Stored<Volume>> {
        let records = Records::<Volume>::of(&*self.catalog);
        let item = Item::Volume(new.id.clone());
        if let Some(stored) = records.load(new.id.as_str())? {
            let is_used = self.finished_mark(&item)?.is_some();
            if stored.record.condition == Condition::Ready || is_used {
                let difference = "a copy takes the place of none".to_owned();
                return Err(Error::volume(&new.id, VolumeProblem::Exists { difference }));
            }
            self.delete_locked(stored)?;
        }
        super::life::check_size(&new.id, new.size)?;
        self.refuse_bytes_of_another(new)?;
        let stored = records.insert(Volume {
            id: new.id.clone(),
            size: new.size,
            encryption: new.encryption.clone(),
            format: FormatState::Blank,
            file_system: None,
            tuning: new.tuning,
            source,
            parameters: new.parameters.clone(),
            created: crate::now(),
            grown_to: None,
            condition: Condition::Creating,
        })?;
        self.pool.create(&item, device_len(new.size, &new.encryption))?;
        Ok(stored)
    }

    /// Returns the UUID in the mark of an item that was formatted to the end, if there is such an item.
    pub(super) fn finished_mark(&self, item: &Item) -> Result<Option<String>> {
        // Whoever was killed may not have come as far as making it.
        if self.pool.entry(item)?.is_none() {
            return Ok(None);
        }
        let mark = self.pool.format_mark(item)?;
        Ok(mark.filter(|mark| mark.stage == FormatStage::Finished).map(|mark| mark.uuid))
    }

    /// Lets a volume that is whole be used.
    pub(super) fn make_ready(&self, mut stored: Stored<Volume>) -> Result<Volume> {
        stored.record.condition = Condition::Ready;
        Ok(Records::of(&*self.catalog).replace(stored)?.record)
    }

    fn source(&self, new: &NewVolume, source: &Source) -> Result<(Volume, Item)> {
        match source {
            Source::Volume(id) => Ok((self.load_ready(id)?.record, Item::Volume(id.clone()))),
            Source::Snapshot(id) => {
                let found: Option<Stored<Snapshot>> =
                    Records::of(&*self.catalog).load(id.as_str())?;
                let ready = found.filter(|found| found.record.condition == Condition::Ready);
                let found = ready.ok_or_else(|| {
                    let problem = VolumeProblem::NoSource { source_name: source.to_string() };
                    Error::volume(&new.id, problem)
                })?;
                Ok((found.record.of, Item::Snapshot(id.clone())))
            }
        }
    }

    fn open_source(
        &self,
        of: &Volume,
        disk: Raw,
        from: VolumeOpener<'_>,
    ) -> Result<(Encrypted<Raw>, Vec<Range<u64>>)> {
        let device = Device::on(disk);
        let header = device.read_header()?.header;
        let key = unlock(&*self.catalog, of, &device, &header, from, &self.policy)?;
        let start = device.payload(&header)?.offset;
        let written = written(device.header_disk(), start)?;
        Ok((device.into_plain(&header, &key)?, written))
    }

    fn fill_anew(
        &self,
        stored: Stored<Volume>,
        of: &Volume,
        (plain, written): &(Encrypted<Raw>, Vec<Range<u64>>),
        to: VolumeOpener<'_>,
        watch: Watch<'_>,
    ) -> Result<Volume> {
        self.form(stored, to, (of.file_system, of.grown_to), |target| {
            for range in written {
                let end = range.end.min(plain.len()).min(target.len());
                if range.start >= end {
                    continue;
                }
                let (from, into) =
                    (Slice::new(plain, range.start..end)?, Slice::new(target, range.start..end)?);
                let pass = Pass::new(
                    Plan::for_this_machine(Zeroes::Write),
                    watch.progress,
                    watch.cancelled,
                );
                strongroom_clone::run(&from, &into, &pass)?;
            }
            Ok(())
        })
    }

    /// Formats a volume that is being made, lets `fill` fill it through its cipher, and makes it ready when
    /// all of that is durable. `file_system` is what will be in it, and up to which size that has grown.
    pub(super) fn form(
        &self,
        stored: Stored<Volume>,
        to: VolumeOpener<'_>,
        file_system: (Option<FileSystem>, Option<u64>),
        fill: impl FnOnce(&Encrypted<Raw>) -> Result<()>,
    ) -> Result<Volume> {
        let ledger = self.ledger();
        let opening = opening::open(&ledger, stored, Some(to), &self.policy)?;
        let Opening { mut stored, volume, forming } = opening;
        let Some(forming) = forming else {
            let difference = "holds something already".to_owned();
            return Err(Error::volume(&stored.record.id, VolumeProblem::Exists { difference }));
        };
        let encrypted = volume.encrypted.as_ref().expect("it was just formatted as LUKS");
        let disk = self.pool.open(&item(&stored.record), Access::ReadWrite)?;
        let label = Error::luks("the new volume");
        let cipher = encrypted.payload.cipher(&encrypted.key).map_err(label)?;
        let range = encrypted.payload.offset..disk.len();
        let target = Encrypted::new(disk, range, cipher, encrypted.payload.iv_tweak)?;
        fill(&target)?;
        target.flush()?;
        (stored.record.file_system, stored.record.grown_to) = file_system;
        stored = Records::of(&*self.catalog).replace(stored)?;
        stored = forming.finish(&ledger, stored)?;
        let volume = self.make_ready(stored)?;
        // The volume is good without it; whoever asks for a report is told.
        let _ = self.back_up_header(&volume.id);
        Ok(volume)
    }
}

/// Returns the parts behind `start` that were ever written, as offsets from there, whole blocks of 4096
/// bytes; small gaps count as written.
fn written(disk: &Raw, start: u64) -> Result<Vec<Range<u64>>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    for extent in Extents::new(disk, start..disk.len()) {
        let extent = extent?;
        if extent.kind.reads_as_zeros() {
            continue;
        }
        let (from, to) = (extent.range.start - start, extent.range.end - start);
        let (from, to) = (from & !4095, to.next_multiple_of(4096));
        match found.last_mut() {
            Some(last) if from <= last.end + SMALL_GAP => last.end = to,
            _ => found.push(from..to),
        }
    }
    Ok(found)
}

/// Up to how many bytes a gap costs more to leave out than to copy.
const SMALL_GAP: u64 = 128 << 10;
