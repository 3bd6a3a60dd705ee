//! Volumes made larger and smaller.

use std::path::Path;
use std::sync::Arc;

use strongroom_crypto::CostPolicy;
use strongroom_disk::qcow2::Shrinking;
use strongroom_disk::{Disk, LockMode, Raw};
use strongroom_model::ImageFormat;

use super::backing::backing_from;
use super::creating::subject;
use super::describing::measure;
use super::{Libvirt, VolumeName, opening};
use crate::device::{payload, read_header};
use crate::image_size::{self, ResizeRequest, Resized, SizeChange};
use crate::images::Work;
use crate::{Error, OwnedOpener, Result};

impl Libvirt {
    /// Makes a volume larger, or smaller. The capacity is rounded up to 512 bytes. What is new of LUKS in a
    /// raw file reads as noise until it is written, as with libvirt; in other volumes it reads as zeros.
    ///
    /// # Errors
    ///
    /// [`Error::WouldShrink`] when it would lose its end, and `shrinking` does not allow that.
    pub fn resize(
        &self,
        name: &VolumeName,
        change: SizeChange,
        shrinking: Shrinking,
    ) -> Result<Resized> {
        let known = self.known(name)?;
        known.refuse_wiped()?;
        let _lock = self.lock(&known.path)?;
        let path = known.path.as_path();
        let file = opening::volume_file(&known.record)?;
        let from = measure(path, known.format)?.capacity;
        let _in_use = file.try_lock_image(LockMode::Exclusive)?;
        let asked = match change {
            SizeChange::To(size) => Some(size),
            SizeChange::By(size) => from.checked_add(size),
            SizeChange::Less(size) => from.checked_sub(size),
        };
        let to = asked.and_then(|size| size.checked_next_multiple_of(512)).ok_or_else(|| {
            known.impossible("get that capacity", "it is less than none, or more than any file has")
        })?;
        if to < from && shrinking == Shrinking::Refuse {
            let label = known.path.as_str().to_owned();
            return Err(Error::WouldShrink { label, from, to });
        }
        if to < from {
            self.refuse_backing(&known.path)?;
            let detail = format!("from {from} to {to} bytes");
            self.session(|session| {
                session.record("shrink", &subject(known.path.as_str()), &detail)
            })?;
        }
        if to > from && matches!(known.format, ImageFormat::Luks1 | ImageFormat::Luks2) {
            grow(&file, path, known.format, to)?;
            return Ok(Resized { from, to });
        }
        let request = |shrinking| ResizeRequest {
            path: path.to_owned(),
            format: Some(known.format),
            size: SizeChange::To(to),
            shrinking,
            backing_from: backing_from(&known).unwrap_or_default(),
        };
        let cancelled = Arc::default();
        let work = Work { policy: self.policy, observer: &(), cancelled: &cancelled };
        // Where a cluster is cut, the rest of it comes from below.
        let below = self.below(&known, &work)?;
        let resize = |opener| {
            let request = request(shrinking);
            image_size::resize_file(&file, &request, below.as_ref(), opener, &self.policy)
        };
        // Most changes need no key, and what is not needed is not opened.
        match resize(None) {
            Err(Error::NoPassphrase { .. }) => {
                resize(self.opener(&known)?.map(OwnedOpener::Passphrase))
            }
            resized => resized,
        }
    }
}

/// Makes a volume larger that needs no key for that, in a file that the caller has for himself.
pub(super) fn grow(file: &Raw, path: &Path, format: ImageFormat, to: u64) -> Result<()> {
    if !matches!(format, ImageFormat::Luks1 | ImageFormat::Luks2) {
        let request = ResizeRequest {
            path: path.to_owned(),
            format: Some(format),
            size: SizeChange::To(to.next_multiple_of(512)),
            shrinking: Shrinking::Refuse,
            backing_from: Vec::new(),
        };
        image_size::resize_file(file, &request, None, None, &CostPolicy::default())?;
        return Ok(());
    }
    let header = read_header(file)?.header;
    let volume = payload(&header, file, None)?;
    let end = volume.offset.checked_add(to).filter(|end| i64::try_from(*end).is_ok());
    let end = end.ok_or_else(|| Error::Request {
        problem: format!("{} cannot become larger than any file can be", file.label()),
    })?;
    let longer = header.payload(end).map_err(Error::luks(file.label()))?;
    if longer.length < to {
        let problem = format!(
            "the header of {} says that its data has {} bytes, whatever the file has",
            file.label(),
            longer.length
        );
        return Err(Error::Request { problem });
    }
    file.set_len(end)?;
    Ok(file.flush()?)
}
