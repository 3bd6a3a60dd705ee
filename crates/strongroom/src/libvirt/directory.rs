//! Where volumes lie: in a directory, as in libvirt's pools of that kind.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use strongroom_model::dialect::libvirt::Volume;

use super::{Libvirt, LibvirtProblem, opening};
use crate::library::Lock;
use crate::{Error, Result, hexadecimal};

/// Which volume is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeName {
    /// That with this path.
    Path(PathBuf),
    /// That of this name in a directory.
    InPool {
        /// The directory.
        pool: PathBuf,
        /// The name.
        name: String,
    },
}

/// The path of a volume, without links in it but for the last part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VolumePath(String);

impl VolumePath {
    /// Returns where a document puts its volume: into the directory, or where its target path is.
    ///
    /// # Errors
    ///
    /// When it has no path that can be used.
    pub(super) fn of_document(document: &Volume, pool: Option<&Path>) -> Result<Self> {
        let name = &document.name;
        let refused = |reason: &str| {
            Err(Error::libvirt(LibvirtProblem::Impossible {
                name: name.escape_debug().to_string(),
                what: "be made",
                reason: reason.to_owned(),
            }))
        };
        if name.contains(char::is_control) {
            return refused(NO_CONTROLS);
        }
        match (pool, &document.target.path) {
            (Some(pool), _) => Self::in_pool(pool, name),
            (None, Some(path)) if Path::new(path).is_absolute() => Self::of(Path::new(path)),
            (None, Some(_)) => refused("the path of its target does not begin with /"),
            (None, None) => refused("its target has no path, and no pool was named"),
        }
    }

    /// Returns the path that somebody means.
    ///
    /// # Errors
    ///
    /// When its directory is not there, or the name is none.
    pub(super) fn named(name: &VolumeName) -> Result<Self> {
        match name {
            VolumeName::Path(path) => Self::of(path),
            VolumeName::InPool { pool, name } => Self::in_pool(pool, name),
        }
    }

    pub(super) fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn in_pool(pool: &Path, name: &str) -> Result<Self> {
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(Error::libvirt(LibvirtProblem::Impossible {
                name: name.to_owned(),
                what: "be in a pool",
                reason: "the name of a volume has no / in it, and is neither . nor ..".to_owned(),
            }));
        }
        Self::of(&pool.join(name))
    }

    fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().map(OsStr::to_owned).ok_or_else(|| {
            let problem = format!("{} names no file", path.display());
            Error::Request { problem }
        })?;
        if name.to_string_lossy().contains(char::is_control) {
            return Err(Error::libvirt(LibvirtProblem::Impossible {
                name: name.to_string_lossy().escape_debug().to_string(),
                what: "be a volume",
                reason: NO_CONTROLS.to_owned(),
            }));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let whole = parent.canonicalize().map_err(opening::failed(parent))?.join(name);
        let text = whole.into_os_string().into_string().map_err(|path| Error::Request {
            problem: format!("{} is no text, as a path in a document is", path.display()),
        })?;
        Ok(Self(text))
    }
}

/// What would be printed as something else than it is, or end the line.
const NO_CONTROLS: &str =
    "the name of a volume has no control characters in it, as the end of a line is";

impl Libvirt {
    /// Takes the lock of a volume.
    ///
    /// # Errors
    ///
    /// [`LibvirtProblem::AtWork`] when somebody has it.
    pub(super) fn lock(&self, path: &VolumePath) -> Result<Lock> {
        let digest = Sha256::digest(path.as_path().as_os_str().as_bytes());
        let name = hexadecimal(&digest);
        let taken = Lock::take_in(&self.locks(), &name)?;
        taken.ok_or_else(|| {
            Error::libvirt(LibvirtProblem::AtWork { path: path.as_str().to_owned() })
        })
    }
}
