//! The programs that take part.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where they lie.
#[derive(Debug)]
pub(crate) struct Tools {
    /// Our own release binary.
    pub(crate) strongroom: PathBuf,
    /// This program, for the copy loop without encryption.
    pub(crate) this: PathBuf,
    /// `qemu-img`, where it is installed.
    pub(crate) qemu_img: Option<PathBuf>,
    /// `qemu-nbd`, where it is installed.
    pub(crate) qemu_nbd: Option<PathBuf>,
    /// `cryptsetup`, where it is installed.
    pub(crate) cryptsetup: Option<PathBuf>,
}

impl Tools {
    /// Looks for them.
    ///
    /// # Errors
    ///
    /// When there is no such binary as `strongroom`; a missing peer is only said.
    pub(crate) fn find(strongroom: &Path) -> Result<Self, Error> {
        let strongroom = strongroom.canonicalize().map_err(Error::system(&strongroom.display()))?;
        let this = env::current_exe().map_err(Error::system(&"this program"))?;
        Ok(Self {
            strongroom,
            this,
            qemu_img: find("qemu-img"),
            qemu_nbd: find("qemu-nbd"),
            cryptsetup: find("cryptsetup"),
        })
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps the tools of administrators out of an ordinary user's PATH.
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|path: &PathBuf| is_file(path));
    if found.is_none() {
        println!("skipped: {name} is not installed");
    }
    found
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}
