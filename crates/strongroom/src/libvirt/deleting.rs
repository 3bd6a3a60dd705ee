//! Volumes deleted: their data first, then what opened it.

use std::fs::File;
use std::path::Path;

use strongroom_disk::{LockMode, Raw};
use strongroom_model::dialect::libvirt::SecretName;

use super::creating::subject;
use super::directory::VolumePath;
use super::records::{VolumeRecord, VolumeStage};
use super::session::{self, Session, all};
use super::{Libvirt, LibvirtProblem, VolumeName, opening};
use crate::{Error, Result};

/// What becomes of the secret that was made for a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretFate {
    /// It stays: copies of the volume need it.
    Keep,
    /// It goes after the volume, unless others need it.
    Remove,
}

/// A volume that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// Its path.
    pub path: String,
    /// The secret that went with it.
    pub removed_secret: Option<String>,
    /// The secret that was made for it and stays.
    pub kept_secret: Option<String>,
}

impl Libvirt {
    /// Deletes a volume: its file, then, if `fate` says so, the secret that was made for it. What a call has
    /// left undone that was killed, the next one does. A volume whose file is gone without that is forgotten,
    /// and its secret stays: the file may be where nobody sees it now.
    ///
    /// # Errors
    ///
    /// When it is not known, or in use, or another one needs it; [`LibvirtProblem::FileGone`] when its secret
    /// would go and nobody knows what became of its file.
    pub fn delete(&self, name: &VolumeName, fate: SecretFate) -> Result<Deleted> {
        let (path, _) = self.recorded(name)?;
        let _lock = self.lock(&path)?;
        let (_, record) = self.recorded(name)?;
        self.refuse_backing(&path)?;
        match opening::volume_file(&record) {
            Ok(file) => self.remove_file(&path, &record, &file)?,
            Err(error) if is_gone(&error) => {
                if record.stage == VolumeStage::Made && fate == SecretFate::Remove {
                    return Err(error);
                }
                self.session(|session| session.record("delete", &subject(path.as_str()), ""))?;
            }
            Err(error) => return Err(error),
        }
        self.session(|session| {
            let (removed_secret, kept_secret) = match &record.generated {
                None => (None, None),
                Some(uuid)
                    if fate == SecretFate::Remove && remove_secret(session, uuid, &record)? =>
                {
                    (Some(uuid.clone()), None)
                }
                Some(uuid) => (None, Some(uuid.clone())),
            };
            session.remove_volume(path.as_str())?;
            Ok(Deleted { path: path.as_str().to_owned(), removed_secret, kept_secret })
        })
    }

    /// Removes the file of a volume, durably. From its mark a later call knows that it may be gone.
    fn remove_file(&self, path: &VolumePath, record: &VolumeRecord, file: &Raw) -> Result<()> {
        let _in_use = file.try_lock_image(LockMode::Exclusive)?;
        let marked = |stage| VolumeRecord { stage, ..record.clone() };
        self.session(|session| {
            session.record("delete", &subject(path.as_str()), "")?;
            session.put_volume(marked(VolumeStage::Deleting))
        })?;
        let path = path.as_path();
        if let Err(error) = std::fs::remove_file(path) {
            // It is there as before; where this fails as well, the next call goes on.
            let _ = self.session(|session| session.put_volume(marked(VolumeStage::Made)));
            return Err(opening::failed(path)(error));
        }
        let folder = path.parent().unwrap_or(path);
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(opening::failed(path))
    }

    /// Refuses to take its data from a volume that others have as their backing store.
    pub(super) fn refuse_backing(&self, path: &VolumePath) -> Result<()> {
        let mut volumes = Vec::new();
        for stored in all::<VolumeRecord>(&*self.catalog()?)? {
            let record = stored.record;
            let overlay = Path::new(&record.path);
            // What cannot be read names nothing, and must not stand in the way of others.
            let Ok(Some(backing)) = record.backing_path() else { continue };
            let backing = backing.canonicalize().unwrap_or(backing);
            let was_made = record.stage != VolumeStage::Begun || overlay.symlink_metadata().is_ok();
            if was_made && !record.wiped && backing == path.as_path() {
                volumes.push(record.path);
            }
        }
        match volumes.is_empty() {
            true => Ok(()),
            false => {
                let path = path.as_str().to_owned();
                Err(Error::libvirt(LibvirtProblem::BackingStore { path, volumes }))
            }
        }
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Libvirt(problem) if matches!(**problem, LibvirtProblem::FileGone { .. }))
}

/// Takes away the secret that was made for a volume, which is gone, if nothing else needs it. Tells whether
/// it did.
fn remove_secret(session: &Session<'_>, uuid: &str, record: &VolumeRecord) -> Result<bool> {
    let Some(stored) = session.find(&SecretName::Uuid(uuid.to_owned()))? else { return Ok(true) };
    let is_ours = stored.record.generated_for.as_deref() == Some(&record.path);
    let mut others = session.opened_by(&stored.record)?;
    others.retain(|path| *path != record.path);
    if !is_ours || !others.is_empty() {
        return Ok(false);
    }
    let detail = format!("volume {} is deleted", record.path);
    session.record("undefine", &session::subject(uuid), &detail)?;
    session.remove_secret(&stored)?;
    Ok(true)
}
