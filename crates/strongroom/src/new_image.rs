//! New images that hold nothing yet.

use std::path::{Path, PathBuf};

use strongroom_clone::{Pass, Plan, Zeroes};
use strongroom_disk::qcow2::{self, BackingName, CreateOptions};
use strongroom_disk::{
    Access, Disk, Encrypted, FormatPermit, Memory, NewEnds, NewFile, Overwrite, Raw, Slice,
};
use strongroom_luks::{FormatOptions, Formatted, Header};
use strongroom_model::{EncryptionRequest, ExistingTarget, ImageFormat};

use crate::device::write_new_header;
use crate::encryption::{format_options, managed};
use crate::envelope_file::{EnvelopeFile, Naming};
use crate::images::{Earlier, TargetKey, Work};
use crate::{Error, OwnedNewKey, Result};

/// What a new image shall be like.
#[derive(Debug, Clone)]
pub struct NewImageRequest {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: ImageFormat,
    /// The length of the disk in bytes.
    pub size: u64,
    /// How it is encrypted, for the formats that are.
    pub encryption: EncryptionRequest,
    /// The layout of an image in QEMU's format. Size, backing file and room for a LUKS header are
    /// filled in.
    pub layout: CreateOptions,
    /// The backing file, for QEMU's formats.
    pub backing: Option<BackingName>,
    /// What happens to a file that is there.
    pub existing: ExistingTarget,
}

/// What was made.
#[derive(Debug)]
pub struct NewImage {
    /// The header of an encrypted image.
    pub header: Option<Header>,
    /// The length of the file in bytes.
    pub len: u64,
}

/// Makes an image that reads as zeros, or as its backing file.
///
/// # Guarantees
///
/// - The file gets its name when it is whole and durable.
/// - A LUKS volume in a raw file is written in full, with encrypted zeros: a hole would read as
///   noise. In QEMU's format the image says what is empty, so nothing is written there.
///
/// # Errors
///
/// When the request contradicts itself, the backing file is not there, or the file exists.
pub fn create(
    request: &NewImageRequest,
    key: Option<OwnedNewKey>,
    work: &Work<'_>,
) -> Result<NewImage> {
    create_with(request, Space::Zeros, key, work, &|_| Ok(()))
}

/// What the data of a new LUKS volume in a raw file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Encrypted zeros, all of it written.
    Zeros,
    /// A hole, which reads as noise until something is written, as everybody else makes such volumes.
    Unwritten,
}

/// What is done to a file that is whole, before it gets its name.
pub(crate) type Finish<'a> = &'a dyn Fn(&Raw) -> Result<()>;

/// Does what [`create`] does, with `space` for the data of a LUKS volume in a raw file, and `finish` before
/// the file has its name.
///
/// # Errors
///
/// Those of [`create`].
pub(crate) fn create_with(
    request: &NewImageRequest,
    space: Space,
    key: Option<OwnedNewKey>,
    work: &Work<'_>,
    finish: Finish<'_>,
) -> Result<NewImage> {
    let mut options = match request.format.luks() {
        None => None,
        Some(format) => {
            let mut encryption = EncryptionRequest { format, ..request.encryption.clone() };
            if let Some(OwnedNewKey::Kms { .. }) = &key {
                encryption = managed(&encryption)?;
            }
            Some(format_options(&encryption, &work.policy)?)
        }
    };
    let sector = options.as_ref().map_or(512, |options| options.sector_size.bytes() as u64);
    check_size("a disk", request.size, sector)?;
    let backing = open_backing(request)?;
    let overwrite = match request.existing {
        ExistingTarget::Refuse => Overwrite::Refuse,
        ExistingTarget::Replace => Overwrite::Replace,
    };
    let sources: Vec<&Raw> = backing.iter().collect();
    let label = request.path.display().to_string();
    let mut target_key = match &mut options {
        None => None,
        Some(options) => {
            refuse_offset(request.format, options)?;
            let key = key.ok_or_else(|| Error::NoPassphrase { label: label.clone() })?;
            Some(TargetKey::prepare(key, options, Earlier::Nothing, &label)?)
        }
    };
    let envelope = match &mut target_key {
        Some(key) => key.envelope_file()?,
        None => None,
    };
    let (file, permit) = NewFile::create(&request.path, overwrite, &sources)?;
    if let Some(envelope) = &envelope {
        envelope.refuse_place_of(&file)?;
    }
    let formatted = match (&options, target_key) {
        (Some(options), Some(key)) => Some(key.format(options, &label, &work.policy)?),
        _ => None,
    };
    let disk = file.disk();
    match (request.format.is_qcow2(), &formatted) {
        (true, formatted) => write_qcow2(disk, request, formatted.as_ref(), permit)?,
        (false, Some(formatted)) => {
            let written = (request.size, space);
            write_volume(disk, written, formatted, permit, work)?;
        }
        (false, None) => disk.set_len(request.size)?,
    }
    finish(disk)?;
    let len = disk.len();
    let naming = Naming::of(&file)?;
    let envelope = envelope.map(EnvelopeFile::commit).transpose()?;
    if let Err(error) = file.commit() {
        if let Some(envelope) = envelope {
            envelope.take_back(&[naming]);
        }
        return Err(error.into());
    }
    Ok(NewImage { header: formatted.map(|formatted| formatted.header), len })
}

/// Refuses a length that a disk cannot have, and says which ones are next to it.
pub(crate) fn check_size(what: &str, size: u64, sector: u64) -> Result<()> {
    let problem = if size == 0 {
        format!("{what} of no bytes cannot hold anything")
    } else if size > LARGEST_SIZE {
        format!("{what} of {size} bytes is larger than any file can be")
    } else if !size.is_multiple_of(sector) {
        let below = size / sector * sector;
        let next = match below {
            0 => format!("the next possible size is {sector}"),
            _ => format!("the next possible sizes are {below} and {}", below + sector),
        };
        format!("size {size} is no multiple of {sector} bytes: {next}")
    } else {
        return Ok(());
    };
    Err(Error::Request { problem })
}

/// Opens the backing file, so that no image names one that is not there.
fn open_backing(request: &NewImageRequest) -> Result<Option<Raw>> {
    let Some(BackingName { name, format }) = &request.backing else { return Ok(None) };
    if !request.format.is_qcow2() {
        let problem = format!("{} images have no backing file", request.format);
        return Err(Error::Request { problem });
    }
    // A name in an image is relative to the image's directory.
    let path = request.path.parent().unwrap_or(Path::new("")).join(name);
    let raw = Raw::open(path, Access::ReadOnly)?;
    if format.as_deref() == Some("qcow2") {
        qcow2::read_header(&raw)?;
    }
    Ok(Some(raw))
}

fn refuse_offset(format: ImageFormat, options: &FormatOptions) -> Result<()> {
    if format == ImageFormat::Qcow2Luks && options.data_offset.is_some() {
        let problem = "in a qcow2 image the data has no offset: leave it out";
        return Err(Error::Request { problem: problem.to_owned() });
    }
    Ok(())
}

fn write_qcow2(
    disk: &Raw,
    request: &NewImageRequest,
    formatted: Option<&Formatted>,
    permit: FormatPermit,
) -> Result<()> {
    let luks_header = match formatted {
        None => None,
        Some(formatted) => Some(data_offset(&formatted.header, disk.label())?),
    };
    let options = CreateOptions {
        size: request.size,
        backing: request.backing.clone(),
        luks_header,
        ..request.layout.clone()
    };
    qcow2::create(disk, &options).map_err(layout_refused)?;
    if let Some(formatted) = formatted
        && let Some((offset, length)) = qcow2::read_header(disk)?.luks_area
    {
        write_new_header(&Slice::new(disk, offset..offset + length)?, formatted, permit)?;
    }
    Ok(())
}

/// Returns the error of an image that could not be made: options that do not fit each other are about what was
/// asked for.
pub(crate) fn layout_refused(error: strongroom_disk::Error) -> Error {
    match error.kind() {
        strongroom_disk::ErrorKind::Unsupported => Error::Request { problem: error.to_string() },
        _ => Error::Disk(error),
    }
}

/// Writes a volume that holds zeros, or nothing yet: its data first, its header last.
fn write_volume(
    disk: &Raw,
    (size, space): (u64, Space),
    formatted: &Formatted,
    permit: FormatPermit,
    work: &Work<'_>,
) -> Result<()> {
    let failed = Error::luks(disk.label());
    let offset = data_offset(&formatted.header, disk.label())?;
    let end = offset.checked_add(size).filter(|end| *end <= LARGEST_SIZE);
    let end = end.ok_or_else(|| Error::Request {
        problem: format!("a disk of {size} bytes behind {offset} is larger than any file can be"),
    })?;
    disk.set_len(end)?;
    if space == Space::Unwritten {
        disk.flush()?;
        return write_new_header(disk, formatted, permit);
    }
    let payload = formatted.header.payload(end).map_err(&failed)?;
    let cipher = payload.cipher(&formatted.volume_key).map_err(&failed)?;
    let plain =
        Encrypted::new(disk, offset..end, cipher, payload.iv_tweak)?.with_new_ends(NewEnds::Noise);
    let pass = Pass::new(
        Plan::for_this_machine(Zeroes::Write),
        work.observer.as_progress(),
        work.cancelled,
    );
    work.observer.begin(Some(size));
    strongroom_clone::run(&Memory::new(size), &plain, &pass)?;
    disk.flush()?;
    write_new_header(disk, formatted, permit)
}

/// Returns where the data of a new volume begins, or would.
fn data_offset(header: &Header, label: &str) -> Result<u64> {
    Ok(header.payload(LARGEST_SIZE).map_err(Error::luks(label))?.offset)
}

/// The most bytes of a file, in whole sectors of any size.
const LARGEST_SIZE: u64 = i64::MAX as u64 & !4095;
