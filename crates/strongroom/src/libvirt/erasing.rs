//! Volumes wiped: the keys of encrypted ones destroyed, plain ones overwritten.

use std::sync::atomic::Ordering;

use strongroom_disk::{Disk, Extents, LockMode, Raw, Slice, qcow2};
use strongroom_model::ImageFormat;

use super::creating::subject;
use super::describing::Known;
use super::{Libvirt, LibvirtProblem, VolumeName, opening};
use crate::device::{apply, read_header};
use crate::images::Work;
use crate::{Error, Result, system_rng};

/// How a volume is wiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erasure {
    /// Its keyslots are destroyed: nobody opens it again.
    Keys,
    /// What was written of it is overwritten with zeros.
    Zeros,
}

/// A volume that was wiped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wiped {
    /// Its path.
    pub path: String,
    /// The secret that was made for it and opens nothing now.
    pub generated: Option<String>,
}

impl Libvirt {
    /// Returns whether the format of a volume lets it be wiped so.
    ///
    /// # Errors
    ///
    /// Those that [`wipe`](Self::wipe) would have for its format.
    pub fn can_wipe(&self, name: &VolumeName, erasure: Erasure) -> Result<()> {
        refuse(&self.known(name)?, erasure)
    }

    /// Wipes a volume. It stays, and has to be deleted.
    ///
    /// # Errors
    ///
    /// [`LibvirtProblem::NothingToErase`] when keys of a volume are to be destroyed that has none; when it
    /// is in use.
    pub fn wipe(&self, name: &VolumeName, erasure: Erasure, work: &Work<'_>) -> Result<Wiped> {
        let known = self.known(name)?;
        let path = known.path.as_str().to_owned();
        let _lock = self.lock(&known.path)?;
        refuse(&known, erasure)?;
        let file = opening::volume_file(&known.record)?;
        let _in_use = file.try_lock_image(LockMode::Exclusive)?;
        self.refuse_backing(&known.path)?;
        let what = if erasure == Erasure::Keys { "its keyslots" } else { "its data, with zeros" };
        self.session(|session| session.record("wipe", &subject(&path), what))?;
        match erasure {
            Erasure::Keys => erase_keys(&known, &file)?,
            Erasure::Zeros => overwrite(&file, work)?,
        }
        if erasure == Erasure::Keys {
            self.session(|session| {
                let Some(mut stored) = session.volume(&path)? else { return Ok(()) };
                stored.record.wiped = true;
                session.put_volume(stored.record)
            })?;
        }
        Ok(Wiped { path, generated: known.record.generated })
    }
}

/// Refuses what the format of a volume does not allow.
fn refuse(known: &Known, erasure: Erasure) -> Result<()> {
    match (erasure, known.format) {
        (Erasure::Keys, ImageFormat::Raw | ImageFormat::Qcow2) => {
            let path = known.path.as_str().to_owned();
            Err(Error::libvirt(LibvirtProblem::NothingToErase { path }))
        }
        (Erasure::Zeros, format) if format != ImageFormat::Raw => {
            let reason = "only raw volumes that are not encrypted are; of an encrypted one the keys are \
                          destroyed";
            Err(known.impossible("be overwritten", reason))
        }
        _ => Ok(()),
    }
}

/// Destroys the keyslots of a volume, whose lock is had.
fn erase_keys(known: &Known, file: &Raw) -> Result<()> {
    let whole = 0..file.len();
    let area = match known.format.is_qcow2() {
        false => whole,
        true => {
            let area = qcow2::read_header(file)?.luks_area;
            let (offset, length) = area.ok_or_else(|| {
                let path = known.record.path.clone();
                Error::libvirt(LibvirtProblem::NothingToErase { path })
            })?;
            offset..offset.saturating_add(length)
        }
    };
    let area = Slice::new(file, area)?;
    let header = read_header(&area)?.header;
    let (_, change) = header.erase(&mut system_rng()).map_err(Error::luks(file.label()))?;
    apply(&area, &change)
}

/// Writes zeros over what was ever written. A hole holds nothing.
fn overwrite(file: &Raw, work: &Work<'_>) -> Result<()> {
    work.observer.begin(Some(file.len()));
    let zeros = vec![0; PIECE];
    for extent in Extents::new(file, 0..file.len()) {
        let extent = extent?;
        let mut offset = extent.range.start;
        while offset < extent.range.end && !extent.kind.reads_as_zeros() {
            if work.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let length = (extent.range.end - offset).min(PIECE as u64);
            file.write_at(&zeros[..length as usize], offset)?;
            offset += length;
        }
        work.observer.advance(extent.range.end - extent.range.start);
    }
    Ok(file.flush()?)
}

/// How much is overwritten at once, in bytes.
const PIECE: usize = 1 << 20;
