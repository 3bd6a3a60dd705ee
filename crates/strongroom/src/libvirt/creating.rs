//! Volumes made as libvirt's storage driver makes them.

use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, Gid, Mode, Uid};
use strongroom_crypto::Passphrase;
use strongroom_disk::{Disk, NewFile, Overwrite, Raw};
use strongroom_model::dialect::libvirt::{
    Creation, EncryptionFormat, Permissions, SecretName, SecretReference, Volume, VolumeFormat,
};
use strongroom_model::{EncryptionRequest, ExistingTarget, ImageFormat};

use super::directory::VolumePath;
use super::plan::{Encrypting, Plan, rounded};
use super::records::{VolumeRecord, VolumeStage};
use super::secrets::why_no_text;
use super::session::{Opened, Session};
use super::{Libvirt, LibvirtProblem, describing, opening};
use crate::encryption::managed;
use crate::images::Work;
use crate::new_image::{Finish, NewImageRequest, Space, create_with};
use crate::{Error, OwnedNewKey, Result};

/// A volume that somebody wants.
#[derive(Debug, Clone)]
pub struct NewVolume<'a> {
    /// The document.
    pub document: &'a Volume,
    /// The directory of its pool; where there is none, the document says where it goes.
    pub pool: Option<&'a Path>,
    /// What deriving its key costs; only what is about that counts. Where nothing is said, it is our usual
    /// cost for a value that somebody has chosen, and the least for one that was made here.
    pub derivation: EncryptionRequest,
    /// The job that makes it, by which a second run of it knows that it is done.
    pub job: Option<&'a str>,
}

/// A volume that was made.
#[derive(Debug)]
pub struct Made {
    /// Its document, with the secret that opens it.
    pub document: Volume,
    /// Its file.
    pub path: PathBuf,
    /// The secret whose value was made for it.
    pub generated: Option<String>,
    /// What the document asks for that was not done.
    pub notes: Vec<String>,
}

/// What is known of a volume before there is a file.
pub(super) struct Prepared {
    record: VolumeRecord,
    /// What will open it, with how it is encrypted.
    pub(super) key: Option<(Passphrase, EncryptionRequest)>,
    /// Whether the secret is of this call.
    is_new_secret: bool,
}

impl Libvirt {
    /// Makes the volume of a document. Where the secret that it names is not there, or it names none, one
    /// is made.
    ///
    /// # Guarantees
    ///
    /// - A file that is there is never replaced, and what was made has its name when it is whole.
    /// - The value of a secret that was made here was stored and read back before the first byte was
    ///   encrypted.
    /// - LUKS in a raw file is not written but for its header, unless the document asks for its allocation:
    ///   what nobody has written reads as noise, as with libvirt.
    ///
    /// # Errors
    ///
    /// When no such volume can be made; [`LibvirtProblem::VolumeExists`].
    pub fn create(&self, new: &NewVolume<'_>, work: &Work<'_>) -> Result<Made> {
        let plan = Plan::of(new.document, new.pool, Creation::New)?;
        let capacity = capacity(new.document, &plan)?;
        self.make(new, &plan, |key, finish| match (plan.format, key) {
            (ImageFormat::Raw, _) => write_raw(plan.path.as_path(), capacity, finish),
            (format, key) => {
                let (passphrase, encryption) = match key {
                    Some((passphrase, encryption)) => (Some(passphrase), encryption),
                    None => (None, EncryptionRequest::default()),
                };
                let request = NewImageRequest {
                    path: plan.path.as_path().to_owned(),
                    format,
                    size: capacity,
                    encryption,
                    layout: plan.layout.clone(),
                    backing: plan.backing.clone(),
                    existing: ExistingTarget::Refuse,
                };
                let key = passphrase.map(OwnedNewKey::Passphrase);
                create_with(&request, Space::Unwritten, key, work, finish).map(|_| ())
            }
        })
    }

    /// Makes a volume whose file `write` makes, which must not be there. What `write` is given is to be done
    /// to the file before it has its name.
    pub(super) fn make(
        &self,
        new: &NewVolume<'_>,
        plan: &Plan,
        write: impl FnOnce(Option<(Passphrase, EncryptionRequest)>, Finish<'_>) -> Result<()>,
    ) -> Result<Made> {
        let path = &plan.path;
        let _lock = self.lock(path)?;
        let mut prepared = self.session(|session| prepare(session, new, plan))?;
        let key = prepared.key.take();
        // Which file it is, and whose, is known before it has its name: no other file is taken for it.
        let finish = |file: &Raw| {
            settle(file, new.document, plan.format)?;
            let (_, inode) = file.identity()?;
            let job = new.job.map(str::to_owned);
            let record = VolumeRecord { inode: Some(inode), job, ..prepared.record.clone() };
            self.session(|session| session.put_volume(record))
        };
        let made = write(key, &finish).and_then(|()| self.session(|session| keep(session, path)));
        if let Err(error) = made {
            // What stays is found by whoever makes it again.
            let _ = self.session(|session| abandon(session, &prepared));
            return Err(match error {
                Error::Disk(error) if error.kind() == strongroom_disk::ErrorKind::AlreadyExists => {
                    let path = path.as_str().to_owned();
                    Error::libvirt(LibvirtProblem::VolumeExists { path })
                }
                error => error,
            });
        }
        let document = describing::document(&prepared.record)?;
        Ok(Made {
            document,
            path: path.as_path().to_owned(),
            generated: prepared.record.generated,
            notes: plan.notes.clone(),
        })
    }
}

impl Libvirt {
    /// Returns the volume that an earlier run of the same job has made.
    pub(super) fn made_before(&self, new: &NewVolume<'_>, plan: &Plan) -> Result<Option<Made>> {
        let Some(job) = new.job else { return Ok(None) };
        let path = plan.path.as_path();
        match self.known(&super::VolumeName::Path(path.to_owned())) {
            Ok(known)
                if known.record.job.as_deref() == Some(job)
                    && known.record.inode == opening::inode_at(path) =>
            {
                self.session(|session| keep(session, &plan.path))?;
                Ok(Some(Made {
                    document: describing::document(&known.record)?,
                    path: path.to_owned(),
                    generated: known.record.generated,
                    notes: Vec::new(),
                }))
            }
            _ => Ok(None),
        }
    }
}

/// Settles what opens the volume, and keeps what is known of it. Until its file is there it is no volume.
fn prepare(session: &Session<'_>, new: &NewVolume<'_>, plan: &Plan) -> Result<Prepared> {
    let path = plan.path.as_str();
    if plan.path.as_path().symlink_metadata().is_ok() {
        return Err(Error::libvirt(LibvirtProblem::VolumeExists { path: path.to_owned() }));
    }
    if session.volume(path)?.is_some_and(|stored| stored.record.stage == VolumeStage::Made) {
        return Err(Error::libvirt(LibvirtProblem::FileGone { path: path.to_owned() }));
    }
    let mut document = written(new.document, plan);
    let (mut key, mut generated, mut is_new_secret) = (None, None, false);
    if let Some(encrypting) = &plan.encryption {
        let (opened, is_new) = secret_for(session, encrypting, path)?;
        let Opened { uuid, value } = opened;
        let is_ours = session.find(&SecretName::Uuid(uuid.clone()))?.is_some_and(|stored| {
            session.values.is_none() && stored.record.generated_for.as_deref() == Some(path)
        });
        generated = is_ours.then(|| uuid.clone());
        is_new_secret = is_new;
        check_text(document.target.encryption.as_ref().map(|one| one.format), &uuid, &value)?;
        if let Some(encryption) = &mut document.target.encryption
            && encryption.secrets.is_empty()
        {
            encryption.secrets.push(SecretReference { name: SecretName::Uuid(uuid) });
        }
        let request = derived(&encrypting.request, &new.derivation, is_ours)?;
        key = Some((value, request));
    }
    let record = VolumeRecord {
        path: path.to_owned(),
        document: document.write(),
        format: plan.format.to_string(),
        generated,
        wiped: false,
        job: None,
        openers: None,
        inode: None,
        stage: VolumeStage::Begun,
    };
    session.record("create", &subject(path), &format!("format {}", plan.format))?;
    session.put_volume(record.clone())?;
    Ok(Prepared { record, key, is_new_secret })
}

/// Returns what opens a volume: what its document names, what is for its path, or what is made now. Tells
/// whether it was.
fn secret_for(
    session: &Session<'_>,
    encrypting: &Encrypting,
    path: &str,
) -> Result<(Opened, bool)> {
    let by_path = SecretName::Usage(path.to_owned());
    let name = encrypting.secret.as_ref().unwrap_or(&by_path);
    if session.values.is_some() && encrypting.secret.is_none() {
        return Err(Error::libvirt(LibvirtProblem::Impossible {
            name: path.to_owned(),
            what: "be encrypted",
            reason: "its document names no secret whose value the daemon could tell".to_owned(),
        }));
    }
    match (session.open(name, path), name) {
        (Ok(opened), _) => Ok((opened, false)),
        (Err(Error::Libvirt(problem)), name) if session.values.is_none() => {
            match (*problem, name) {
                (LibvirtProblem::NoSecret { .. }, SecretName::Uuid(uuid)) => {
                    Ok((session.generate(Some(uuid), path)?, true))
                }
                (LibvirtProblem::NoSecret { .. }, SecretName::Usage(usage)) => {
                    Ok((session.generate_for_usage(usage, path)?, true))
                }
                (problem, _) => Err(Error::libvirt(problem)),
            }
        }
        (Err(error), _) => Err(error),
    }
}

/// Notes that the file of a volume has its name.
fn keep(session: &Session<'_>, path: &VolumePath) -> Result<()> {
    let Some(mut stored) = session.volume(path.as_str())? else { return Ok(()) };
    stored.record.stage = VolumeStage::Made;
    session.put_volume(stored.record)
}

/// Takes back what was kept of a volume that has not come about, whoever has made a file of that name
/// meanwhile. Nothing was encrypted with a secret of this call that anybody could have.
fn abandon(session: &Session<'_>, prepared: &Prepared) -> Result<()> {
    let VolumeRecord { path, generated, .. } = &prepared.record;
    let inode = session.volume(path)?.and_then(|stored| stored.record.inode);
    if inode.is_some() && inode == opening::inode_at(Path::new(path)) {
        return Ok(());
    }
    session.remove_volume(path)?;
    let Some(uuid) = generated.as_ref().filter(|_| prepared.is_new_secret) else { return Ok(()) };
    if let Some(stored) = session.find(&SecretName::Uuid(uuid.clone()))?
        && session.opened_by(&stored.record)?.is_empty()
    {
        session.record("undefine", &super::session::subject(uuid), "the volume was not made")?;
        session.remove_secret(&stored)?;
    }
    Ok(())
}

/// Returns how a volume is encrypted, with what somebody said of key derivation.
fn derived(
    request: &EncryptionRequest,
    said: &EncryptionRequest,
    is_random: bool,
) -> Result<EncryptionRequest> {
    let is_said = said.pbkdf.is_some()
        || said.pbkdf_iterations.is_some()
        || said.pbkdf_memory_kib.is_some()
        || said.pbkdf_parallel.is_some();
    if !is_said {
        return if is_random { managed(request) } else { Ok(request.clone()) };
    }
    Ok(EncryptionRequest {
        pbkdf: said.pbkdf,
        pbkdf_iterations: said.pbkdf_iterations,
        pbkdf_memory_kib: said.pbkdf_memory_kib,
        pbkdf_parallel: said.pbkdf_parallel,
        ..request.clone()
    })
}

/// Refuses a value that QEMU would not take for a volume that QEMU is to open.
fn check_text(format: Option<EncryptionFormat>, uuid: &str, value: &Passphrase) -> Result<()> {
    match why_no_text(value) {
        Some(problem) if format == Some(EncryptionFormat::Luks) => {
            let uuid = uuid.to_owned();
            Err(Error::libvirt(LibvirtProblem::NotText { uuid, problem }))
        }
        _ => Ok(()),
    }
}

/// Returns the document of a volume as it is kept: with the path that it has.
pub(super) fn written(document: &Volume, plan: &Plan) -> Volume {
    let mut document = document.clone();
    document.kind = Some("file".to_owned());
    document.key = Some(plan.path.as_str().to_owned());
    document.target.path = Some(plan.path.as_str().to_owned());
    document.target.format = Some(match plan.format.is_qcow2() {
        true => VolumeFormat::Qcow2,
        false => VolumeFormat::Raw,
    });
    // They are the file's, and change.
    document.target.unknown.retain(|element| element.name != "timestamps");
    document
}

/// Returns the capacity that a document asks for.
fn capacity(document: &Volume, plan: &Plan) -> Result<u64> {
    let backing = match (&plan.backing, document.capacity) {
        (Some(backing), None) => {
            let path = Path::new(&backing.name);
            let format = if backing.format.as_deref() == Some("qcow2") {
                ImageFormat::Qcow2
            } else {
                ImageFormat::Raw
            };
            Some(describing::measure(path, format)?.capacity)
        }
        _ => None,
    };
    let asked = document.capacity.or(backing).ok_or_else(|| {
        Error::libvirt(LibvirtProblem::Impossible {
            name: document.name.clone(),
            what: "be made",
            reason: "its document has no <capacity>".to_owned(),
        })
    })?;
    let is_raw = plan.format == ImageFormat::Raw;
    // A raw file holds what is allocated.
    let least = document.allocation.filter(|_| is_raw).unwrap_or(0);
    Ok(rounded(asked.max(least), plan.format))
}

fn write_raw(path: &Path, capacity: u64, finish: Finish<'_>) -> Result<()> {
    // Nothing is formatted with this permit: a raw volume has no header.
    let (file, _permit) = NewFile::create(path, Overwrite::Refuse, &[])?;
    file.disk().set_len(capacity)?;
    finish(file.disk())?;
    Ok(file.commit()?)
}

/// Gives a new file the space and the permissions that its document asks for.
fn settle(file: &Raw, document: &Volume, format: ImageFormat) -> Result<()> {
    let failed = opening::failed(Path::new(file.label()));
    let len = file.len();
    let space = match format {
        // As the storage driver does: what is not said is the capacity.
        ImageFormat::Raw => document.allocation.unwrap_or(len).min(len),
        ImageFormat::Luks1 | ImageFormat::Luks2 => document.allocation.unwrap_or(0).min(len),
        ImageFormat::Qcow2 | ImageFormat::Qcow2Luks => 0,
    };
    if space > 0 {
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, space) {
            // A file system without it has no holes, or fills them when they are written.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    permit(file, document.target.permissions.as_ref()).map_err(&failed)
}

/// Gives a file the mode and the owner of a document.
fn permit(file: &Raw, permissions: Option<&Permissions>) -> std::io::Result<()> {
    let Some(permissions) = permissions else { return Ok(()) };
    let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let (owner, group) = (number(permissions.owner), number(permissions.group));
    if owner.is_some() || group.is_some() {
        rustix::fs::fchown(file, owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
    }
    if let Some(mode) = permissions.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o777))?;
    }
    Ok(())
}

/// Returns what the audit log calls a volume.
pub(super) fn subject(path: &str) -> String {
    format!("libvirt/volumes {path}")
}
