//! What volumes lie over. Their documents say it and the images themselves say it, and both have to say the
//! same: an image may have come from anybody, and a document may be older than what QEMU has made of its image.

use std::fs;
use std::path::{Path, PathBuf};

use strongroom_disk::qcow2::{BackingName, NamedFile, Role};
use strongroom_model::ImageFormat;

use super::describing::Known;
use super::{Libvirt, VolumeName};
use crate::images::{Below, Side, Work};
use crate::{ErrorKind, Opener, Result, qcow2_image};

/// What a volume lies over, when that is a volume of ours.
#[derive(Debug)]
pub(super) struct Backing {
    pub(super) volume: Known,
    /// What the image above calls it.
    name: String,
}

impl Libvirt {
    /// Returns what a volume lies over, when that is a volume of ours; so many layers are above it.
    ///
    /// # Errors
    ///
    /// When document and image do not say the same, when there are too many layers, or when its keys were
    /// destroyed.
    pub(super) fn backing(&self, known: &Known, above: usize) -> Result<Option<Backing>> {
        let Some(path) = known.record.backing_path()? else { return Ok(None) };
        let named = same(known.path.as_path(), Some(&path))
            .map_err(|reason| known.impossible("be opened", &reason))?;
        let Some(named) = named.filter(|_| path.exists()) else { return Ok(None) };
        if above == MOST_LAYERS {
            return Err(known.impossible("be opened", "it has too many layers above it"));
        }
        let Some(volume) = self.known_by_any_path(&path)? else { return Ok(None) };
        volume.refuse_wiped()?;
        if !may_be(named.format.as_deref(), volume.format) {
            let reason = format!(
                "its header says that its backing file {:?} is {}, and that is a volume in {}",
                named.name,
                named.format.unwrap_or_default().escape_debug(),
                volume.format
            );
            return Err(known.impossible("be opened", &reason));
        }
        Ok(Some(Backing { volume, name: named.name }))
    }

    /// Opens what a volume lies over, where that is a volume of ours: each layer with its own secret. `None`
    /// where it is not.
    ///
    /// # Errors
    ///
    /// Those of [`backing`](Self::backing), and when a layer is not opened.
    pub(super) fn below(&self, known: &Known, work: &Work<'_>) -> Result<Option<Below>> {
        self.below_from(known, 0, work)
    }

    fn below_from(&self, known: &Known, above: usize, work: &Work<'_>) -> Result<Option<Below>> {
        let Some(Backing { volume, name }) = self.backing(known, above)? else { return Ok(None) };
        let further = self.below_from(&volume, above + 1, work)?;
        let folders = match further {
            Some(_) => Vec::new(),
            None => backing_from(&volume)?,
        };
        let passphrase = self.opener(&volume)?;
        let side = Side {
            path: volume.path.as_path(),
            format: Some(volume.format),
            header: None,
            opener: passphrase.as_ref().map(Opener::from),
        };
        Below::open(name, side, further.as_ref(), &folders, work).map(Some)
    }

    /// Returns the volume that a path leads to, whatever links are on it.
    fn known_by_any_path(&self, path: &Path) -> Result<Option<Known>> {
        let links_resolved = path.canonicalize().ok();
        for path in [Some(path.to_owned()), links_resolved].into_iter().flatten() {
            match self.known(&VolumeName::Path(path)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                found => return found.map(Some),
            }
        }
        Ok(None)
    }
}

/// Returns the folder of the backing store that the document of a volume names: where that is no volume of ours,
/// it is opened from there, and so is what it names in its turn. None where the document names nothing.
pub(super) fn backing_from(known: &Known) -> Result<Vec<PathBuf>> {
    let path = known.record.backing_path()?;
    Ok(path.as_deref().and_then(Path::parent).map(ToOwned::to_owned).into_iter().collect())
}

/// Returns the backing file as the image at `path` calls it, if it is what its document names. `None` for an
/// image that has none.
///
/// # Errors
///
/// Why not, in words.
pub(super) fn same(
    path: &Path,
    document: Option<&Path>,
) -> std::result::Result<Option<BackingName>, String> {
    let described = qcow2_image::describe(path).map_err(|error| error.to_string())?;
    let (backing, document) = match (described.header.backing, document) {
        (None, None) => return Ok(None),
        (None, Some(document)) => {
            return Err(format!(
                "its document says that it lies over {}, and its header names no backing file: take it \
                 over anew, by a document without <backingStore>",
                document.display()
            ));
        }
        (Some(backing), None) => {
            return Err(format!(
                "its header names the backing file {:?}, and its document none: take it over anew, by \
                 a document with that <backingStore>",
                backing.name
            ));
        }
        (Some(backing), Some(document)) => (backing, document),
    };
    let named = NamedFile {
        image: &path.display().to_string(),
        role: Role::Backing,
        name: &backing.name,
        format: backing.format.as_deref(),
    };
    let found = named.path_beside(path).map_err(|error| error.to_string())?;
    match resolved(&found) == resolved(document) {
        true => Ok(Some(backing)),
        false => Err(format!(
            "its document says that it lies over {}, and its header names the backing file {:?}: take \
             it over anew, by a document that says so, too",
            document.display(),
            backing.name
        )),
    }
}

/// Returns where a path leads to; where nothing is there, as far as there is something.
fn resolved(path: &Path) -> PathBuf {
    let beside = || Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(beside).unwrap_or_else(|| path.to_owned())
}

/// Tells whether a backing file can be a volume of this format, by what the image above calls its format.
/// That a raw file is a LUKS volume, libvirt's documents say, and no image.
fn may_be(claimed: Option<&str>, format: ImageFormat) -> bool {
    let is_luks = matches!(format, ImageFormat::Luks1 | ImageFormat::Luks2);
    match claimed {
        None => true,
        Some("raw") => is_luks || format == ImageFormat::Raw,
        Some("luks") => is_luks,
        Some("qcow2") => format.is_qcow2(),
        Some(_) => false,
    }
}

/// How many layers a disk has at most; more only come of documents that name each other.
const MOST_LAYERS: usize = 64;
