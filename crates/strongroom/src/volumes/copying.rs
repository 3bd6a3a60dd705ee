//! Snapshots and clones: copies of ciphertext.

use std::fmt;

use strongroom_attach::file_system;
use strongroom_model::{FileSystem, SnapshotId, VolumeId};
use strongroom_pool::{CopyProgress, FormatStage, Item};

use super::attaching::works;
use super::life::describe;
use super::{
    Attachment, Condition, FormatState, NewVolume, Show, Snapshot, Source, Volume,
    VolumeEncryption, VolumeProblem, Volumes, key_record,
};
use crate::catalog::{Records, Stored};
use crate::{Error, Result};

/// What a copy has from its source.
#[derive(Debug)]
pub(super) struct OfSource {
    pub(super) format: FormatState,
    pub(super) file_system: Option<FileSystem>,
    pub(super) grown_to: Option<u64>,
    /// Whether the mark beside its bytes says that it was formatted to the end.
    is_finished: bool,
    /// Under which name its envelope lies.
    pub(super) key: String,
}

impl OfSource {
    fn new(volume: &Volume) -> Self {
        Self {
            format: volume.format.clone(),
            file_system: volume.file_system,
            grown_to: volume.grown_to,
            is_finished: false,
            key: key_record::of_volume(&volume.id),
        }
    }

    /// Returns whether there is anything to copy: what is only being formatted, says the mark beside the
    /// bytes too, was never used.
    pub(super) fn is_copied(&self) -> bool {
        self.is_finished || !matches!(self.format, FormatState::Formatting { .. })
    }
}

impl Volumes {
    /// Makes a snapshot of a volume. The same again returns the one that is there. Where the volume is
    /// mounted its file system is frozen meanwhile.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::SnapshotExists`] when there is one of that name of another volume;
    /// [`VolumeProblem::InUse`] when a copy of what is written meanwhile would be of no one moment.
    pub fn snapshot(
        &self,
        of: &VolumeId,
        id: &SnapshotId,
        progress: &dyn CopyProgress,
    ) -> Result<Snapshot> {
        let _guard = self.lock(of)?;
        let item = Item::Snapshot(id.clone());
        let _snapshot_guard = self.pool.try_lock(&item)?;
        let records = Records::<Snapshot>::of(&*self.catalog);
        let is_there = self.pool.entry(&item)?.is_some();
        let mut stored = match records.load(id.as_str())? {
            Some(stored) if stored.record.of.id != *of => {
                let problem = VolumeProblem::SnapshotExists {
                    snapshot: id.clone(),
                    of: stored.record.of.id.to_string(),
                };
                return Err(Error::volume(of, problem));
            }
            Some(stored) if stored.record.condition == Condition::Ready => return Ok(stored.record),
            Some(stored) => stored,
            None if is_there => {
                let snapshot = id.clone();
                return Err(Error::volume(of, VolumeProblem::SnapshotUnknown { snapshot }));
            }
            None => {
                let volume = self.load_ready(of)?.record;
                let condition = Condition::Creating;
                let new = Snapshot { id: id.clone(), of: volume, created: crate::now(), condition };
                records.insert(new)?
            }
        };
        // A copy is there as a whole or not at all: whoever was killed had only to say so.
        if !is_there {
            stored.record.of = self.load_ready(of)?.record;
            stored.record.created = crate::now();
            if let Err(error) = self.copy_volume(of, &item, progress) {
                let _ = records.remove(&stored);
                return Err(error);
            }
        }
        stored.record.condition = Condition::Ready;
        self.keep_key(of, &stored.record)?;
        Ok(records.replace(stored)?.record)
    }

    /// Returns at most `limit` snapshots with identifiers after `after`, in their order.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn snapshots(&self, after: Option<&SnapshotId>, limit: usize) -> Result<Vec<Snapshot>> {
        let found = Records::of(&*self.catalog).list(after.map(SnapshotId::as_str), limit)?;
        Ok(found.into_iter().map(|stored| stored.record).collect())
    }

    /// Returns a snapshot, `None` when there is none.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn snapshot_of(&self, id: &SnapshotId) -> Result<Option<Snapshot>> {
        Ok(self.load_snapshot(id)?.map(|stored| stored.record))
    }

    /// Deletes a snapshot. One that is not there succeeds.
    ///
    /// # Errors
    ///
    /// What pool or catalog say.
    pub fn delete_snapshot(&self, id: &SnapshotId) -> Result<()> {
        let item = Item::Snapshot(id.clone());
        let _guard = self.pool.try_lock(&item)?;
        let Some(mut stored) = self.load_snapshot(id)? else { return Ok(()) };
        let records = Records::<Snapshot>::of(&*self.catalog);
        if stored.record.condition != Condition::Deleting {
            stored.record.condition = Condition::Deleting;
            stored = records.replace(stored)?;
        }
        self.pool.delete(&item)?;
        key_record::remove(&*self.catalog, &key_record::of_snapshot(id))?;
        Ok(records.remove(&stored)?)
    }

    /// Checks that a volume can be a copy of its source, and returns what it has from it.
    pub(super) fn check_source(&self, new: &NewVolume, source: &Source) -> Result<OfSource> {
        let missing = || {
            let problem = VolumeProblem::NoSource { source_name: source.to_string() };
            Error::volume(&new.id, problem)
        };
        let (volume, mut of_source) = match source {
            Source::Volume(id) => {
                let stored = Records::<Volume>::of(&*self.catalog).load(id.as_str())?;
                let volume = stored.ok_or_else(missing)?.record;
                let of_source = OfSource::new(&volume);
                (volume, of_source)
            }
            Source::Snapshot(id) => {
                let found = self.load_snapshot(id)?.ok_or_else(missing)?.record;
                if found.condition != Condition::Ready {
                    return Err(missing());
                }
                let of_source = OfSource::new(&found.of);
                (found.of, of_source)
            }
        };
        let item = match source {
            Source::Volume(id) => Item::Volume(id.clone()),
            Source::Snapshot(id) => Item::Snapshot(id.clone()),
        };
        let mark = self.pool.format_mark(&item)?;
        of_source.is_finished = mark.is_some_and(|mark| mark.stage == FormatStage::Finished);
        if let Source::Snapshot(id) = source {
            of_source.key = key_record::of_snapshot(id);
        }
        if !is_same_encryption(&volume.encryption, &new.encryption) {
            let problem = VolumeProblem::Mixed {
                source_name: source.to_string(),
                found: describe(&volume.encryption),
                wanted: describe(&new.encryption),
            };
            return Err(Error::volume(&new.id, problem));
        }
        if new.size < volume.size {
            let reason = format!("{source}, of which it is a copy, has {}", volume.size);
            let problem = VolumeProblem::Size { size: new.size, reason };
            return Err(Error::volume(&new.id, problem));
        }
        Ok(of_source)
    }

    /// Copies the bytes of a source.
    pub(super) fn copy_source(
        &self,
        source: &Source,
        to: &Item,
        progress: &dyn CopyProgress,
    ) -> Result<()> {
        match source {
            Source::Volume(id) => {
                let _guard = self.lock(id)?;
                self.load_ready(id)?;
                self.copy_volume(id, to, progress)
            }
            Source::Snapshot(id) => {
                let from = Item::Snapshot(id.clone());
                let _guard = self.pool.try_lock(&from)?;
                Ok(self.pool.copy(&from, to, progress)?)
            }
        }
    }

    /// Copies the bytes of a volume that the caller has locked, at one moment.
    fn copy_volume(&self, from: &VolumeId, to: &Item, progress: &dyn CopyProgress) -> Result<()> {
        let attached = match self.load_attachment(from)?.map(|stored| stored.record) {
            Some(found) if self.appears(&found)? => Some(found),
            Some(_) => None,
            None => {
                self.clear_away(from)?;
                None
            }
        };
        let in_use = |by| Err(Error::volume(from, VolumeProblem::InUse { by }));
        let attached = attached.filter(|found| !found.read_only);
        if let Some(found) = &attached {
            if !works(found)? {
                return in_use("it is attached in part: detach it first".to_owned());
            }
            // Its file system stands still as long as the copy takes.
            let is_short = matches!(found.show, Show::Mount { .. })
                && self
                    .pool
                    .entry(&Item::Volume(from.clone()))?
                    .is_some_and(|entry| entry.allocated <= LONGEST_STANDSTILL);
            if !is_short && !self.pool.copies_at_once()? {
                return in_use(format!(
                    "it is {}, and this pool cannot copy that much at once: detach it first, or keep \
                     the pool on a file system that shares bytes (XFS, btrfs)",
                    found.describe()
                ));
            }
        }
        let _frozen = match &attached {
            Some(Attachment { show: Show::Mount { target, .. }, .. }) => {
                // Left by whoever was killed in the middle of this.
                let _ = file_system::thaw(target);
                Some(file_system::freeze(target)?)
            }
            Some(Attachment { device: Some(device), .. }) => {
                let synced = std::fs::File::open(device).and_then(|device| device.sync_all());
                synced.map_err(|source| {
                    let problem = format!("cannot flush {}", device.display());
                    strongroom_attach::Error::from_io(problem, source)
                })?;
                None
            }
            _ => None,
        };
        Ok(self.pool.copy(&Item::Volume(from.clone()), to, progress)?)
    }

    pub(super) fn load_snapshot(&self, id: &SnapshotId) -> Result<Option<Stored<Snapshot>>> {
        Ok(Records::of(&*self.catalog).load(id.as_str())?)
    }

    /// Keeps the envelope of a volume for a snapshot of it.
    fn keep_key(&self, of: &VolumeId, snapshot: &Snapshot) -> Result<()> {
        let Some(envelope) = key_record::load(&*self.catalog, &key_record::of_volume(of))? else {
            return Ok(());
        };
        key_record::store(&*self.catalog, &key_record::of_snapshot(&snapshot.id), &envelope)?;
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(id) => write!(f, "volume {id}"),
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}

/// Returns whether a copy opens as what it was to be: what wraps the key must be the same, but may be
/// reached in another way.
fn is_same_encryption(one: &VolumeEncryption, other: &VolumeEncryption) -> bool {
    match (one, other) {
        (VolumeEncryption::None, VolumeEncryption::None)
        | (VolumeEncryption::Passphrase, VolumeEncryption::Passphrase) => true,
        (VolumeEncryption::Kms(one), VolumeEncryption::Kms(other)) => {
            one.kind == other.kind && one.key_id == other.key_id
        }
        _ => false,
    }
}

/// How many bytes are copied while a file system stands still, where they cannot be shared: seconds.
const LONGEST_STANDSTILL: u64 = 2 << 30;
