//! Volumes deleted: their data first, then what opened it.

use std::fs::File;

use strongroom_disk::{Access, LockMode, Raw};
use strongroom_model::dialect::libvirt::SecretName;

use super::creating::subject;
use super::directory::VolumePath;
use super::records::VolumeRecord;
use super::session::{self, Session};
use super::{Libvirt, VolumeName, opening};
use crate::Result;

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
    /// left undone that was killed, the next one does.
    ///
    /// # Errors
    ///
    /// When it is not known, or in use.
    pub fn delete(&self, name: &VolumeName, fate: SecretFate) -> Result<Deleted> {
        let (path, record) = self.recorded(name)?;
        let _lock = self.lock(&path)?;
        self.session(|session| session.record("delete", &subject(path.as_str()), ""))?;
        remove_file(&path)?;
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
}

/// Removes the file of a volume, durably. One that is gone is fine.
fn remove_file(path: &VolumePath) -> Result<()> {
    let path = path.as_path();
    let failed = opening::failed(path);
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(&failed)?,
    };
    let file = Raw::open(path, Access::ReadWrite)?;
    let _in_use = file.try_lock_image(LockMode::Exclusive)?;
    std::fs::remove_file(path).map_err(&failed)?;
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
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
