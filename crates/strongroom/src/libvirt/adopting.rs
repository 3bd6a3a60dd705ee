//! Volumes that others have made, taken over by their documents.

use strongroom_crypto::{CostPolicy, Passphrase};
use strongroom_disk::{Access, Raw, Slice};
use strongroom_luks::Version;
use strongroom_model::ImageFormat;
use strongroom_model::dialect::libvirt::{Creation, SecretName, SecretReference, Volume};

use super::creating::{subject, written};
use super::plan::Plan;
use super::records::{VolumeRecord, VolumeStage};
use super::session::Session;
use super::{Libvirt, LibvirtProblem, Made, NewVolume, backing, describing, opening};
use crate::device::{self, Device};
use crate::{Error, Result, images, qcow2_image};

impl Libvirt {
    /// Takes over a volume that is there: from now on its format and what opens it are what the document
    /// says. Nothing of it is changed. What is known already is replaced, but for what opens it where the
    /// document names no secret.
    ///
    /// # Errors
    ///
    /// When its file is not there, or is not what the document says; when the secret does not open it. Whether
    /// it does cannot be tried as long as it has no value; what is known to be opened by another one stays so.
    pub fn adopt(&self, new: &NewVolume<'_>) -> Result<Made> {
        let plan = Plan::of(new.document, new.pool, Creation::From)?;
        let path = plan.path.as_str().to_owned();
        let _lock = self.lock(&plan.path)?;
        if plan.path.as_path().symlink_metadata().is_err() {
            return Err(Error::libvirt(LibvirtProblem::FileGone { path }));
        }
        check(&plan)?;
        check_backing(&plan)?;
        let mut document = written(new.document, &plan);
        let value = self.session(|session| settle_secret(session, &mut document, &path))?;
        if let Some(value) = value {
            try_key(&plan, &value, &self.policy)?;
        }
        let record = self.session(|session| {
            let record = VolumeRecord {
                path: path.clone(),
                document: document.write(),
                format: plan.format.to_string(),
                generated: session.volume(&path)?.and_then(|stored| stored.record.generated),
                wiped: false,
                job: None,
                openers: None,
                inode: opening::inode_at(plan.path.as_path()),
                stage: VolumeStage::Made,
            };
            session.record("adopt", &subject(&path), &format!("format {}", plan.format))?;
            session.put_volume(record.clone())?;
            Ok(record)
        })?;
        Ok(Made {
            document: describing::document(&record)?,
            path: plan.path.as_path().to_owned(),
            generated: record.generated,
            notes: plan.notes,
        })
    }
}

/// Settles which secret opens a volume, and returns its value where it is to be tried.
fn settle_secret(
    session: &Session<'_>,
    document: &mut Volume,
    path: &str,
) -> Result<Option<Passphrase>> {
    let Some(encryption) = &mut document.target.encryption else { return Ok(None) };
    let earlier = session.volume(path)?.map(|stored| stored.record.secrets()).transpose()?;
    let earlier = earlier.unwrap_or_default();
    if encryption.secrets.is_empty() && !earlier.is_empty() {
        encryption.secrets.extend(earlier.into_iter().map(|name| SecretReference { name }));
        return Ok(None);
    }
    let by_path = SecretName::Usage(path.to_owned());
    if encryption.secrets.is_empty() && session.find(&by_path)?.is_some() {
        encryption.secrets.push(SecretReference { name: by_path });
    }
    let Some(SecretReference { name }) = encryption.secrets.first() else { return Ok(None) };
    if earlier.contains(name) {
        return Ok(None);
    }
    match session.open(name, path) {
        Ok(opened) => Ok(Some(opened.value)),
        Err(Error::Libvirt(problem)) if is_missing(&problem) && earlier.is_empty() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells whether somebody may still bring what is missing.
fn is_missing(problem: &LibvirtProblem) -> bool {
    matches!(problem, LibvirtProblem::NoSecret { .. } | LibvirtProblem::NoValue { .. })
}

/// Makes sure that a value opens a volume.
fn try_key(plan: &Plan, value: &Passphrase, policy: &CostPolicy) -> Result<()> {
    let path = plan.path.as_path();
    if !plan.format.is_qcow2() {
        let device = Device::open(path, None, Access::ReadOnly)?;
        let header = device.read_header()?.header;
        return device.unlock(&header, value, None, policy).map(|_| ());
    }
    let found = qcow2_image::describe(path)?;
    let (Some(header), Some((offset, length))) = (found.luks, found.header.luks_area) else {
        return Ok(());
    };
    let file = Raw::open(path, Access::ReadOnly)?;
    let area = Slice::new(&file, offset..offset.saturating_add(length))?;
    device::unlock(&area, &header, value, None, policy).map(|_| ())
}

/// Makes sure that an image lies over what its document says.
fn check_backing(plan: &Plan) -> Result<()> {
    let path = plan.path.as_path();
    let impossible = |reason| {
        let (name, what) = (plan.path.as_str().to_owned(), "be taken over");
        Err(Error::libvirt(LibvirtProblem::Impossible { name, what, reason }))
    };
    if !plan.format.is_qcow2() {
        return Ok(());
    }
    let document = plan.backing.as_ref();
    let named = document.map(|backing| path.with_file_name(&backing.name));
    let claimed = match backing::same(path, named.as_deref()) {
        Ok(found) => found.and_then(|found| found.format),
        Err(reason) => return impossible(reason),
    };
    let said = document.and_then(|backing| backing.format.clone());
    match claimed == said || claimed.is_none() || said.is_none() {
        true => Ok(()),
        false => impossible(format!(
            "its document says that its backing store is {}, and its header that it is {}",
            said.unwrap_or_default().escape_debug(),
            claimed.unwrap_or_default().escape_debug()
        )),
    }
}

/// Makes sure that a file is what its document says.
fn check(plan: &Plan) -> Result<()> {
    let path = plan.path.as_path();
    let other = |found, wanted| {
        let label = plan.path.as_str().to_owned();
        Err(Error::SourceFormat { label, found, wanted })
    };
    match plan.format {
        ImageFormat::Raw => images::refuse_encrypted(&Raw::open(path, Access::ReadOnly)?),
        ImageFormat::Qcow2 | ImageFormat::Qcow2Luks => {
            let is_encrypted = qcow2_image::describe(path)?.luks.is_some();
            match (plan.format == ImageFormat::Qcow2Luks, is_encrypted) {
                (true, false) => other("a qcow2 image that is not encrypted", "an encrypted one"),
                (false, true) => other("an encrypted qcow2 image", "one that is not"),
                _ => Ok(()),
            }
        }
        ImageFormat::Luks1 | ImageFormat::Luks2 => {
            let device = Device::open(path, None, Access::ReadOnly)?;
            match (plan.format, device.read_header()?.header.version()) {
                (ImageFormat::Luks1, Version::Luks2) => other("a LUKS2 volume", "a LUKS1 volume"),
                (ImageFormat::Luks2, Version::Luks1) => other("a LUKS1 volume", "a LUKS2 volume"),
                _ => Ok(()),
            }
        }
    }
}
