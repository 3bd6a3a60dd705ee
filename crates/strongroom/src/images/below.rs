//! What an image of QEMU's lies over, where somebody knows more of it than the image says.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use strongroom_disk::Disk;
use strongroom_disk::qcow2::{Gate, NamedFile};

use super::source::{self, Chain, ChainFile};
use super::{Side, Work};
use crate::Result;

/// The disk that an image lies over, open.
///
/// An image cannot say that the raw file it lies over is a LUKS volume, nor which key opens that; libvirt
/// keeps such things in the documents of the volumes.
pub(crate) struct Below {
    /// What the image calls it.
    name: String,
    disk: Arc<dyn Disk>,
    /// Its file, and all that it lies over in its turn, as they were before they were read.
    files: Chain,
}

impl Below {
    /// Opens what an image lies over that calls it `name`, for reading. Of the files that it names in its
    /// turn, `below` is opened where there is one, and else what lies in `backing_from`.
    ///
    /// # Errors
    ///
    /// When it is not what `side` says, or `side` does not open it.
    pub(crate) fn open(
        name: String,
        side: Side<'_>,
        below: Option<&Self>,
        backing_from: &[PathBuf],
        work: &Work<'_>,
    ) -> Result<Self> {
        let mut files = vec![ChainFile::of(side.path)?];
        let (disk, further) = source::open_any(side, below, backing_from, work)?;
        files.extend(further);
        Ok(Self { name, disk, files })
    }

    /// Returns its file, and all that it lies over.
    pub(super) fn files(&self) -> &[Arc<ChainFile>] {
        &self.files
    }
}

/// Nothing is looked up by the names in an image: it has to say what it said when it was looked at.
impl Gate for Below {
    fn backing(&self, named: &NamedFile<'_>) -> strongroom_disk::Result<Box<dyn Disk>> {
        match named.name == self.name {
            true => Ok(Box::new(Arc::clone(&self.disk))),
            false => Err(named.denied()),
        }
    }
}

impl fmt::Debug for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Below").field("name", &self.name).finish_non_exhaustive()
    }
}
