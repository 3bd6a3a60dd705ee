//! Images in QEMU's format, looked at from the outside: no key, and no other file, is needed.

use std::path::Path;

use strongroom_disk::qcow2::{self, Repair, Report, Snapshot};
use strongroom_disk::{Access, Disk, LockMode, Raw, Slice};
use strongroom_luks::Header;

use crate::device::{read_first, read_header};
use crate::{Error, Result};

/// What an image says of itself.
#[derive(Debug)]
pub struct Description {
    /// Its header.
    pub header: qcow2::Header,
    /// Its internal snapshots.
    pub snapshots: Vec<Snapshot>,
    /// The LUKS header inside of it, if it is encrypted.
    pub luks: Option<Header>,
}

/// Reads what an image says of itself. The files that it names are not opened.
///
/// # Errors
///
/// When it is no such image, or breaks a rule of the format.
pub fn describe(path: &Path) -> Result<Description> {
    let file = Raw::open(path, Access::ReadOnly)?;
    refuse_other(&file)?;
    let header = qcow2::read_header(&file)?;
    let snapshots = qcow2::list_snapshots(&file, &header)?;
    let luks = match header.luks_area {
        None => None,
        Some((offset, length)) => {
            let end = offset.saturating_add(length);
            Some(read_header(&Slice::new(&file, offset..end)?)?.header)
        }
    };
    Ok(Description { header, snapshots, luks })
}

/// Checks an image and repairs what it may.
///
/// # Errors
///
/// When someone else is using it, or its header cannot be read at all. What is wrong otherwise
/// stands in the report.
pub fn check(path: &Path, repair: Repair) -> Result<Report> {
    let (access, mode) = match repair {
        Repair::Nothing => (Access::ReadOnly, LockMode::Shared),
        Repair::Leaks | Repair::Everything => (Access::ReadWrite, LockMode::Exclusive),
    };
    let file = Raw::open(path, access)?;
    refuse_other(&file)?;
    let _lock = file.try_lock_image(mode)?;
    Ok(qcow2::check(&file, repair)?)
}

/// Refuses what is another kind of image, by the bytes that it begins with.
pub(crate) fn refuse_other(file: &Raw) -> Result<()> {
    let head = read_first(file, 4096)?;
    if head.starts_with(b"QFI\xfb") {
        return Ok(());
    }
    let found = match (head.get(..6), head.get(6..8)) {
        (Some(b"LUKS\xba\xbe"), Some([0, 1])) => "a LUKS1 volume",
        (Some(b"LUKS\xba\xbe"), _) => "a LUKS2 volume",
        _ => strongroom_luks::other_signature(&head).unwrap_or("a raw disk image, or unknown"),
    };
    let label = file.label().to_owned();
    Err(Error::SourceFormat { label, found, wanted: "a qcow2 image" })
}
