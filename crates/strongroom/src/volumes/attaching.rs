//! Volumes made to appear on this machine, and the way back.

use std::path::{Path, PathBuf};

use strongroom_attach::file_system::{self, Found};
use strongroom_attach::loop_device::{self, Access};
use strongroom_attach::nbd::TlsFiles;
use strongroom_attach::{OpenedVolume, Step, dm, fuse, mount, nbd};
use strongroom_crypto::SectorSize;
use strongroom_disk::FormatPermit;
use strongroom_model::{FileSystem, VolumeId};

use super::ledger::{Ledger, Verdict, item};
use super::opening::{self, Forming, Opening};
use super::{
    AttachRequest, Attachment, AttachmentState, Backend, Condition, FormatState, Show, Volume,
    VolumeProblem, Volumes,
};
use crate::catalog::{Records, Stored};
use crate::{Error, Result, system_rng};

impl Volumes {
    /// Does what [`attach`](Self::attach) says. The caller holds the volume's lock.
    pub(super) fn attach_locked(
        &self,
        stored: Stored<Volume>,
        request: &AttachRequest<'_>,
    ) -> Result<Attachment> {
        let id = stored.record.id.clone();
        if stored.record.condition != Condition::Ready {
            let by = "it is still being made, or deleted".to_owned();
            return Err(Error::volume(&id, VolumeProblem::InUse { by }));
        }
        match self.load_attachment(&id)? {
            Some(earlier) => {
                if let Some(attachment) = self.standing(&earlier.record, request)? {
                    return Ok(attachment);
                }
                self.take_down(&earlier)?;
            }
            // A catalog that has forgotten it does not make it go away.
            None => self.clear_away(&id)?,
        }
        let backend = self.backend(&stored.record, request)?;
        let plan = Plan::of(self, &stored.record, backend, request)?;
        refuse_taken_place(&id, &request.show)?;
        let record = Attachment {
            volume: id,
            backend,
            show: request.show.clone(),
            read_only: request.access == Access::ReadOnly,
            steps: plan.steps.clone(),
            state: AttachmentState::Attaching,
            device: None,
            published: Vec::new(),
            boot: boot_id(),
        };
        let mut attachment = Records::of(&*self.catalog).insert(record)?;
        match self.make_appear(stored, request, &plan) {
            Ok(device) => {
                attachment.record.state = AttachmentState::Attached;
                attachment.record.device = device;
                Ok(Records::of(&*self.catalog).replace(attachment)?.record)
            }
            Err(error) => {
                // What is left in the way is undone by the next attempt or by detaching.
                let _ = self.take_down(&attachment);
                Err(error)
            }
        }
    }

    /// Undoes an attachment and forgets it.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::InUse`] when something of it is still used.
    pub(super) fn take_down(&self, stored: &Stored<Attachment>) -> Result<()> {
        let attachment = &stored.record;
        // Nothing of an earlier boot is left but what has taken its names since.
        if attachment.boot == boot_id() {
            let devices = devices(attachment)?;
            for target in &attachment.published {
                if shown_by(target, &devices)? {
                    mount::unmount(target).map_err(|error| in_use(&attachment.volume, error))?;
                }
            }
            for step in attachment.steps.iter().rev() {
                if let Step::Mount { target } = step {
                    // Whatever else is there is somebody else's.
                    if !shown_by(target, &devices)? {
                        continue;
                    }
                    // Whoever was killed while it was frozen cannot do this any more.
                    let _ = file_system::thaw(target);
                }
                step.undo().map_err(|error| in_use(&attachment.volume, error))?;
            }
        }
        Ok(Records::of(&*self.catalog).remove(stored)?)
    }

    pub(super) fn load_attachment(&self, id: &VolumeId) -> Result<Option<Stored<Attachment>>> {
        Ok(Records::of(&*self.catalog).load(id.as_str())?)
    }

    /// Returns an attachment that is what was asked for and works; `None` for one that is to be taken
    /// down.
    fn standing(
        &self,
        found: &Attachment,
        request: &AttachRequest<'_>,
    ) -> Result<Option<Attachment>> {
        if !works(found)? {
            return Ok(None);
        }
        let wanted_backend = [Backend::Auto, Backend::Direct, found.backend];
        let read_only = request.access == Access::ReadOnly;
        if found.show == request.show
            && found.read_only == read_only
            && wanted_backend.contains(&request.backend)
        {
            return Ok(Some(found.clone()));
        }
        let by = format!("it is attached already, {}", found.describe());
        Err(Error::volume(&found.volume, VolumeProblem::InUse { by }))
    }

    /// Chooses what makes the plaintext of a volume available.
    fn backend(&self, volume: &Volume, request: &AttachRequest<'_>) -> Result<Backend> {
        let no_way =
            |reason: String| Err(Error::volume(&volume.id, VolumeProblem::NoWay { reason }));
        if let Show::Nbd { .. } = request.show {
            return match request.backend {
                Backend::Auto | Backend::Nbd => Ok(Backend::Nbd),
                _ => no_way("an export over NBD is its own way: leave the backend out".to_owned()),
            };
        }
        if !volume.encryption.is_encrypted() {
            return Ok(Backend::Direct);
        }
        let missing = |support: strongroom_attach::Support| match support {
            strongroom_attach::Support::Usable => None,
            strongroom_attach::Support::Missing { what, remedy } => {
                Some(format!("{what} ({remedy})"))
            }
        };
        match request.backend {
            Backend::Nbd => no_way("NBD needs an address to serve at".to_owned()),
            Backend::Dm => match missing(dm::support()) {
                None => Ok(Backend::Dm),
                Some(reason) => no_way(reason),
            },
            Backend::Fuse => match missing(fuse::support()) {
                None => Ok(Backend::Fuse),
                Some(reason) => no_way(reason),
            },
            Backend::Auto | Backend::Direct => match missing(dm::support()) {
                None => Ok(Backend::Dm),
                Some(no_dm) => match missing(fuse::support()) {
                    None => Ok(Backend::Fuse),
                    Some(no_fuse) => no_way(format!("{no_dm}; {no_fuse}")),
                },
            },
        }
    }

    /// Opens a volume and carries a plan out. Returns the device or file with the plaintext.
    fn make_appear(
        &self,
        stored: Stored<Volume>,
        request: &AttachRequest<'_>,
        plan: &Plan,
    ) -> Result<Option<PathBuf>> {
        let ledger = self.ledger();
        if !stored.record.encryption.is_encrypted() {
            return self.make_plain_appear(&ledger, stored, request, plan);
        }
        let Opening { mut stored, volume, mut forming } =
            opening::open(&ledger, stored, request.opener, &self.policy)?;
        let is_mounted = matches!(request.show, Show::Mount { .. });
        let is_new = forming.is_some();
        // Whoever gets the device itself may write at once, so it must be whole before.
        if let Some(forming) = forming.take_if(|_| !is_mounted) {
            stored = forming.finish(&ledger, stored)?;
        }
        let device = plan.show_contents(self, &stored.record, &volume)?;
        plan.check_device(&stored.record, device.as_deref())?;
        if let Some(forming) = forming {
            stored = fill(&ledger, stored, forming, request, device.as_deref())?;
        }
        if is_new {
            // The volume is good without it; whoever asks for a report is told.
            let _ = self.back_up_header(&stored.record.id);
        }
        self.mount(stored, request, device.as_deref())?;
        Ok(device)
    }

    fn make_plain_appear(
        &self,
        ledger: &Ledger<'_>,
        stored: Stored<Volume>,
        request: &AttachRequest<'_>,
        plan: &Plan,
    ) -> Result<Option<PathBuf>> {
        if request.opener.is_some() {
            opening::check_opener(&stored.record, request.opener)?;
        }
        let mut stored = stored;
        let is_mounted = matches!(request.show, Show::Mount { .. });
        if !is_mounted {
            stored = ledger.hand_out_plain(stored)?;
        }
        let backing = ledger.pool.path(&item(&stored.record))?;
        let name = stored.record.id.to_string();
        let volume = OpenedVolume { name, backing, encrypted: None };
        let device = plan.show_contents(self, &stored.record, &volume)?;
        let Some(path) = device.as_deref() else { return Ok(None) };
        plan.check_device(&stored.record, Some(path))?;
        if let Show::Mount { file_system, .. } = &request.show {
            let uuid = random_uuid(&stored.record)?;
            let (open, verdict) = ledger.plain(stored, path, &uuid)?;
            stored = match verdict {
                Verdict::Format(grant) => {
                    let stored =
                        make_file_system(ledger, open, path, *file_system, &grant.contents)?;
                    ledger.finished(stored, &grant.uuid, None)?
                }
                Verdict::Open { unrecorded: Some(FormatState::Formatted { uuid, .. }), .. } => {
                    ledger.finished(open, &uuid, None)?
                }
                Verdict::Open { .. } => open,
            };
        }
        self.mount(stored, request, Some(path))?;
        Ok(device)
    }

    /// Checks and mounts the file system on a device, when that was asked for.
    fn mount(
        &self,
        mut stored: Stored<Volume>,
        request: &AttachRequest<'_>,
        device: Option<&Path>,
    ) -> Result<()> {
        let (Show::Mount { target, file_system, options }, Some(device)) = (&request.show, device)
        else {
            return Ok(());
        };
        let found = match file_system::probe(device)? {
            Found::FileSystem(found) if found == *file_system => found,
            Found::FileSystem(found) => {
                let (found, wanted) = (found.to_string(), file_system.to_string());
                let problem = VolumeProblem::OtherFileSystem { found, wanted };
                return Err(Error::volume(&stored.record.id, problem));
            }
            Found::Other(found) => {
                let problem = VolumeProblem::NoFileSystem { found: found.to_owned() };
                return Err(Error::volume(&stored.record.id, problem));
            }
            Found::Nothing => {
                let found = "nothing that anybody knows".to_owned();
                return Err(Error::volume(
                    &stored.record.id,
                    VolumeProblem::NoFileSystem { found },
                ));
            }
        };
        let read_only =
            request.access == Access::ReadOnly || options.iter().any(|option| option == "ro");
        let grows = !read_only && stored.record.grown_to != Some(stored.record.size);
        if !read_only {
            file_system::check(device, found)?;
        }
        // One that does not grow can be used as it is, and the report tells of it.
        let mut grown = grows && file_system::grow_unmounted(device, found).is_ok();
        let mut flags = options.clone();
        if read_only {
            flags.push("ro".to_owned());
        }
        if stored.record.tuning.discard && !flags.iter().any(|flag| flag == "discard") {
            flags.push("discard".to_owned());
        }
        mount::mount(device, target, found, &mount::Options { flags })?;
        // ext4 has grown already, which takes fewer rights while it is not mounted.
        if grown && found == FileSystem::Xfs {
            grown = file_system::grow(device, found, target).is_ok();
        }
        if grown {
            stored.record.file_system = Some(found);
            stored.record.grown_to = Some(stored.record.size);
            Records::of(&*self.catalog).replace(stored)?;
        }
        Ok(())
    }
}

/// What will be done to make a volume appear.
struct Plan {
    steps: Vec<Step>,
    backend: Backend,
    access: Access,
    tls: Option<TlsFiles>,
}

impl Plan {
    fn of(
        volumes: &Volumes,
        volume: &Volume,
        backend: Backend,
        request: &AttachRequest<'_>,
    ) -> Result<Self> {
        let backing = volumes.pool.path(&item(volume))?;
        let file = volumes.run.join(volume.id.as_str()).join(OPENED_FILE);
        let mut steps = match backend {
            Backend::Dm => vec![
                Step::LoopDevice { file: backing },
                Step::DmCrypt { name: volumes.mapping_name(&volume.id) },
            ],
            Backend::Fuse if loop_device::support().is_usable() => {
                vec![Step::FuseFile { file: file.clone() }, Step::LoopDevice { file }]
            }
            Backend::Fuse => vec![Step::FuseFile { file }],
            Backend::Nbd => match &request.show {
                Show::Nbd { address, .. } => {
                    vec![Step::NbdServer { address: address.clone(), backing }]
                }
                _ => Vec::new(),
            },
            Backend::Direct | Backend::Auto => vec![Step::LoopDevice { file: backing }],
        };
        if let Show::Mount { target, .. } = &request.show {
            if let [Step::FuseFile { .. }] = steps[..] {
                let reason = "a file system can be mounted only from a loop device, which is not \
                              there or needs root: attach it as a device or over NBD"
                    .to_owned();
                return Err(Error::volume(&volume.id, VolumeProblem::NoWay { reason }));
            }
            steps.push(Step::Mount { target: target.clone() });
        }
        let tls = match &request.show {
            Show::Nbd { tls, .. } => tls.clone(),
            _ => None,
        };
        Ok(Self { steps, backend, access: request.access, tls })
    }

    /// Checks that the loop device at the end is still that of its file: until somebody has it open,
    /// another program may free it, and a third one may get it.
    fn check_device(&self, volume: &Volume, device: Option<&Path>) -> Result<()> {
        let last = self.steps.iter().rev().find(|step| !matches!(step, Step::Mount { .. }));
        if let (Some(Step::LoopDevice { file }), Some(device)) = (last, device)
            && !loop_device::of(file)?.iter().any(|found| found == device)
        {
            let by = format!("somebody else has freed {}: try again", device.display());
            return Err(Error::volume(&volume.id, VolumeProblem::InUse { by }));
        }
        Ok(())
    }

    /// Makes the plaintext of an opened volume available. Returns the device or file that has it.
    fn show_contents(
        &self,
        volumes: &Volumes,
        record: &Volume,
        volume: &OpenedVolume,
    ) -> Result<Option<PathBuf>> {
        let mut device = None;
        for step in &self.steps {
            match step {
                Step::LoopDevice { file } => {
                    let sector = match &volume.encrypted {
                        Some(encrypted) => encrypted.payload.sector_size,
                        None => SectorSize::B512,
                    };
                    // dm-crypt decides by itself whether it may be written.
                    device = Some(loop_device::attach(file, sector, self.access)?);
                }
                Step::DmCrypt { name } => {
                    let (Some(below), Some(encrypted)) = (&device, &volume.encrypted) else {
                        continue;
                    };
                    let mapping = dm::open(name, below, encrypted, record.size, record.tuning)?;
                    device = Some(mapping);
                }
                Step::FuseFile { file } => {
                    volumes.make_run_folder(&record.id)?;
                    fuse::start(&volumes.launcher, volume, file, self.access)?;
                    device = Some(file.clone());
                }
                Step::NbdServer { address, .. } => {
                    let read_only = self.access == Access::ReadOnly;
                    let discard = record.tuning.discard;
                    let options = nbd::Options { read_only, discard, tls: self.tls.clone() };
                    nbd::start(&volumes.launcher, volume, address, &options)?;
                }
                Step::Mount { .. } => {}
            }
        }
        if self.backend == Backend::Nbd {
            return Ok(None);
        }
        Ok(device)
    }
}

/// Fills a volume that is being formatted, and finishes it.
fn fill(
    ledger: &Ledger<'_>,
    stored: Stored<Volume>,
    forming: Forming,
    request: &AttachRequest<'_>,
    device: Option<&Path>,
) -> Result<Stored<Volume>> {
    let stored = match (&request.show, device) {
        (Show::Mount { file_system, .. }, Some(device)) => {
            make_file_system(ledger, stored, device, *file_system, &forming.contents)?
        }
        _ => stored,
    };
    forming.finish(ledger, stored)
}

/// Makes the file system of a new volume, and waits until it is on the medium.
fn make_file_system(
    ledger: &Ledger<'_>,
    mut stored: Stored<Volume>,
    device: &Path,
    file_system: FileSystem,
    permit: &FormatPermit,
) -> Result<Stored<Volume>> {
    let uuid = match (&stored.record.format, stored.record.encryption.is_encrypted()) {
        (FormatState::Formatting { uuid }, false) => Some(uuid.clone()),
        _ => None,
    };
    file_system::make(device, file_system, uuid.as_deref(), permit)?;
    let failed = |source| {
        Error::Attach(strongroom_attach::Error::from_io(
            format!("cannot flush {}", device.display()),
            source,
        ))
    };
    std::fs::File::open(device).and_then(|file| file.sync_all()).map_err(failed)?;
    stored.record.file_system = Some(file_system);
    stored.record.grown_to = Some(stored.record.size);
    Ok(Records::of(ledger.catalog).replace(stored)?)
}

impl Attachment {
    /// Returns how the volume appears, for people.
    pub fn describe(&self) -> String {
        let access = if self.read_only { "read-only " } else { "" };
        match (&self.show, &self.device) {
            (Show::Mount { target, .. }, _) => format!("{access}mounted at {}", target.display()),
            (Show::Nbd { address, .. }, _) => format!("{access}exported over NBD at {address}"),
            (Show::Device, Some(device)) => format!("{access}as {}", device.display()),
            (Show::Device, None) => format!("{access}as a device"),
        }
    }
}

/// Returns whether everything that an attachment has made is there, works, and is its own.
pub(super) fn works(attachment: &Attachment) -> Result<bool> {
    if attachment.state != AttachmentState::Attached || attachment.boot != boot_id() {
        return Ok(false);
    }
    let devices = devices(attachment)?;
    if attachment.device.as_ref().is_some_and(|device| !devices.contains(device)) {
        return Ok(false);
    }
    for step in &attachment.steps {
        let is_own = match step {
            Step::Mount { target } => shown_by(target, &devices)?,
            _ => true,
        };
        if !is_own || !step.stands()? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the devices and files that the steps of an attachment have made, as they are now.
pub(super) fn devices(attachment: &Attachment) -> Result<Vec<PathBuf>> {
    let mut devices = Vec::new();
    for step in &attachment.steps {
        match step {
            Step::LoopDevice { file } => devices.extend(loop_device::of(file)?),
            Step::DmCrypt { name } => devices.extend(dm::find(name)?.map(|mapping| mapping.path)),
            Step::FuseFile { file } => devices.push(file.clone()),
            Step::NbdServer { .. } | Step::Mount { .. } => {}
        }
    }
    Ok(devices)
}

/// Returns whether what is mounted at `target` is one of these devices, or the file system on it.
pub(super) fn shown_by(target: &Path, devices: &[PathBuf]) -> Result<bool> {
    for device in devices {
        if mount::shows(target, device)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses a place at which something is already: it would be taken for this volume's.
fn refuse_taken_place(id: &VolumeId, show: &Show) -> Result<()> {
    let by = match show {
        Show::Mount { target, .. } if mount::is_mounted(target)? => {
            format!("something is mounted at {} already", target.display())
        }
        Show::Nbd { address, .. } if nbd::serves(address)? => {
            format!("a server is at {address} already")
        }
        _ => return Ok(()),
    };
    Err(Error::volume(id, VolumeProblem::InUse { by }))
}

pub(super) fn in_use(id: &VolumeId, error: strongroom_attach::Error) -> Error {
    if error.kind() == strongroom_attach::ErrorKind::Busy {
        let mut by = error.to_string();
        if let Some(hint) = error.hint() {
            by = format!("{by} ({hint})");
        }
        return Error::volume(id, VolumeProblem::InUse { by });
    }
    error.into()
}

/// Returns the identifier of this boot of the machine.
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
}

/// Returns a new UUID for a file system.
pub(super) fn random_uuid(volume: &Volume) -> Result<String> {
    let mut options = strongroom_luks::FormatOptions::new(strongroom_luks::Version::Luks2);
    let label = format!("volume {}", volume.id);
    options.settle_uuid(&mut system_rng()).map_err(Error::luks(&label))
}

/// The file that shows the plaintext of a volume, in its folder.
pub(super) const OPENED_FILE: &str = "volume";
