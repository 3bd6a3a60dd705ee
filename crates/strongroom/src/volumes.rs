//! Volumes: made in a pool, formatted once, attached, grown, copied, deleted.

mod attachment;
mod problem;
mod record;
mod request;

pub use attachment::{Attachment, AttachmentState, Backend, Show};
pub use problem::VolumeProblem;
pub use record::{Condition, FormatState, Snapshot, Volume, VolumeEncryption};
pub use request::{AttachRequest, NewVolume, Source, VolumeOpener};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_attach::{Launcher, loop_device::Access};
use strongroom_model::{SnapshotId, Tuning, VolumeId};
use strongroom_pool::{CopyProgress, Pool, Space};

use crate::catalog::Catalog;
use crate::{Error, Result};

/// The volumes of a pool, as a catalog knows them.
///
/// # Guarantees
///
/// - Every method may be called from any number of threads and processes at once. What somebody else
///   is at work on is refused with [`ErrorKind::Busy`](crate::ErrorKind::Busy).
/// - Every method may be called again after a crash at any point, and then does what is left.
/// - A volume is formatted at most once.
#[derive(Debug, Clone)]
pub struct Volumes {
    pool: Arc<dyn Pool>,
    catalog: Arc<dyn Catalog>,
    launcher: Launcher,
    /// Where sockets and files of running attachments lie; gone after a reboot, as they are.
    run: PathBuf,
}

impl Volumes {
    /// Returns the volumes of a pool. `run` is a directory that is emptied by a reboot.
    pub fn new(
        pool: Arc<dyn Pool>,
        catalog: Arc<dyn Catalog>,
        launcher: Launcher,
        run: PathBuf,
    ) -> Self {
        Self { pool, catalog, launcher, run }
    }

    /// Opens the pool in a directory, with its catalog in the same place.
    ///
    /// # Errors
    ///
    /// When either is not what it should be.
    pub fn open(_directory: &Path, _launcher: Launcher) -> Result<Self> {
        unimplemented!()
    }

    /// Makes a volume: space in the pool, and an entry in the catalog. Nothing is formatted. One that is
    /// there already and is what was asked for is returned as it is.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::Exists`] when there is another of that name; [`VolumeProblem::Mixed`] when the
    /// source is encrypted in another way; [`VolumeProblem::NoSource`].
    pub fn create(&self, _new: &NewVolume, _progress: &dyn CopyProgress) -> Result<Volume> {
        unimplemented!()
    }

    /// Returns a volume.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::NotFound`].
    pub fn volume(&self, _id: &VolumeId) -> Result<Volume> {
        unimplemented!()
    }

    /// Returns at most `limit` volumes with identifiers after `after`, in their order.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn list(&self, _after: Option<&VolumeId>, _limit: usize) -> Result<Vec<Volume>> {
        unimplemented!()
    }

    /// Deletes a volume: its data, then its keys. It needs no key. One that is not there succeeds.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::InUse`].
    pub fn delete(&self, _id: &VolumeId) -> Result<()> {
        unimplemented!()
    }

    /// Makes a volume larger in the pool; `size` is what the user can use, in bytes. One that is as large
    /// stays as it is. Returns the volume; where it is attached, [`grow`](Self::grow) shows the new size.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::Size`].
    pub fn expand(&self, _id: &VolumeId, _size: u64) -> Result<Volume> {
        unimplemented!()
    }

    /// Lets what is attached on this machine grow to the size of the volume: devices, then the file
    /// system. It needs no key while the volume is attached. Returns the size in bytes.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::NotAttached`].
    pub fn grow(&self, _id: &VolumeId) -> Result<u64> {
        unimplemented!()
    }

    /// Changes what can be tuned about a volume.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::NotFound`].
    pub fn tune(&self, _id: &VolumeId, _tuning: Tuning) -> Result<Volume> {
        unimplemented!()
    }

    /// Makes a volume appear on this machine: formats it when it never was, opens it, checks and mounts
    /// its file system. One that appears already in the same way is returned as it is.
    ///
    /// # Errors
    ///
    /// Each [`VolumeProblem`] of the ledger; what the key or the KMS says; [`VolumeProblem::InUse`] when it
    /// appears in another way.
    pub fn attach(&self, _id: &VolumeId, _request: &AttachRequest<'_>) -> Result<Attachment> {
        unimplemented!()
    }

    /// Undoes whatever makes a volume appear on this machine, whoever did it and however far they got. It
    /// needs no key. A volume that does not appear, or that nobody knows, succeeds.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::InUse`] when somebody still uses it.
    pub fn detach(&self, _id: &VolumeId) -> Result<()> {
        unimplemented!()
    }

    /// Returns how a volume appears on this machine; `None` when it does not.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn attachment(&self, _id: &VolumeId) -> Result<Option<Attachment>> {
        unimplemented!()
    }

    /// Shows an attached volume at one more place: its mount at a directory, its device at a file. The
    /// place is made when it is not there. The same again succeeds.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::NotAttached`].
    pub fn publish(
        &self,
        _id: &VolumeId,
        _target: &Path,
        _access: Access,
        _options: &[String],
    ) -> Result<()> {
        unimplemented!()
    }

    /// Undoes [`publish`](Self::publish), and removes the place. What was never published succeeds.
    ///
    /// # Errors
    ///
    /// When it cannot be unmounted.
    pub fn unpublish(&self, _id: &VolumeId, _target: &Path) -> Result<()> {
        unimplemented!()
    }

    /// Makes a snapshot of a volume. The same again returns the one that is there. Where the volume is
    /// mounted its file system is frozen meanwhile.
    ///
    /// # Errors
    ///
    /// [`VolumeProblem::SnapshotExists`] when there is one of that name of another volume.
    pub fn snapshot(
        &self,
        _of: &VolumeId,
        _id: &SnapshotId,
        _progress: &dyn CopyProgress,
    ) -> Result<Snapshot> {
        unimplemented!()
    }

    /// Returns at most `limit` snapshots with identifiers after `after`, in their order.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn snapshots(&self, _after: Option<&SnapshotId>, _limit: usize) -> Result<Vec<Snapshot>> {
        unimplemented!()
    }

    /// Returns a snapshot, `None` when there is none.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn snapshot_of(&self, _id: &SnapshotId) -> Result<Option<Snapshot>> {
        unimplemented!()
    }

    /// Deletes a snapshot. One that is not there succeeds.
    ///
    /// # Errors
    ///
    /// What pool or catalog say.
    pub fn delete_snapshot(&self, _id: &SnapshotId) -> Result<()> {
        unimplemented!()
    }

    /// Returns the room of the pool.
    ///
    /// # Errors
    ///
    /// What the pool says.
    pub fn space(&self) -> Result<Space> {
        self.pool.space().map_err(Error::from)
    }
}

/// Returns the bytes that a device needs for a volume of which `size` can be used: an encrypted one has
/// its header in front.
pub fn device_len(size: u64, encryption: &VolumeEncryption) -> u64 {
    match encryption {
        VolumeEncryption::None => size,
        VolumeEncryption::Passphrase | VolumeEncryption::Kms(_) => size + HEADER_LEN,
    }
}

/// What a LUKS2 header takes in front of the data, in bytes.
pub const HEADER_LEN: u64 = 16 << 20;
