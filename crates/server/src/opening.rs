//! The data directory of a server.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use strongroom::audit::Audit;
use strongroom::library::Library;
use strongroom::sealing::Sealer;
use strongroom::volumes::Volumes;

use crate::store::Store;
use crate::{Error, Result, Settings};

/// What a data directory holds, opened.
pub(crate) struct Opened {
    /// The documents.
    pub(crate) store: Store,
    /// The volumes.
    pub(crate) volumes: Volumes,
    /// The images.
    pub(crate) library: Library,
    /// The audit log.
    pub(crate) audit: Arc<Audit>,
    /// The file with the local KEK.
    pub(crate) kek_file: PathBuf,
    /// The file with the admin's token.
    pub(crate) admin_file: PathBuf,
    /// Nobody else opens the directory while this is there.
    pub(crate) lock: File,
}

/// Opens a data directory, or makes it.
///
/// # Errors
///
/// [`Error::InUse`] when another server has it; what is wrong with anything in it.
pub(crate) fn open(settings: &Settings) -> Result<Opened> {
    let data = &settings.data;
    let io = |what: String| move |source| Error::Io { what, source };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(io(format!("cannot make {}", data.display())))?;
    let path = data.join("lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = lock.map_err(io(format!("cannot open {}", path.display())))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(Error::InUse { data: data.clone() });
    }
    let volumes = Volumes::open(&data.join("pool"), settings.launcher.clone())?;
    let volumes = volumes.with_policy(settings.policy);
    let catalog = volumes.catalog();
    let kek_file = data.join("kek");
    let sealer = Sealer::open(&kek_file, &*catalog)?;
    let audit = Arc::new(Audit::open(&data.join("audit.log"), Arc::clone(&catalog))?);
    let library = Library::open(&data.join("images"), Arc::clone(&catalog))?;
    let library = library.with_downloads(settings.downloads.clone());
    // Nothing exports yet. What cannot be cleared now only takes room, and is tried at the next start.
    let _ = library.clear_exports(&volumes);
    let store = Store::open(catalog, sealer)?;
    let admin_file = data.join("admin.token");
    Ok(Opened { store, volumes, library, audit, kek_file, admin_file, lock })
}
