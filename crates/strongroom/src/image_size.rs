//! Images made longer and shorter.

use std::path::PathBuf;

use strongroom_crypto::{CostPolicy, VolumeKey};
use strongroom_disk::qcow2::{Closed, Folders, Gate, ImageEncryption, Qcow2, Shrinking};
use strongroom_disk::{Access, Disk, LockMode, Raw};
use strongroom_luks::{Header, Payload, Version};
use strongroom_model::{ImageFormat, NamedFormat};

use crate::device::{payload, read_header, unlock};
use crate::images::Below;
use crate::new_image::check_size;
use crate::qcow2_image::refuse_other;
use crate::{Error, Opener, OwnedOpener, Result};

/// A change of an image's length.
#[derive(Debug, Clone)]
pub struct ResizeRequest {
    /// The image.
    pub path: PathBuf,
    /// Its format, where somebody said so; the file's name tells it otherwise.
    pub format: Option<ImageFormat>,
    /// What its length becomes.
    pub size: SizeChange,
    /// Whether it may lose its end.
    pub shrinking: Shrinking,
    /// The folders from which files that it names may be read.
    pub backing_from: Vec<PathBuf>,
}

/// What the length of a disk becomes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeChange {
    /// This.
    To(u64),
    /// So much more.
    By(u64),
    /// So much less.
    Less(u64),
}

/// The lengths of a disk before and after, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resized {
    /// Before.
    pub from: u64,
    /// After.
    pub to: u64,
}

/// Makes the disk in an image longer, by zeros, or shorter. It has let go of what opens the image
/// when it begins to write.
///
/// # Guarantees
///
/// Killed at any moment, the image has its old length, its new one, or one in between whose new
/// part reads as zeros; the same request then goes on.
///
/// # Errors
///
/// When it would lose its end and must not, when someone else is using it, or when it is a block
/// device. [`Error::NoPassphrase`] where zeros have to be encrypted: for a LUKS volume that grows,
/// and for a qcow2 image where a cluster is cut.
pub fn resize(
    request: &ResizeRequest,
    opener: Option<OwnedOpener>,
    policy: &CostPolicy,
) -> Result<Resized> {
    let file = Raw::open(&request.path, Access::ReadWrite)?;
    if file.is_block_device() {
        let problem = format!("{} is a block device, which has the size it has", file.label());
        return Err(Error::Request { problem });
    }
    let _lock = file.try_lock_image(LockMode::Exclusive)?;
    resize_file(&file, request, None, opener, policy)
}

/// Does what [`resize`] does to a plain file that the caller has for himself. What an image of QEMU's lies over
/// is `below`, where somebody knows.
///
/// # Errors
///
/// Those of [`resize`].
pub(crate) fn resize_file(
    file: &Raw,
    request: &ResizeRequest,
    below: Option<&Below>,
    opener: Option<OwnedOpener>,
    policy: &CostPolicy,
) -> Result<Resized> {
    match (request.format, NamedFormat::of(&request.path)) {
        (Some(ImageFormat::Raw), _) | (None, NamedFormat::Plain) => resize_raw(file, request),
        (Some(format @ (ImageFormat::Luks1 | ImageFormat::Luks2)), _) => {
            resize_volume(file, request, Some(format), opener, policy)
        }
        (None, NamedFormat::Luks) => resize_volume(file, request, None, opener, policy),
        (Some(format @ (ImageFormat::Qcow2 | ImageFormat::Qcow2Luks)), _) => {
            resize_qcow2(file, (request, below), Some(format), opener, policy)
        }
        (None, NamedFormat::Qcow2) => resize_qcow2(file, (request, below), None, opener, policy),
    }
}

impl ResizeRequest {
    /// Returns the lengths before and after.
    fn sizes(&self, from: u64, sector: u64) -> Result<Resized> {
        let label = self.path.display();
        let to = match self.size {
            SizeChange::To(size) => Some(size),
            SizeChange::By(size) => from.checked_add(size),
            SizeChange::Less(size) => from.checked_sub(size),
        };
        let to = to.ok_or_else(|| Error::Request {
            problem: format!("{label} has {from} bytes: its size cannot change by that much"),
        })?;
        check_size("a disk", to, sector)?;
        if to < from && self.shrinking == Shrinking::Refuse {
            return Err(Error::WouldShrink { label: label.to_string(), from, to });
        }
        Ok(Resized { from, to })
    }
}

fn resize_raw(file: &Raw, request: &ResizeRequest) -> Result<Resized> {
    crate::images::refuse_encrypted(file)?;
    let sizes = request.sizes(file.len(), 512)?;
    file.set_len(sizes.to)?;
    file.flush()?;
    Ok(sizes)
}

fn resize_volume(
    file: &Raw,
    request: &ResizeRequest,
    format: Option<ImageFormat>,
    opener: Option<OwnedOpener>,
    policy: &CostPolicy,
) -> Result<Resized> {
    let header = read_header(file)?.header;
    let wanted = match (format, header.version()) {
        (Some(ImageFormat::Luks1), Version::Luks2) => Some(("a LUKS2 volume", "a LUKS1 volume")),
        (Some(ImageFormat::Luks2), Version::Luks1) => Some(("a LUKS1 volume", "a LUKS2 volume")),
        _ => None,
    };
    let label = file.label().to_owned();
    if let Some((found, wanted)) = wanted {
        return Err(Error::SourceFormat { label, found, wanted });
    }
    let volume = payload(&header, file, None)?;
    refuse_fixed_length(file, &header, volume)?;
    let sizes = request.sizes(volume.length, volume.sector_size.bytes() as u64)?;
    if sizes.to <= sizes.from {
        file.set_len(volume.offset + sizes.to)?;
        file.flush()?;
        return Ok(sizes);
    }
    let opener = opener.ok_or(Error::NoPassphrase { label })?;
    let key = unlock(file, &header, opener.opener(), None, policy)?.key;
    drop(opener);
    append_zeros(file, volume, &key, sizes)?;
    Ok(sizes)
}

/// Refuses a volume whose header says how long it is.
fn refuse_fixed_length(file: &Raw, header: &Header, volume: Payload) -> Result<()> {
    let longer = payload_of(header, file.len().saturating_add(1 << 20), file)?;
    if longer.length != volume.length {
        return Ok(());
    }
    let problem = format!(
        "the header of {} says that its data has {} bytes, whatever the file has",
        file.label(),
        volume.length
    );
    Err(Error::Request { problem })
}

fn payload_of(header: &Header, len: u64, file: &Raw) -> Result<Payload> {
    header.payload(len).map_err(Error::luks(file.label()))
}

/// Makes a volume longer by encrypted zeros. Never has the file an end that was not written, which
/// would read as noise.
fn append_zeros(file: &Raw, volume: Payload, key: &VolumeKey, sizes: Resized) -> Result<()> {
    let cipher = volume.cipher(key).map_err(Error::luks(file.label()))?;
    // What follows the last whole sector is no part of the volume.
    file.set_len(volume.offset + sizes.from)?;
    let sector = volume.sector_size.bytes() as u64;
    let mut offset = sizes.from;
    while offset < sizes.to {
        let mut piece = vec![0; (sizes.to - offset).min(PIECE) as usize];
        let number = (offset / sector).wrapping_mul(cipher.iv_step());
        cipher.encrypt(&mut piece, volume.iv_tweak.wrapping_add(number));
        file.append(&piece)?;
        offset += piece.len() as u64;
    }
    Ok(file.flush()?)
}

fn resize_qcow2(
    file: &Raw,
    (request, below): (&ResizeRequest, Option<&Below>),
    format: Option<ImageFormat>,
    opener: Option<OwnedOpener>,
    policy: &CostPolicy,
) -> Result<Resized> {
    refuse_other(file)?;
    let folders = match (below, request.backing_from.as_slice()) {
        (Some(_), _) | (None, []) => None,
        (None, folders) => {
            let opener = opener.as_ref().map(OwnedOpener::opener);
            let passphrases: Vec<_> = opener.and_then(Opener::passphrase).into_iter().collect();
            Some(Folders::new(folders)?.with_passphrases(&passphrases, *policy))
        }
    };
    let gate: &dyn Gate = match (below, &folders) {
        (Some(below), _) => below,
        (None, Some(folders)) => folders,
        (None, None) => &Closed,
    };
    let header = strongroom_disk::qcow2::read_header(file)?;
    let label = || file.label().to_owned();
    let encrypted = header.encryption != ImageEncryption::None;
    match (format, encrypted) {
        (Some(ImageFormat::Qcow2), true) => {
            let (found, wanted) = ("an encrypted qcow2 image", "a plain one");
            return Err(Error::SourceFormat { label: label(), found, wanted });
        }
        (Some(ImageFormat::Qcow2Luks), false) => {
            let signature = Some("a qcow2 image that is not encrypted");
            return Err(Error::NotEncrypted { label: label(), signature });
        }
        _ => {}
    }
    if header.has_data_file() {
        let problem = format!(
            "the data of {} lies in another file, which is not made longer or shorter here",
            file.label()
        );
        return Err(Error::Request { problem });
    }
    let sizes = request.sizes(header.size, 512)?;
    let mut image = Qcow2::open(file, Access::ReadWrite, gate)?;
    // Zeros in a part of a cluster are encrypted ones.
    let cut = match sizes.to < sizes.from {
        true => sizes.to,
        false => sizes.from,
    };
    let cuts = !cut.is_multiple_of(header.cluster_size()) || image.backing().is_some();
    if encrypted && cuts {
        let opener = opener.as_ref().map(OwnedOpener::opener);
        let opener = opener.ok_or_else(|| Error::NoPassphrase { label: label() })?;
        crate::images::unlock_qcow2(&mut image, opener, policy)?;
    }
    drop(folders);
    drop(opener);
    image.resize(sizes.to, request.shrinking)?;
    image.close()?;
    Ok(sizes)
}

/// How much is encrypted and written at a time, in bytes: whole sectors of any size.
const PIECE: u64 = 1 << 20;
