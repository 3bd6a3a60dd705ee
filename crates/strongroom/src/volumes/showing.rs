//! What others ask for while a volume appears on this machine.

use std::fs;
use std::io::ErrorKind as Io;
use std::path::Path;

use strongroom_attach::loop_device::{self, Access};
use strongroom_attach::{Step, dm, file_system, mount};
use strongroom_model::VolumeId;
use strongroom_pool::Item;

use super::attaching::{devices, in_use, shown_by, works};
use super::{AttachRequest, Attachment, Show, VolumeProblem, Volumes};
use crate::catalog::{Records, Stored};
use crate::{Error, Result};

impl Volumes {
    /// Makes a volume appear on this machine: formats it when it never was, opens it, checks and mounts
    /// its file system. One that appears already in the same way is returned as it is.
    ///
    /// # Errors
    ///
    /// Each [`VolumeProblem`] of the ledger; what the key or the KMS says; [`VolumeProblem::InUse`] when it
    /// appears in another way.
    pub fn attach(&self, id: &VolumeId, request: &AttachRequest<'_>) -> Result<Attachment> {
        let _guard = self.lock(id)?;
        self.attach_locked(self.load(id)?, request)
    }

    /// Undoes whatever makes a volume appear on this machine, whoever did it and however far they got. It
    /// needs no key. A volume that does not appear, or that nobody knows, succeeds.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::InUse`] when somebody still uses it.
    pub fn detach(&self, id: &VolumeId) -> Result<()> {
        let _guard = self.lock(id)?;
        match self.load_attachment(id)? {
            Some(stored) => {
                if let Some(target) = self.published_at(&stored.record)? {
                    let by = format!("it is published at {}", target.display());
                    return Err(Error::volume(id, VolumeProblem::InUse { by }));
                }
                self.take_down(&stored)?;
            }
            None => self.clear_away(id)?,
        }
        // Nothing is left in it; where something is, it stays.
        let _ = fs::remove_dir(self.run.join(id.as_str()));
        Ok(())
    }

    /// Returns how a volume appears on this machine; `None` when it does not.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn attachment(&self, id: &VolumeId) -> Result<Option<Attachment>> {
        let found = self.load_attachment(id)?.map(|stored| stored.record);
        Ok(match found {
            Some(found) if self.appears(&found)? => Some(found),
            _ => None,
        })
    }

    /// Lets what is attached on this machine grow to the size of the volume: devices, then the file
    /// system. It needs no key while the volume is attached. Returns the size in bytes.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::NotAttached`].
    pub fn grow(&self, id: &VolumeId) -> Result<u64> {
        let _guard = self.lock(id)?;
        let mut volume = self.load_ready(id)?;
        let attachment = self.load_attached(id)?.record;
        for step in &attachment.steps {
            match step {
                Step::LoopDevice { file } => loop_device::refresh(file)?,
                Step::DmCrypt { name } => dm::resize(name, volume.record.size)?,
                // It asks for the length of what lies below each time.
                Step::FuseFile { .. } => {}
                Step::NbdServer { address, .. } => {
                    let by = format!(
                        "clients of {address} learn of a new size only when it is attached anew"
                    );
                    return Err(Error::volume(id, VolumeProblem::InUse { by }));
                }
                Step::Mount { .. } => {}
            }
        }
        if let (Show::Mount { target, file_system, .. }, Some(device), false) =
            (&attachment.show, &attachment.device, attachment.read_only)
        {
            file_system::grow(device, *file_system, target)?;
            volume.record.grown_to = Some(volume.record.size);
            volume = Records::of(&*self.catalog).replace(volume)?;
        }
        Ok(volume.record.size)
    }

    /// Returns how a volume appears on this machine, when it does so as somebody wants it; `None` when it
    /// does not, or not as a whole.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn attached_as(
        &self,
        id: &VolumeId,
        show: &Show,
        access: Access,
    ) -> Result<Option<Attachment>> {
        let found = self.load_attachment(id)?.map(|stored| stored.record);
        Ok(match found {
            Some(found)
                if found.show == *show
                    && found.read_only == (access == Access::ReadOnly)
                    && works(&found)? =>
            {
                Some(found)
            }
            _ => None,
        })
    }

    /// Shows an attached volume at one more place: its mount at a directory, its device at a file. The
    /// place is made when it is not there. The same again succeeds.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::NotAttached`].
    pub fn publish(
        &self,
        id: &VolumeId,
        target: &Path,
        access: Access,
        options: &[String],
    ) -> Result<()> {
        let _guard = self.lock(id)?;
        let mut stored = self.load_attached(id)?;
        let source = match (&stored.record.show, &stored.record.device) {
            (Show::Mount { target, .. }, _) => target.clone(),
            (Show::Device, Some(device)) => device.clone(),
            _ => {
                let reason = "an export over NBD has no place".to_owned();
                return Err(Error::volume(id, VolumeProblem::NoWay { reason }));
            }
        };
        if let (Show::Device, Access::ReadOnly, false) =
            (&stored.record.show, access, stored.record.read_only)
        {
            let reason =
                "its device is writable, whatever a file that leads to it allows: attach it \
                          read-only"
                    .to_owned();
            return Err(Error::volume(id, VolumeProblem::NoWay { reason }));
        }
        make_place(target, matches!(stored.record.show, Show::Mount { .. }))?;
        let devices = devices(&stored.record)?;
        if mount::is_mounted(target)? && !shown_by(target, &devices)? {
            let by = format!("something else is mounted at {}", target.display());
            return Err(Error::volume(id, VolumeProblem::InUse { by }));
        }
        if !stored.record.published.iter().any(|known| known == target) {
            stored.record.published.push(target.to_owned());
            Records::of(&*self.catalog).replace(stored)?;
        }
        let mut flags = options.to_vec();
        if access == Access::ReadOnly {
            // The last word wins.
            flags.push("ro".to_owned());
        }
        Ok(mount::bind(&source, target, &mount::Options { flags })?)
    }

    /// Undoes [`publish`](Self::publish), and removes the place. What was never published succeeds.
    ///
    /// # Errors
    ///
    /// When it cannot be unmounted.
    pub fn unpublish(&self, id: &VolumeId, target: &Path) -> Result<()> {
        let _guard = self.lock(id)?;
        let stored = self.load_attachment(id)?;
        let is_known = stored
            .as_ref()
            .is_some_and(|stored| stored.record.published.iter().any(|known| known == target));
        if mount::is_mounted(target)? {
            let is_shown = match &stored {
                Some(stored) => shown_by(target, &devices(&stored.record)?)?,
                None => false,
            };
            // A mount that is dead is of nobody any more.
            let is_dead = is_known && !mount::answers(target)?;
            if !is_shown && !is_dead {
                let by = format!("what is mounted at {} is not this volume", target.display());
                return Err(Error::volume(id, VolumeProblem::InUse { by }));
            }
            mount::unmount(target).map_err(|error| in_use(id, error))?;
        }
        remove_place(target)?;
        if let Some(mut stored) = stored
            && is_known
        {
            stored.record.published.retain(|known| known != target);
            Records::of(&*self.catalog).replace(stored)?;
        }
        Ok(())
    }

    /// Returns whether anything of an attachment is there.
    pub(super) fn appears(&self, attachment: &Attachment) -> Result<bool> {
        if attachment.boot != super::attaching::boot_id() {
            return Ok(false);
        }
        for step in &attachment.steps {
            if step.stands()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn load_attached(&self, id: &VolumeId) -> Result<Stored<Attachment>> {
        if let Some(stored) = self.load_attachment(id)?
            && works(&stored.record)?
        {
            return Ok(stored);
        }
        self.load(id)?;
        Err(Error::volume(id, VolumeProblem::NotAttached))
    }

    /// Returns where an attachment is still published.
    fn published_at<'a>(&self, attachment: &'a Attachment) -> Result<Option<&'a Path>> {
        let devices = devices(attachment)?;
        for target in &attachment.published {
            if shown_by(target, &devices)? {
                return Ok(Some(target));
            }
        }
        Ok(None)
    }

    /// Undoes what an attachment of which the catalog knows nothing may have left.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::InUse`] when somebody still uses it.
    pub(super) fn clear_away(&self, id: &VolumeId) -> Result<()> {
        let file = self.run.join(id.as_str()).join(super::attaching::OPENED_FILE);
        let mut steps = vec![
            Step::DmCrypt { name: self.mapping_name(id) },
            Step::LoopDevice { file: file.clone() },
            Step::FuseFile { file },
        ];
        if let Ok(backing) = self.pool.path(&Item::Volume(id.clone())) {
            steps.push(Step::LoopDevice { file: backing });
        }
        for step in steps {
            step.undo().map_err(|error| in_use(id, error))?;
        }
        Ok(())
    }
}

/// Makes the directory or file at which something will be shown.
fn make_place(target: &Path, directory: bool) -> Result<()> {
    let made = if directory {
        fs::create_dir(target)
    } else {
        fs::OpenOptions::new().write(true).create_new(true).open(target).map(drop)
    };
    match made {
        Err(error) if error.kind() != Io::AlreadyExists => Err(strongroom_attach::Error::from_io(
            format!("cannot make {}", target.display()),
            error,
        )
        .into()),
        _ => Ok(()),
    }
}

/// Removes a place at which nothing is shown any more: an empty directory or file.
fn remove_place(target: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(target) {
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir(target),
        Ok(found) if found.is_file() && found.len() == 0 => fs::remove_file(target),
        Ok(_) => Ok(()),
    };
    match removed {
        Err(error) if error.kind() != Io::NotFound => {
            let problem = format!("cannot remove {}", target.display());
            Err(strongroom_attach::Error::from_io(problem, error).into())
        }
        _ => Ok(()),
    }
}
