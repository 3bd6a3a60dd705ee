//! Volumes whose bytes are read as they are at one moment.

use std::path::{Path, PathBuf};

use strongroom_model::{SnapshotId, VolumeId};
use strongroom_pool::{CopyProgress, Item, ItemGuard};

use super::{Condition, Snapshot, Volume, Volumes};
use crate::Result;

/// A volume, or a snapshot of it, that nobody changes as long as this is held.
pub(crate) struct StandingStill {
    /// The volume as it was then.
    pub(crate) volume: Volume,
    path: PathBuf,
    _guard: ItemGuard,
}

impl StandingStill {
    /// Returns the file or device with its bytes.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Volumes {
    /// Holds a volume still: itself when nobody can write to it, else a snapshot called `moment`, which is
    /// taken once and stays until somebody deletes it.
    ///
    /// # Errors
    ///
    /// Those of [`snapshot`](Self::snapshot).
    pub(crate) fn hold_still(
        &self,
        id: &VolumeId,
        moment: &SnapshotId,
        progress: &dyn CopyProgress,
    ) -> Result<StandingStill> {
        if let Some(snapshot) = self.snapshot_of(moment)?
            && snapshot.condition == Condition::Ready
            && snapshot.of.id == *id
        {
            return self.hold_snapshot(snapshot);
        }
        let guard = self.lock(id)?;
        let volume = self.load_ready(id)?.record;
        let attached = match self.load_attachment(id)?.map(|stored| stored.record) {
            Some(found) => !found.read_only && self.appears(&found)?,
            None => {
                self.clear_away(id)?;
                false
            }
        };
        if !attached {
            let path = self.device_path(id)?;
            return Ok(StandingStill { volume, path, _guard: guard });
        }
        drop(guard);
        let snapshot = self.snapshot(id, moment, progress)?;
        self.hold_snapshot(snapshot)
    }

    fn hold_snapshot(&self, snapshot: Snapshot) -> Result<StandingStill> {
        let item = Item::Snapshot(snapshot.id);
        let guard = self.pool.try_lock(&item)?;
        let path = self.pool.path(&item)?;
        Ok(StandingStill { volume: snapshot.of, path, _guard: guard })
    }
}
