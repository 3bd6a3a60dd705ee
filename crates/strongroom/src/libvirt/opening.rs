//! The data directory, opened for a moment.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use strongroom_disk::{Access, Operation, Raw};
use strongroom_pool::Directory;

use super::records::VolumeRecord;
use super::{LibvirtProblem, Vault};
use crate::audit::Audit;
use crate::catalog::{Catalog, MemoryCatalog, SqliteCatalog};
use crate::sealing::Sealer;
use crate::{Error, Result};

/// A data directory that nobody else opens as long as this is there.
pub(super) struct Opened {
    pub(super) vault: Vault,
    _lock: File,
}

/// Opens a data directory, or makes it.
///
/// # Errors
///
/// [`LibvirtProblem::DirectoryInUse`] when a server has it, or somebody else does not let go of it.
pub(super) fn open(data: &Path) -> Result<Opened> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(failed(data))?;
    let lock = lock(data)?;
    let pool = Directory::open(&data.join(POOL))?;
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(&pool.root().join(CATALOG))?);
    let sealer = Sealer::open(&data.join(KEK), &*catalog)?;
    let audit = Arc::new(Audit::open(&data.join(AUDIT), Arc::clone(&catalog))?);
    let vault = Vault::new(catalog, sealer, audit, data);
    Ok(Opened { vault, _lock: lock })
}

/// Opens the catalog of a data directory to read in it, whoever else works there. Where there is none, it
/// is empty.
///
/// # Errors
///
/// When it is no catalog.
pub(super) fn catalog(data: &Path) -> Result<Arc<dyn Catalog>> {
    let path = data.join(POOL).join(CATALOG);
    // Opening would make it.
    if !path.is_file() {
        return Ok(Arc::new(MemoryCatalog::new()));
    }
    Ok(Arc::new(SqliteCatalog::open(&path)?))
}

/// Takes the lock of the directory, with some patience for commands that have it for a moment.
fn lock(data: &Path) -> Result<File> {
    let path = data.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(failed(&path))?;
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(GLANCE);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let (data, by) = (data.to_owned(), holder(&file));
                return Err(Error::libvirt(LibvirtProblem::DirectoryInUse { data, by }));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(&path)(errno.into())),
        }
    }
}

/// Returns who has locked a file, as far as the system tells (proc(5), `/proc/locks`).
fn holder(file: &File) -> String {
    let found = || {
        let inode = format!(":{}", file.metadata().ok()?.ino());
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let line = locks.lines().find(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1) == Some(&"FLOCK") && words.get(5).is_some_and(|at| at.ends_with(&inode))
        })?;
        let process: u32 = line.split_whitespace().nth(4)?.parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        Some(format!("process {process} ({})", name.trim_end()))
    };
    found().unwrap_or_else(|| "another process".to_owned())
}

/// Opens the file of a volume to change it: the file that was recorded, and no other one.
///
/// # Errors
///
/// [`LibvirtProblem::FileGone`]; [`LibvirtProblem::Impossible`] when another file is there, or a link.
pub(super) fn volume_file(record: &VolumeRecord) -> Result<Raw> {
    let path = Path::new(&record.path);
    let refused = |reason: &str| {
        let (name, reason) = (record.path.clone(), reason.to_owned());
        Error::libvirt(LibvirtProblem::Impossible { name, what: "be changed or deleted", reason })
    };
    let not_plain = "there is a link or something else that is no plain file at its path";
    let failed = failed(path);
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let path = record.path.clone();
            return Err(Error::libvirt(LibvirtProblem::FileGone { path }));
        }
        found => found.map_err(&failed)?,
    };
    // Looked at first, since merely opening some devices does something to them.
    if !found.is_file() {
        return Err(refused(not_plain));
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).write(true).custom_flags(flags).open(path);
    let file = file.map_err(&failed)?;
    let found = file.metadata().map_err(&failed)?;
    if !found.is_file() {
        return Err(refused(not_plain));
    }
    if record.inode != Some(found.ino()) {
        return Err(refused(
            "the file at its path is another one than the volume had: if it is to be the volume, define \
             it again by its document",
        ));
    }
    Ok(Raw::from_file(file, record.path.clone(), Access::ReadWrite)?)
}

/// Returns the inode of what is at a path, be it a link.
pub(super) fn inode_at(path: &Path) -> Option<u64> {
    path.symlink_metadata().ok().map(|found| found.ino())
}

/// Returns the error of a file of the directory.
pub(super) fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let label = path.display().to_string();
    move |source| strongroom_disk::Error::from_io(Operation::Open, label.clone(), source).into()
}

const LOCK: &str = "lock";
const POOL: &str = "pool";
const CATALOG: &str = "catalog.sqlite";
const KEK: &str = "kek";
const AUDIT: &str = "audit.log";

/// How long somebody else may have the directory: commands have it while they read and write records.
const PATIENCE: Duration = Duration::from_secs(5);

const GLANCE: Duration = Duration::from_millis(10);
