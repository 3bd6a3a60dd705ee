//! What is known of volumes, and what their files tell.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strongroom_disk::Access;
use strongroom_model::ImageFormat;
use strongroom_model::dialect::libvirt::{
    BackingChain, DiskLayer, DiskSource, DomainDisk, Encryption, EncryptionFormat, Permissions,
    Volume, VolumeFormat,
};

use super::directory::VolumePath;
use super::records::VolumeRecord;
use super::session::all;
use super::{Libvirt, LibvirtProblem, VolumeName, opening};
use crate::catalog::Records;
use crate::device::Device;
use crate::{Error, Result, qcow2_image};

/// What the file of a volume tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeFacts {
    /// What a guest sees, in bytes.
    pub capacity: u64,
    /// What the file takes of its medium, in bytes.
    pub allocation: u64,
    /// The length of the file, in bytes.
    pub physical: u64,
    mode: u32,
    owner: u32,
    group: u32,
}

/// A volume in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeEntry {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// Its format.
    pub format: ImageFormat,
    /// Whether its keys were destroyed.
    pub is_wiped: bool,
    /// What its file tells; `None` when that cannot be read.
    pub facts: Option<VolumeFacts>,
}

/// How a guest is to see a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRequest {
    /// What it calls the disk: `vda`.
    pub target: String,
    /// How it is attached: `virtio`.
    pub bus: String,
}

/// A volume of which the file is there.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) path: VolumePath,
    pub(super) record: VolumeRecord,
    pub(super) format: ImageFormat,
}

impl Libvirt {
    /// Returns the volumes in a directory, or all, in the order of their paths. What was recorded of a
    /// volume whose file is not there is no volume.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn volumes(&self, pool: Option<&Path>) -> Result<Vec<VolumeEntry>> {
        let pool =
            pool.map(|pool| pool.canonicalize().map_err(opening::failed(pool))).transpose()?;
        let mut entries = Vec::new();
        for stored in all::<VolumeRecord>(&*self.catalog()?)? {
            let record = stored.record;
            let path = Path::new(&record.path);
            let is_elsewhere = pool.as_deref().is_some_and(|pool| path.parent() != Some(pool));
            if is_elsewhere || path.symlink_metadata().is_err() {
                continue;
            }
            let format = record.image_format()?;
            entries.push(VolumeEntry {
                name: match record.volume() {
                    Ok(volume) => volume.name,
                    Err(_) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                },
                format,
                is_wiped: record.wiped,
                facts: measure(path, format).ok(),
                path: record.path,
            });
        }
        Ok(entries)
    }

    /// Returns what the file of a volume tells, with the volume's name.
    ///
    /// # Errors
    ///
    /// When it is not known, was wiped, or its file cannot be read.
    pub fn volume_facts(&self, name: &VolumeName) -> Result<(String, VolumeFacts)> {
        let known = self.known(name)?;
        known.refuse_wiped()?;
        Ok((known.record.volume()?.name, measure(known.path.as_path(), known.format)?))
    }

    /// Returns the document of a volume as it is now.
    ///
    /// # Errors
    ///
    /// When it is not known, or its file cannot be read.
    pub fn volume_document(&self, name: &VolumeName) -> Result<Volume> {
        document(&self.known(name)?.record)
    }

    /// Returns the disk that a domain has for a volume.
    ///
    /// # Errors
    ///
    /// When QEMU cannot open it, or nobody can any more.
    pub fn domain_disk(&self, name: &VolumeName, request: &DiskRequest) -> Result<DomainDisk> {
        let known = self.known(name)?;
        known.refuse_wiped()?;
        let DiskLayer { source, format, encryption, backing, unknown } = self.layer(&known, 0)?;
        let (target, bus) = (request.target.clone(), request.bus.clone());
        Ok(DomainDisk { source, format, encryption, target, bus, backing, unknown })
    }

    /// Returns a volume as a layer of a disk, with those below it. One that is not known says nothing: the
    /// daemon finds it in the image, and needs no secret of ours for it.
    fn layer(&self, known: &Known, above: usize) -> Result<DiskLayer> {
        if known.format == ImageFormat::Luks2 {
            return Err(known.impossible(
                "be the disk of a domain",
                "it is LUKS2, and QEMU opens LUKS1 alone: make a copy of it with format='luks'",
            ));
        }
        let backing = match self.backing(known, above)? {
            None => BackingChain::Unsaid,
            Some(below) => BackingChain::Layer(Box::new(self.layer(&below.volume, above + 1)?)),
        };
        let encryption = known.record.volume()?.target.encryption;
        let layer = DiskLayer {
            source: DiskSource::File(known.record.path.clone()),
            format: match known.format.is_qcow2() {
                true => VolumeFormat::Qcow2,
                false => VolumeFormat::Raw,
            },
            encryption: encryption.map(|encryption| Encryption {
                secrets: encryption.secrets,
                ..Encryption::new(EncryptionFormat::Luks)
            }),
            backing,
            unknown: Vec::new(),
        };
        layer.check()?;
        Ok(layer)
    }

    /// Returns a volume whose file is there.
    pub(super) fn known(&self, name: &VolumeName) -> Result<Known> {
        let (path, record) = self.recorded(name)?;
        if path.as_path().symlink_metadata().is_err() {
            let path = record.path;
            return Err(Error::libvirt(LibvirtProblem::FileGone { path }));
        }
        let format = record.image_format()?;
        Ok(Known { path, record, format })
    }

    /// Returns what is recorded of a volume.
    pub(super) fn recorded(&self, name: &VolumeName) -> Result<(VolumePath, VolumeRecord)> {
        let path = VolumePath::named(name)?;
        let found = Records::<VolumeRecord>::of(&*self.catalog()?).load(path.as_str())?;
        let missing =
            || Error::libvirt(LibvirtProblem::NoVolume { path: path.as_str().to_owned() });
        let record = found.ok_or_else(missing)?.record;
        Ok((path, record))
    }
}

impl Known {
    /// Refuses a volume whose keys were destroyed.
    pub(super) fn refuse_wiped(&self) -> Result<()> {
        match self.record.wiped {
            false => Ok(()),
            true => Err(Error::libvirt(LibvirtProblem::Wiped { path: self.record.path.clone() })),
        }
    }

    pub(super) fn impossible(&self, what: &'static str, reason: &str) -> Error {
        let (name, reason) = (self.record.path.clone(), reason.to_owned());
        Error::libvirt(LibvirtProblem::Impossible { name, what, reason })
    }
}

/// Returns the document of a volume, with what its file tells now.
pub(super) fn document(record: &VolumeRecord) -> Result<Volume> {
    let mut volume = record.volume()?;
    let facts = measure(Path::new(&record.path), record.image_format()?)?;
    volume.capacity = Some(facts.capacity);
    volume.allocation = Some(facts.allocation);
    volume.physical = Some(facts.physical);
    let label = volume.target.permissions.take().and_then(|permissions| permissions.label);
    volume.target.permissions = Some(Permissions {
        mode: Some(facts.mode),
        owner: Some(i64::from(facts.owner)),
        group: Some(i64::from(facts.group)),
        label,
    });
    Ok(volume)
}

/// Returns what a file tells that is of this format.
pub(super) fn measure(path: &Path, format: ImageFormat) -> Result<VolumeFacts> {
    let found = path.metadata().map_err(opening::failed(path))?;
    let capacity = match format {
        ImageFormat::Raw => found.len(),
        ImageFormat::Qcow2 | ImageFormat::Qcow2Luks => qcow2_image::describe(path)?.header.size,
        ImageFormat::Luks1 | ImageFormat::Luks2 => {
            let device = Device::open(path, None, Access::ReadOnly)?;
            let header = device.read_header()?.header;
            device.payload(&header)?.length
        }
    };
    Ok(VolumeFacts {
        capacity,
        allocation: found.blocks() * BLOCK,
        physical: found.len(),
        mode: found.mode() & 0o777,
        owner: found.uid(),
        group: found.gid(),
    })
}

/// The bytes of a block, as stat(2) counts them.
const BLOCK: u64 = 512;
