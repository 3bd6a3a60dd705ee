//! What every part of the server works with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom::audit::Audit;
use strongroom::jobs::Jobs;
use strongroom::library::Library;
use strongroom::volumes::Volumes;

use crate::store::Store;

/// What every part of the server works with. A clone is the same.
#[derive(Debug, Clone)]
pub struct Context {
    /// The documents.
    pub store: Store,
    /// The volumes, in the pool of the data directory.
    pub volumes: Volumes,
    /// The images.
    pub library: Library,
    /// The work that goes on.
    pub jobs: Arc<Jobs>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// The file with the local KEK, which also wraps the data keys of volumes that ask for the local kind.
    pub kek_file: PathBuf,
}

impl Context {
    /// Returns the directory with everything that the server keeps: the one with its KEK.
    pub(crate) fn data(&self) -> &Path {
        self.kek_file.parent().unwrap_or(Path::new("/"))
    }
}
