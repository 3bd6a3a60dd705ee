//! What can be proved about a volume, without any key.

use std::path::PathBuf;
use std::time::SystemTime;

use strongroom_disk::{Access, Disk, is_marked};
use strongroom_kms::Envelope;
use strongroom_luks::{Header, KeyslotSummary};
use strongroom_model::VolumeId;
use strongroom_pool::{Entry, FormatMark};

use super::ledger::{digest_of, item};
use super::{Attachment, FormatState, Volume, Volumes, device_len, key_record};
use crate::{Device, Error, Result, envelopes};

/// What can be told about a volume.
#[derive(Debug)]
pub struct VolumeReport {
    /// What the catalog knows.
    pub volume: Volume,
    /// What the pool knows of its bytes.
    pub bytes: Option<Entry>,
    /// The mark beside its bytes.
    pub mark: Option<FormatMark>,
    /// The header on its device.
    pub header: Option<HeaderFacts>,
    /// The envelopes in the header.
    pub envelopes: Vec<Envelope>,
    /// The envelope in the catalog.
    pub recorded: Option<Envelope>,
    /// The copy of the header that was saved.
    pub header_backup: Option<HeaderBackup>,
    /// How it appears on this machine.
    pub attachment: Option<Attachment>,
    /// What is not as it should be, in words. Nothing, when all witnesses agree.
    pub findings: Vec<String>,
}

/// What a header says of a volume.
#[derive(Debug)]
pub struct HeaderFacts {
    /// Its UUID.
    pub uuid: String,
    /// The cipher: `aes-xts-plain64`.
    pub cipher: String,
    /// The size of the volume key in bits.
    pub key_bits: usize,
    /// The size of a sector in bytes.
    pub sector: usize,
    /// Its keyslots.
    pub keyslots: Vec<KeyslotSummary>,
}

/// A saved copy of a header.
#[derive(Debug)]
pub struct HeaderBackup {
    /// Where it lies.
    pub path: PathBuf,
    /// When it was made.
    pub made: Option<SystemTime>,
}

impl Volumes {
    /// Returns what can be told about a volume. Nobody is asked for a key, and nothing is changed.
    ///
    /// # Errors
    ///
    /// When there is no such volume, or pool or catalog cannot be read.
    pub fn report(&self, id: &VolumeId) -> Result<VolumeReport> {
        let volume = self.load(id)?.record;
        let item = item(&volume);
        let bytes = self.pool.entry(&item)?;
        let mark = self.pool.format_mark(&item).unwrap_or_default();
        let mut report = VolumeReport {
            bytes,
            mark,
            header: None,
            envelopes: Vec::new(),
            recorded: key_record::load(&*self.catalog, &key_record::of_volume(id))?,
            header_backup: self.header_backup(id),
            attachment: self.attachment(id)?,
            findings: Vec::new(),
            volume,
        };
        report.examine(self)?;
        Ok(report)
    }

    /// Saves the header of a volume beside its catalog, in place of what was saved before.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written.
    pub fn back_up_header(&self, id: &VolumeId) -> Result<()> {
        let Some(path) = self.header_backup_path(id) else { return Ok(()) };
        let volume = self.load(id)?.record;
        let device = Device::on(self.pool.open(&item(&volume), Access::ReadOnly)?);
        if let Some(folder) = path.parent() {
            self.make_private_folder(folder)?;
        }
        crate::keys::replace_backup(&device, &path)?;
        Ok(())
    }

    /// Removes the saved copy of a volume's header, durably. One that is not there succeeds.
    ///
    /// # Errors
    ///
    /// When it stays.
    pub(super) fn remove_header_backup(&self, id: &VolumeId) -> Result<()> {
        let Some(path) = self.header_backup_path(id) else { return Ok(()) };
        let removed = match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => Err(error),
            Ok(()) => path
                .parent()
                .map_or(Ok(()), |folder| std::fs::File::open(folder).and_then(|it| it.sync_all())),
        };
        removed.map_err(|source| {
            let problem = format!("cannot remove the saved header {}", path.display());
            strongroom_attach::Error::from_io(problem, source).into()
        })
    }

    /// Returns the saved copy of a volume's header.
    fn header_backup(&self, id: &VolumeId) -> Option<HeaderBackup> {
        let path = self.header_backup_path(id)?;
        let found = std::fs::metadata(&path).ok()?;
        Some(HeaderBackup { path, made: found.modified().ok() })
    }
}

impl VolumeReport {
    /// Compares what the catalog, the mark and the bytes say.
    fn examine(&mut self, volumes: &Volumes) -> Result<()> {
        let Some(bytes) = &self.bytes else {
            self.find("the pool does not have its bytes");
            return Ok(());
        };
        let recorded = device_len(self.volume.size, &self.volume.encryption);
        if bytes.len < recorded {
            self.find(format!("its device has {} bytes, but should have {recorded}", bytes.len));
        }
        if self.volume.file_system.is_some()
            && self.volume.grown_to.is_some_and(|grown| grown < self.volume.size)
        {
            self.find(
                "its file system has not grown to its size yet: attach it, or expand it again",
            );
        }
        if !self.volume.encryption.is_encrypted() {
            self.find("it is not encrypted");
            return Ok(());
        }
        let disk = volumes.pool.open(&item(&self.volume), Access::ReadOnly)?;
        let marked = is_marked(&disk)?;
        let device = Device::on(disk);
        let header = match device.read_header() {
            Ok(found) => Some(found.header),
            Err(Error::NotEncrypted { .. }) => None,
            Err(error) => {
                self.find(format!("its header cannot be read: {error}"));
                None
            }
        };
        self.compare(header.as_ref(), marked);
        if let Some(header) = header {
            self.describe(&header, &device)?;
        }
        Ok(())
    }

    fn compare(&mut self, header: Option<&Header>, marked: bool) {
        match (self.volume.format.clone(), header) {
            (FormatState::Blank, None) if self.mark.is_none() => {}
            (FormatState::Blank, _) => {
                self.find(
                    "the catalog says that it was never formatted, and its bytes say otherwise",
                );
            }
            (FormatState::Formatting { .. }, _) => self.find(if marked {
                "its formatting was interrupted: attaching it does that again, it was never used"
            } else {
                "its formatting was interrupted: attaching it goes on with that"
            }),
            (FormatState::Formatted { .. }, None) => {
                self.find("it was formatted, and its device has no LUKS header");
            }
            (FormatState::Formatted { uuid, digest }, Some(header)) => {
                if header.uuid() != uuid || digest_of(header) != digest {
                    self.find(format!("its device has the header of {}", header.uuid()));
                }
                if self.mark.as_ref().is_none_or(|mark| mark.uuid != uuid) {
                    self.find("the mark beside its bytes is another");
                }
                if self.header_backup.is_none() {
                    self.find("its header was never saved");
                }
            }
        }
    }

    fn describe(&mut self, header: &Header, device: &Device) -> Result<()> {
        let label = device.header_disk().label();
        if let Header::Luks2(luks2) = header {
            self.envelopes = envelopes::each(luks2, label)
                .filter_map(|held| held.ok().map(|held| held.envelope))
                .collect();
        }
        if let Some(recorded) = &self.recorded
            && !self.envelopes.is_empty()
            && !self.envelopes.contains(recorded)
        {
            self.find("the envelope in the catalog is not one of those in the header");
        }
        let payload = header.payload(device.header_disk().len()).map_err(Error::luks(label))?;
        self.header = Some(HeaderFacts {
            uuid: header.uuid().to_owned(),
            cipher: payload.encryption.spec().to_string(),
            key_bits: payload.encryption.key_size().bits(),
            sector: payload.sector_size.bytes(),
            keyslots: header.keyslots(),
        });
        Ok(())
    }

    fn find(&mut self, finding: impl Into<String>) {
        self.findings.push(finding.into());
    }
}
