//! Volumes that are filled when they are made: with the contents of an image, or with a LUKS container
//! as it is.

use strongroom_clone::Zeroes;
use strongroom_disk::{Access, Disk, Padded, Raw, Slice, Unfinished};
use strongroom_luks::Header;

use super::ledger::{Verdict, digest_of, item};
use super::life::{check_size, difference};
use super::{
    Condition, FormatState, HEADER_LEN, NewVolume, Volume, VolumeEncryption, VolumeOpener,
    VolumeProblem, Volumes, device_len, key_record,
};
use crate::catalog::{Records, Stored};
use crate::{Device, Error, Result, device, envelopes};

/// What a volume is filled with.
pub(crate) enum Filling<'a> {
    /// These contents from its beginning on. `to` will open it, where it is encrypted.
    Contents { disk: &'a dyn Disk, to: Option<VolumeOpener<'a>> },
    /// A LUKS2 volume of other owners whose data begins where that of volumes does: its bytes, with header
    /// and keyslots.
    Container { disk: &'a Raw, rekeying: Option<Rekeying<'a>> },
}

/// The key that opens a container, and the one that shall open the volume in its place.
pub(crate) struct Rekeying<'a> {
    pub(crate) from: VolumeOpener<'a>,
    pub(crate) to: VolumeOpener<'a>,
}

/// Copies a disk to another one of the same length, and makes it durable.
pub(crate) type CopyInto<'a> = &'a dyn Fn(&dyn Disk, &dyn Disk, Zeroes) -> Result<()>;

impl Volumes {
    /// Makes a volume that is filled before anybody can use it. `source` says in words with what. The same
    /// again returns the one that is there; what an interrupted call has left is made anew, unless only its
    /// records were missing.
    ///
    /// # Guarantees
    ///
    /// - The ledger is asked before anything is written, as for every volume, and told after all of it is
    ///   durable.
    /// - After an error there is no such volume.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create); what the keys, or the disk that it is filled with, say.
    pub(crate) fn create_filled(
        &self,
        new: &NewVolume,
        source: String,
        filling: Filling<'_>,
        copy: CopyInto<'_>,
    ) -> Result<Volume> {
        check_size(&new.id, new.size)?;
        let _guard = self.lock(&new.id)?;
        let found = Records::<Volume>::of(&*self.catalog).load(new.id.as_str())?;
        if let Some(stored) = found.filter(|it| it.record.condition != Condition::Deleting) {
            if let Some(difference) = difference(&stored.record, new, Some(source.clone())) {
                return Err(Error::volume(&new.id, VolumeProblem::Exists { difference }));
            }
            if stored.record.condition == Condition::Ready {
                return Ok(stored.record);
            }
            if let Some(uuid) = self.finished_mark(&item(&stored.record))? {
                return self.take_over(stored, &uuid);
            }
        }
        let stored = self.begin_anew(new, Some(source))?;
        self.fill(stored, filling, copy).inspect_err(|_| {
            // It is of this call, nobody has used it, and it is not what it was to be.
            if let Ok(stored) = self.load(&new.id) {
                let _ = self.delete_locked(stored);
            }
        })
    }

    fn fill(
        &self,
        stored: Stored<Volume>,
        filling: Filling<'_>,
        copy: CopyInto<'_>,
    ) -> Result<Volume> {
        match filling {
            Filling::Contents { disk, to: Some(to) } => {
                // What was never written reads as noise there, so zeros are written.
                self.form(stored, to, (None, None), |target| {
                    fill_from(disk, target, Zeroes::Write, copy)
                })
            }
            Filling::Contents { disk, to: None } => {
                let target = self.pool.open(&item(&stored.record), Access::ReadWrite)?;
                fill_from(disk, &target, Zeroes::Skip, copy)?;
                target.flush()?;
                // Whatever it holds may be somebody's data from now on.
                let uuid = super::attaching::random_uuid(&stored.record)?;
                self.make_ready(self.ledger().finished(stored, &uuid, None)?)
            }
            Filling::Container { disk, rekeying } => {
                self.fill_with_container(stored, disk, rekeying.as_ref(), copy)
            }
        }
    }

    /// Copies a container: its data, then its header, then what makes it one.
    fn fill_with_container(
        &self,
        stored: Stored<Volume>,
        from: &Raw,
        rekeying: Option<&Rekeying<'_>>,
        copy: CopyInto<'_>,
    ) -> Result<Volume> {
        let ledger = self.ledger();
        let header = device::read_header(from)?.header;
        let id = stored.record.id.clone();
        let len = device_len(stored.record.size, &stored.record.encryption);
        check_room(&stored.record, from, &header, len)?;
        let into = self.pool.open(&item(&stored.record), Access::ReadWrite)?;
        let into = into.with_label(format!("volume {id}"));
        let (mut stored, Verdict::Format(grant)) =
            ledger.encrypted(stored, &into, header.uuid())?
        else {
            let difference = "holds something already".to_owned();
            return Err(Error::volume(&id, VolumeProblem::Exists { difference }));
        };
        let end = from.len().min(len);
        let data = HEADER_LEN..end;
        copy(&Slice::new(from, data.clone())?, &Slice::new(&into, data)?, Zeroes::Skip)?;
        let unfinished = Unfinished::new(into)?;
        let head = 0..HEADER_LEN;
        copy(&Slice::new(from, head.clone())?, &Slice::new(&unfinished, head)?, Zeroes::Skip)?;
        unfinished.finish()?;
        // The header that was granted is there, and it is the one of the container.
        drop(grant);
        drop(unfinished);
        let into = self.pool.open(&item(&stored.record), Access::ReadWrite)?;
        let device = Device::on(into.with_label(format!("volume {id}")));
        let written = device.read_header()?.header;
        if written.uuid() != header.uuid() || digest_of(&written) != digest_of(&header) {
            return Err(Error::SourceChanged { label: from.label().to_owned() });
        }
        match rekeying {
            Some(Rekeying { from, to }) => {
                let added = self.add_key(&stored.record, &device, *from, *to)?;
                self.keep_only(&stored.record, &device, added)?;
            }
            None => self.keep_envelope(&stored.record, &written)?,
        }
        stored = ledger.finished(stored, header.uuid(), digest_of(&header))?;
        let volume = self.make_ready(stored)?;
        // The volume is good without it; whoever asks for a report is told.
        let _ = self.back_up_header(&volume.id);
        Ok(volume)
    }

    /// Keeps the wrapped key in a header beside it, too, where a KMS opens the volume.
    fn keep_envelope(&self, volume: &Volume, header: &Header) -> Result<()> {
        if let (VolumeEncryption::Kms(_), Header::Luks2(header)) = (&volume.encryption, header)
            && let Some(held) = envelopes::each(header, "").find_map(Result::ok)
        {
            let name = key_record::of_volume(&volume.id);
            key_record::store(&*self.catalog, &name, &held.envelope)?;
        }
        Ok(())
    }

    /// Makes a volume ready of which only the records are missing: its mark says that it is whole.
    fn take_over(&self, stored: Stored<Volume>, uuid: &str) -> Result<Volume> {
        let ledger = self.ledger();
        if !stored.record.encryption.is_encrypted() {
            return self.make_ready(ledger.finished(stored, uuid, None)?);
        }
        let disk = self.pool.open(&item(&stored.record), Access::ReadOnly)?;
        let id = stored.record.id.clone();
        let stored = match ledger.encrypted(stored, &disk, uuid)? {
            (stored, Verdict::Open { unrecorded: None, .. }) => stored,
            (stored, Verdict::Open { unrecorded: Some(state), .. }) => match state {
                FormatState::Formatted { uuid, digest } => {
                    ledger.finished(stored, &uuid, digest)?
                }
                FormatState::Blank | FormatState::Formatting { .. } => stored,
            },
            (_, Verdict::Format(_)) => return Err(Error::volume(&id, VolumeProblem::Written)),
        };
        let volume = self.make_ready(stored)?;
        let _ = self.back_up_header(&volume.id);
        Ok(volume)
    }
}

/// Copies contents to the beginning of a volume.
fn fill_from(
    contents: &dyn Disk,
    target: &dyn Disk,
    zeroes: Zeroes,
    copy: CopyInto<'_>,
) -> Result<()> {
    let len = contents.len().next_multiple_of(LARGEST_SECTOR);
    copy(&Padded::new(contents, len)?, &Slice::new(target, 0..len)?, zeroes)
}

/// Refuses a container whose data would not have the size of the volume on a device of `len` bytes.
fn check_room(volume: &Volume, container: &Raw, header: &Header, len: u64) -> Result<()> {
    let label = Error::luks(container.label());
    let payload = header.payload(len).map_err(&label)?;
    let reason = if payload.offset != HEADER_LEN {
        format!("the data of {} begins at byte {}", container.label(), payload.offset)
    } else if payload.length != volume.size {
        let length = payload.length;
        format!("the header of {} says that its data has {length} bytes", container.label())
    } else {
        return Ok(());
    };
    let size = volume.size;
    Err(Error::volume(&volume.id, VolumeProblem::Size { size, reason }))
}

/// The largest sector there is, in bytes: sizes of volumes are multiples of it.
const LARGEST_SECTOR: u64 = 4096;
