//! Images of volumes.

use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_model::{
    CloneFormats, EncryptionRequest, ImageFormat, ImageId, ImageOperation, ImageSource, LuksFormat,
    SnapshotId, SourceFormat, TargetFormat, VolumeId,
};
use strongroom_pool::CopyProgress;

use super::cloning::{Supply, run_between};
use super::making::{Begun, Digest, Making};
use super::{Image, ImageCondition, ImageProblem, Library, NewImage};
use crate::images::{Between, Checking, Holes, Keys, Work};
use crate::volumes::{FormatState, StandingStill, Volume, Volumes};
use crate::{Error, ErrorKind, Result, hexadecimal};

/// What a volume becomes when it is exported.
#[derive(Debug)]
pub struct Export {
    /// The format: raw or qcow2. An encrypted volume that stays so becomes a raw LUKS2 container with the
    /// same keyslots, or qcow2 with LUKS.
    pub format: ImageFormat,
    /// What opens the volume and will open the image; only needed where the contents are touched.
    pub keys: Keys,
    /// Whether the image of an encrypted volume is plain.
    pub contents: ExportedContents,
}

/// Whether the image of an encrypted volume is plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExportedContents {
    /// It is encrypted as the volume is.
    AsTheyAre,
    /// It is decrypted.
    Decrypted,
}

impl Library {
    /// Makes an image of a volume as it is now; one that is mounted is frozen for a moment. What is attached
    /// is read from a snapshot that is deleted afterwards, what is not is kept from being attached meanwhile.
    ///
    /// # Errors
    ///
    /// What the volume, or the pool, says; [`ImageProblem::NothingToExport`].
    pub fn export(
        &self,
        new: &NewImage,
        volumes: &Volumes,
        volume: &VolumeId,
        how: Export,
        work: &Work<'_>,
    ) -> Result<Image> {
        let moment = moment(&new.id);
        let origin = format!("export {volume} {} {:?}", how.format, how.contents);
        let making = match self.begin(new, &origin)? {
            Begun::Ready(image) => {
                // Whoever was killed may have had only this left to do.
                volumes.delete_snapshot(&moment)?;
                return Ok(image);
            }
            Begun::Making(making) => making,
        };
        let progress = Quiet(work.cancelled);
        let made = volumes.hold_still(volume, &moment, &progress).and_then(|still| {
            let Export { format, keys, contents } = how;
            let taking = taking(&new.id, &still.volume, format, contents)?;
            self.take(new, making, &still, taking, &Supply::new(keys), work)
        });
        match &made {
            // The job goes on with the same moment.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => volumes.delete_snapshot(&moment)?,
        }
        made
    }

    /// Deletes the snapshots that exports have left which will not be gone on with: their images are ready,
    /// or are no more. For whoever starts a server, before any export runs; where an image was deleted that was being made,
    /// [`clear_export`](Self::clear_export) does.
    ///
    /// # Errors
    ///
    /// What pool or catalog say.
    pub fn clear_exports(&self, volumes: &Volumes) -> Result<()> {
        let mut wanted = Vec::new();
        let mut after: Option<ImageId> = None;
        loop {
            let page = self.list(after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            let making = page.iter().filter(|it| it.condition == ImageCondition::Creating);
            wanted.extend(making.map(|image| moment(&image.id)));
        }
        let mut after: Option<SnapshotId> = None;
        loop {
            let page = volumes.snapshots(after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.clone());
            for snapshot in &page {
                if snapshot.id.as_str().starts_with(MOMENT) && !wanted.contains(&snapshot.id) {
                    volumes.delete_snapshot(&snapshot.id)?;
                }
            }
        }
    }

    /// Deletes the snapshot that an export to this image has left, which is no more. One that is not there
    /// succeeds.
    ///
    /// # Errors
    ///
    /// What pool or catalog say.
    pub fn clear_export(&self, id: &ImageId, volumes: &Volumes) -> Result<()> {
        volumes.delete_snapshot(&moment(id))
    }

    fn take(
        &self,
        new: &NewImage,
        making: Making<'_>,
        still: &StandingStill,
        (taking, format): (Taking, ImageFormat),
        keys: &Supply,
        work: &Work<'_>,
    ) -> Result<Image> {
        if !making.folder.has_data()? {
            let Taking { source, target, operation } = taking;
            let path = ImageSource::File(still.path().to_owned());
            let request = self.request(path, &making.folder, operation);
            let between = Between {
                formats: CloneFormats { source, target },
                // What was never written to a volume of ours means nothing.
                holes: Holes::Zeros,
                checking: Checking::Expected,
                below: None,
                layout: None,
            };
            run_between(&making.folder, &request, between, keys, work)?;
        }
        making.seal(new, Some(format), Digest::Unknown, work)
    }
}

/// What happens to the bytes of a volume on the way to an image.
struct Taking {
    source: SourceFormat,
    target: TargetFormat,
    operation: ImageOperation,
}

impl Taking {
    /// They stay as they are, whatever they are.
    const BYTES: Self = Self {
        source: SourceFormat::Bytes,
        target: TargetFormat::Bytes,
        operation: ImageOperation::Copy,
    };

    /// A container becomes something else.
    fn of_container(target: ImageFormat, operation: ImageOperation) -> Self {
        let source = SourceFormat::Luks(Some(LuksFormat::Luks2));
        Self { source, target: TargetFormat::Image(target), operation }
    }
}

/// Returns what is done with the bytes of a volume, and what format the image has then.
fn taking(
    id: &ImageId,
    volume: &Volume,
    format: ImageFormat,
    contents: ExportedContents,
) -> Result<(Taking, ImageFormat)> {
    let as_they_are = contents == ExportedContents::AsTheyAre;
    let encrypted = volume.encryption.is_encrypted();
    if encrypted && !matches!(volume.format, FormatState::Formatted { .. }) {
        let volume = volume.id.to_string();
        return Err(Error::image(id, ImageProblem::NothingToExport { volume }));
    }
    match (format, encrypted, as_they_are) {
        (ImageFormat::Raw, false, _) => Ok((Taking::BYTES, ImageFormat::Raw)),
        (ImageFormat::Raw | ImageFormat::Luks2, true, true) => {
            Ok((Taking::BYTES, ImageFormat::Luks2))
        }
        (ImageFormat::Qcow2, false, _) => {
            // What a guest has written is its own affair: no byte of it is looked at.
            let target = TargetFormat::Image(ImageFormat::Qcow2);
            Ok((Taking { target, ..Taking::BYTES }, ImageFormat::Qcow2))
        }
        (ImageFormat::Qcow2 | ImageFormat::Qcow2Luks, true, true) => {
            let request =
                EncryptionRequest { format: LuksFormat::Luks1, ..EncryptionRequest::default() };
            let format = ImageFormat::Qcow2Luks;
            Ok((Taking::of_container(format, ImageOperation::Reencrypt(request)), format))
        }
        (ImageFormat::Raw | ImageFormat::Qcow2, true, false) => {
            Ok((Taking::of_container(format, ImageOperation::Decrypt), format))
        }
        _ => {
            let what = if encrypted { "encrypted" } else { "not encrypted" };
            let problem = format!(
                "volume {}, which is {what}, cannot be exported as {format}: say raw or qcow2",
                volume.id
            );
            Err(Error::Request { problem })
        }
    }
}

/// Returns the snapshot from which an image is made.
pub(super) fn moment(id: &ImageId) -> SnapshotId {
    let whole = format!("{MOMENT}{id}");
    let name = match whole.parse() {
        Ok(name) => Ok(name),
        // Another name that is as much the image's own.
        Err(_) => {
            let digest = strongroom_crypto::Hash::Sha256.digest(&[whole.as_bytes()]);
            format!("{MOMENT}{}", hexadecimal(&digest)).parse()
        }
    };
    name.expect("a prefix and hexadecimal digits are an identifier")
}

/// Stops a copy when a piece of work shall stop.
struct Quiet<'a>(&'a AtomicBool);

impl CopyProgress for Quiet<'_> {
    fn copied(&self, _: u64, _: u64) {}

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the names of snapshots begin with that are there for an export.
const MOMENT: &str = "image-export-";

/// How many images or snapshots are looked at together.
const PAGE: usize = 256;
