//! What lies where in the directory of a pool.
//!
//! ```text
//! pool.json        says that this is a pool, and of which version
//! volumes/ID/      data and, before it is formatted, format.json
//! snapshots/ID/    the same
//! volumes/.ID.new  what is being made, volumes/.ID.old what is being deleted
//! locks/           a file for each lock that is held
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::handle::{Handle, NEW, failed, hidden};
use crate::{Error, Item, Result};

/// The open directories of a pool.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) root: Handle,
    pub(super) volumes: Handle,
    pub(super) snapshots: Handle,
    pub(super) locks: Arc<Handle>,
}

impl Layout {
    /// Opens what lies at `path`, and makes a pool there when nothing does.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|found| !found.is_dir()) {
            return Err(not_a_pool(path, "it is no directory"));
        }
        let make = DirBuilder::new().recursive(true).mode(0o700).create(path);
        make.map_err(|source| failed("create", path, source))?;
        // Whoever changes the working directory, or a link, does not change what paths name.
        let path = fs::canonicalize(path).map_err(|source| failed("find", path, source))?;
        let root = Handle::open(&path)?;
        if !is_marked(&root)? {
            mark(&root)?;
        }
        Ok(Self {
            volumes: root.child_or_new(VOLUMES)?,
            snapshots: root.child_or_new(SNAPSHOTS)?,
            locks: Arc::new(root.child_or_new(LOCKS)?),
            root,
        })
    }

    /// Returns where items of this kind lie.
    pub(super) fn shelf(&self, item: &Item) -> &Handle {
        match item {
            Item::Volume(_) => &self.volumes,
            Item::Snapshot(_) => &self.snapshots,
        }
    }
}

/// What `pool.json` says.
#[derive(Serialize, Deserialize)]
struct Mark {
    format: String,
    version: u32,
}

fn is_marked(root: &Handle) -> Result<bool> {
    let Some(file) = root.file(POOL, OFlags::RDONLY)? else { return Ok(false) };
    let path = root.path();
    let mut text = Vec::new();
    file.take(LONGEST_MARK)
        .read_to_end(&mut text)
        .map_err(|source| failed("read", &path.join(POOL), source))?;
    let mark: Mark = serde_json::from_slice(&text)
        .map_err(|error| not_a_pool(path, format!("{POOL} cannot be read: {error}")))?;
    if mark.format != FORMAT {
        return Err(not_a_pool(path, format!("{POOL} belongs to something else")));
    }
    if mark.version != VERSION {
        let problem = format!(
            "it has version {} of the layout, and this program knows version {VERSION}: use a newer one",
            mark.version
        );
        return Err(not_a_pool(path, problem));
    }
    Ok(true)
}

/// Makes an empty directory a pool. `pool.json` comes first, so what a crash leaves is either still empty
/// or a pool whose other directories are made by whoever opens it next.
fn mark(root: &Handle) -> Result<()> {
    let _lock = lock(root)?;
    // Somebody else may have done so meanwhile.
    if is_marked(root)? {
        return Ok(());
    }
    let ours = hidden(POOL, NEW);
    if let Some(other) = root.names()?.into_iter().find(|name| *name != ours && name != LOST) {
        let problem = format!("it holds other things, such as {other}; name an empty directory");
        return Err(not_a_pool(root.path(), problem));
    }
    let mark = Mark { format: FORMAT.to_owned(), version: VERSION };
    let mut text = serde_json::to_vec(&mark).expect("two plain fields become JSON");
    text.push(b'\n');
    root.replace_file(POOL, &text)
}

/// Locks the root until the returned file is closed.
fn lock(root: &Handle) -> Result<File> {
    let failed = |source: io::Error| failed("lock", root.path(), source);
    let file = File::open(root.path()).map_err(failed)?;
    loop {
        match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

fn not_a_pool(path: &Path, problem: impl Into<String>) -> Error {
    Error::NotAPool { path: path.to_owned(), problem: problem.into() }
}

const POOL: &str = "pool.json";
const VOLUMES: &str = "volumes";
const SNAPSHOTS: &str = "snapshots";
const LOCKS: &str = "locks";

/// What every new ext4 has at its root.
const LOST: &str = "lost+found";

const FORMAT: &str = "strongroom-pool";
const VERSION: u32 = 1;

const LONGEST_MARK: u64 = 4096;
