//! What an image of QEMU's lies over, where somebody knows more of it than the image says.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_disk::qcow2::{Gate, NamedFile, Qcow2};
use strongroom_disk::{Access, Disk, Raw};

use super::source::unlock_qcow2;
use super::{Side, Work, open};
use crate::Result;

/// The disk that an image lies over, open.
///
/// An image cannot say that the raw file it lies over is a LUKS volume, nor which key opens that; libvirt
/// keeps such things in the documents of the volumes.
pub(crate) struct Below {
    /// The file that the image must name.
    path: PathBuf,
    /// The file, and all that it lies over in its turn.
    files: Vec<PathBuf>,
    disk: Arc<dyn Disk>,
}

impl Below {
    /// Opens a file for reading, over what it lies over in its turn. Nothing else that it names is opened, but
    /// for what lies in `backing_from` where nobody says.
    ///
    /// # Errors
    ///
    /// When it is not what `side` says, or `side` does not open it.
    pub(crate) fn open(
        side: Side<'_>,
        below: Option<&Self>,
        backing_from: &[PathBuf],
        work: &Work<'_>,
    ) -> Result<Self> {
        let path = side.path.to_owned();
        let disk = match below {
            None => open(side, backing_from, work)?.into_disk(),
            Some(below) => {
                let mut image =
                    Qcow2::open(Raw::open(&path, Access::ReadOnly)?, Access::ReadOnly, below)?;
                if let Some(opener) = side.opener {
                    unlock_qcow2(&mut image, opener, &work.policy)?;
                }
                Arc::new(image)
            }
        };
        let further = below.map(Self::files).unwrap_or_default();
        let files = std::iter::once(&path).chain(further).cloned().collect();
        Ok(Self { path, files, disk })
    }

    /// Returns the file, and all that it lies over.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

impl Gate for Below {
    fn backing(&self, named: &NamedFile<'_>) -> strongroom_disk::Result<Box<dyn Disk>> {
        match Path::new(named.image).with_file_name(named.name) == self.path {
            true => Ok(Box::new(Arc::clone(&self.disk))),
            false => Err(named.denied()),
        }
    }
}

impl fmt::Debug for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Below").field("files", &self.files).finish_non_exhaustive()
    }
}
