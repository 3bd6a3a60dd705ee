//! From creation to deletion.

use strongroom_disk::Access;
use strongroom_model::{Tuning, VolumeId};
use strongroom_pool::{CopyProgress, ErrorKind as Pool, Item};

use super::ledger::item;
use super::{
    Condition, FormatState, NewVolume, Volume, VolumeEncryption, VolumeProblem, Volumes,
    device_len, key_record,
};
use crate::catalog::{Records, Stored};
use crate::{Error, Result};

impl Volumes {
    /// Makes a volume: space in the pool, and an entry in the catalog. Nothing is formatted. One that is
    /// there already and is what was asked for is returned as it is.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::Exists`] when there is another of that name; [`VolumeProblem::Size`];
    /// [`VolumeProblem::Mixed`] when the source is encrypted in another way; [`VolumeProblem::NoSource`].
    pub fn create(&self, new: &NewVolume, progress: &dyn CopyProgress) -> Result<Volume> {
        check_size(&new.id, new.size)?;
        let _guard = self.lock(&new.id)?;
        let records = Records::<Volume>::of(&*self.catalog);
        let mut is_new = true;
        let stored = match records.load(new.id.as_str())? {
            Some(stored) if stored.record.condition == Condition::Deleting => {
                self.delete_locked(stored)?;
                records.insert(self.begin(new)?)?
            }
            Some(stored) => {
                let source = new.source.as_ref().map(ToString::to_string);
                if let Some(difference) = difference(&stored.record, new, source) {
                    return Err(Error::volume(&new.id, VolumeProblem::Exists { difference }));
                }
                if stored.record.condition == Condition::Ready {
                    return Ok(stored.record);
                }
                is_new = false;
                stored
            }
            None => {
                self.refuse_bytes_of_another(new)?;
                records.insert(self.begin(new)?)?
            }
        };
        match self.fill_pool(new, stored, progress) {
            Ok(stored) => {
                if let FormatState::Formatted { .. } = stored.record.format
                    && stored.record.encryption.is_encrypted()
                {
                    // The copy is good without it; whoever asks for a report is told.
                    let _ = self.back_up_header(&new.id);
                }
                Ok(stored.record)
            }
            Err(error) => {
                // What cannot be filled is not left behind, if it is of this call: there was nothing before.
                if is_new && let Ok(Some(stored)) = records.load(new.id.as_str()) {
                    let _ = self.delete_locked(stored);
                }
                Err(error)
            }
        }
    }

    /// Returns a volume.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::NotFound`].
    pub fn volume(&self, id: &VolumeId) -> Result<Volume> {
        self.load(id).map(|stored| stored.record)
    }

    /// Returns at most `limit` volumes with identifiers after `after`, in their order.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn list(&self, after: Option<&VolumeId>, limit: usize) -> Result<Vec<Volume>> {
        let found = Records::of(&*self.catalog).list(after.map(VolumeId::as_str), limit)?;
        Ok(found.into_iter().map(|stored| stored.record).collect())
    }

    /// Deletes a volume: its data, then its keys. It needs no key. One that is not there succeeds.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::InUse`].
    pub fn delete(&self, id: &VolumeId) -> Result<()> {
        let _guard = self.lock(id)?;
        let Some(stored) = Records::<Volume>::of(&*self.catalog).load(id.as_str())? else {
            return Ok(());
        };
        self.delete_locked(stored)
    }

    /// Makes a volume larger in the pool; `size` is what the user can use, in bytes. One that is as large
    /// stays as it is. Returns the volume; where it is attached, [`grow`](Self::grow) shows the new size.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::Size`]; [`VolumeProblem::Short`] when its device has lost bytes.
    pub fn expand(&self, id: &VolumeId, size: u64) -> Result<Volume> {
        let _guard = self.lock(id)?;
        let mut stored = self.load_ready(id)?;
        if size <= stored.record.size {
            return Ok(stored.record);
        }
        check_size(id, size)?;
        let item = item(&stored.record);
        let recorded = device_len(stored.record.size, &stored.record.encryption);
        let found = self.pool.open(&item, Access::ReadOnly)?;
        let found = strongroom_disk::Disk::len(&found);
        if found < recorded {
            return Err(Error::volume(id, VolumeProblem::Short { recorded, found }));
        }
        self.pool.grow(&item, device_len(size, &stored.record.encryption))?;
        stored.record.size = size;
        Ok(Records::of(&*self.catalog).replace(stored)?.record)
    }

    /// Changes what can be tuned about a volume.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::NotFound`].
    pub fn tune(&self, id: &VolumeId, tuning: Tuning) -> Result<Volume> {
        let _guard = self.lock(id)?;
        let mut stored = self.load_ready(id)?;
        if stored.record.tuning == tuning {
            return Ok(stored.record);
        }
        stored.record.tuning = tuning;
        Ok(Records::of(&*self.catalog).replace(stored)?.record)
    }

    /// Changes a parameter of a volume, if it still has the value `from`. Returns the volume; `None` when the
    /// parameter has another value by now.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::NotFound`]; what the catalog says.
    pub fn change_parameter(
        &self,
        id: &VolumeId,
        key: &str,
        from: Option<&str>,
        to: &str,
    ) -> Result<Option<Volume>> {
        let _guard = self.lock(id)?;
        let mut stored = self.load_ready(id)?;
        if stored.record.parameters.get(key).map(String::as_str) != from {
            return Ok(None);
        }
        stored.record.parameters.insert(key.to_owned(), to.to_owned());
        Ok(Some(Records::of(&*self.catalog).replace(stored)?.record))
    }

    /// Returns a volume that can be used.
    pub(super) fn load_ready(&self, id: &VolumeId) -> Result<Stored<Volume>> {
        let stored = self.load(id)?;
        let by = match stored.record.condition {
            Condition::Ready => return Ok(stored),
            Condition::Creating => "it is still being made",
            Condition::Deleting => "it is being deleted",
        };
        Err(Error::volume(id, VolumeProblem::InUse { by: by.to_owned() }))
    }

    /// Returns the record of a volume that is about to be made.
    fn begin(&self, new: &NewVolume) -> Result<Volume> {
        let of_source = match &new.source {
            None => None,
            Some(source) => Some(self.check_source(new, source)?),
        };
        let copied = of_source.filter(|source| source.is_copied());
        Ok(Volume {
            id: new.id.clone(),
            size: new.size,
            encryption: new.encryption.clone(),
            format: copied.as_ref().map_or(FormatState::Blank, |source| source.format.clone()),
            file_system: copied.as_ref().and_then(|source| source.file_system),
            tuning: new.tuning,
            source: new.source.as_ref().map(ToString::to_string),
            parameters: new.parameters.clone(),
            created: crate::now(),
            grown_to: copied.as_ref().and_then(|source| source.grown_to),
            condition: Condition::Creating,
        })
    }

    /// Makes the bytes of a volume that is being made.
    fn fill_pool(
        &self,
        new: &NewVolume,
        mut stored: Stored<Volume>,
        progress: &dyn CopyProgress,
    ) -> Result<Stored<Volume>> {
        let item = item(&stored.record);
        let len = device_len(new.size, &new.encryption);
        let copied = match &new.source {
            None => false,
            Some(source) => {
                let of_source = self.check_source(new, source)?;
                of_source.is_copied() && {
                    if self.pool.entry(&item)?.is_none() {
                        self.copy_source(source, &item, progress)?;
                    }
                    if let Some(envelope) = key_record::load(&*self.catalog, &of_source.key)? {
                        key_record::store(
                            &*self.catalog,
                            &key_record::of_volume(&new.id),
                            &envelope,
                        )?;
                    }
                    true
                }
            }
        };
        if !copied {
            match self.pool.create(&item, len) {
                Err(error) if error.kind() == Pool::AlreadyExists => {}
                result => result?,
            }
        }
        self.pool.grow(&item, len)?;
        stored.record.condition = Condition::Ready;
        Ok(Records::of(&*self.catalog).replace(stored)?)
    }

    /// Deletes a volume of which the caller holds the lock.
    pub(super) fn delete_locked(&self, mut stored: Stored<Volume>) -> Result<()> {
        let id = stored.record.id.clone();
        if let Some(attachment) = self.load_attachment(&id)? {
            if self.appears(&attachment.record)? {
                let by = format!("it is {}: detach it first", attachment.record.describe());
                return Err(Error::volume(&id, VolumeProblem::InUse { by }));
            }
            self.take_down(&attachment)?;
        } else {
            self.clear_away(&id)?;
        }
        let records = Records::<Volume>::of(&*self.catalog);
        if stored.record.condition != Condition::Deleting {
            stored.record.condition = Condition::Deleting;
            stored = records.replace(stored)?;
        }
        // The data, then the key.
        self.pool.delete(&item(&stored.record))?;
        self.remove_header_backup(&id)?;
        key_record::remove(&*self.catalog, &key_record::of_volume(&id))?;
        Ok(records.remove(&stored)?)
    }

    /// Refuses a name under which the pool has bytes of which the catalog knows nothing.
    pub(super) fn refuse_bytes_of_another(&self, new: &NewVolume) -> Result<()> {
        let item = Item::Volume(new.id.clone());
        if self.pool.entry(&item)?.is_none() {
            return Ok(());
        }
        if self.pool.is_untouched(&item)? && self.pool.format_mark(&item)?.is_none() {
            // Nothing was ever in it.
            return Ok(self.pool.delete(&item)?);
        }
        let difference =
            "the pool has its bytes, of which the catalog knows nothing: the catalog is \
                          older than the volume"
                .to_owned();
        Err(Error::volume(&new.id, VolumeProblem::Exists { difference }))
    }
}

/// Refuses a size that no volume can have.
pub(super) fn check_size(id: &VolumeId, size: u64) -> Result<()> {
    let reason = if size == 0 {
        "it must have some".to_owned()
    } else if size > LARGEST {
        format!("the most is {LARGEST}")
    } else if !size.is_multiple_of(SIZE_UNIT) {
        format!("sizes are multiples of {SIZE_UNIT}")
    } else {
        return Ok(());
    };
    Err(Error::volume(id, VolumeProblem::Size { size, reason }))
}

/// Says in what a volume differs from the one that was asked for, and that is made of `source`.
pub(super) fn difference(
    found: &Volume,
    new: &NewVolume,
    source: Option<String>,
) -> Option<String> {
    if found.size != new.size {
        return Some(format!("has {} bytes, not {}", found.size, new.size));
    }
    if found.encryption != new.encryption {
        let (is, wanted) = (describe(&found.encryption), describe(&new.encryption));
        return Some(if is == wanted {
            "its key management system is another".to_owned()
        } else {
            format!("is {is}, not {wanted}")
        });
    }
    if found.source != source {
        let name = |source: Option<String>| source.unwrap_or("nothing".to_owned());
        return Some(format!("was made from {}, not {}", name(found.source.clone()), name(source)));
    }
    if found.parameters != new.parameters {
        let changed =
            new.parameters.iter().find(|(key, value)| found.parameters.get(*key) != Some(value));
        let gone = found.parameters.keys().find(|key| !new.parameters.contains_key(*key));
        let key = changed.map(|(key, _)| key).or(gone);
        return Some(format!("its parameter {} is another", key.map_or("?", String::as_str)));
    }
    None
}

/// Returns how something is encrypted, for people.
pub(super) fn describe(encryption: &VolumeEncryption) -> String {
    match encryption {
        VolumeEncryption::None => "not encrypted".to_owned(),
        VolumeEncryption::Passphrase => "encrypted with a passphrase".to_owned(),
        VolumeEncryption::Kms(request) => match &request.key_id {
            Some(key) => format!("encrypted under key {key} of a KMS ({})", request.kind),
            None => format!("encrypted under a key of a KMS ({})", request.kind),
        },
    }
}

/// The unit of sizes in bytes: the largest sector there is.
const SIZE_UNIT: u64 = 4096;

/// The most bytes of a volume: with a header in front, a file can still have them.
const LARGEST: u64 = (i64::MAX as u64 & !(SIZE_UNIT - 1)) - super::HEADER_LEN;
