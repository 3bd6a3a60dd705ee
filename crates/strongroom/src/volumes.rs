//! Volumes: made in a pool, formatted once, attached, grown, copied, deleted.

mod attaching;
mod attachment;
mod copying;
mod exporting;
mod filling;
mod key_record;
mod ledger;
mod life;
mod opening;
mod problem;
mod record;
mod reencrypting;
mod rekeying;
mod report;
mod request;
mod showing;

pub(crate) use exporting::StandingStill;
pub(crate) use filling::{CopyInto, Filling, Rekeying};
pub(crate) use ledger::digest_of;

pub use attachment::{Attachment, AttachmentState, Backend, Show};
pub use problem::VolumeProblem;
pub use record::{Condition, FormatState, Snapshot, Volume, VolumeEncryption};
pub use reencrypting::Watch;
pub use report::{HeaderBackup, HeaderFacts, VolumeReport};
pub use request::{AttachRequest, NewVolume, Source, VolumeOpener};

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use strongroom_attach::Launcher;
use strongroom_crypto::CostPolicy;
use strongroom_model::VolumeId;
use strongroom_pool::{Directory, Item, ItemGuard, Pool, Space};

use self::ledger::Ledger;
use crate::catalog::{Catalog, Records, SqliteCatalog, Stored};
use crate::{Error, Result, hexadecimal};

/// The volumes of a pool, as a catalog knows them.
///
/// # Guarantees
///
/// - Every method may be called from any number of threads and processes at once. What somebody else
///   is at work on is refused with [`ErrorKind::Busy`](crate::ErrorKind::Busy).
/// - Every method may be called again after a crash at any point, and then does what is left.
/// - A volume is formatted at most once.
#[derive(Debug, Clone)]
pub struct Volumes {
    pool: Arc<dyn Pool>,
    catalog: Arc<dyn Catalog>,
    launcher: Launcher,
    /// Where sockets and files of running attachments lie; gone after a reboot, as they are.
    run: PathBuf,
    /// Where copies of headers are kept, if they are.
    headers: Option<PathBuf>,
    policy: CostPolicy,
}

impl Volumes {
    /// Returns the volumes of a pool. `run` is a directory that is emptied by a reboot, and no other
    /// pool's.
    pub fn new(
        pool: Arc<dyn Pool>,
        catalog: Arc<dyn Catalog>,
        launcher: Launcher,
        run: PathBuf,
    ) -> Self {
        Self { pool, catalog, launcher, run, headers: None, policy: CostPolicy::default() }
    }

    /// Opens the pool in a directory, with its catalog in the same place.
    ///
    /// # Errors
    ///
    /// When either is not what it should be.
    pub fn open(directory: &Path, launcher: Launcher) -> Result<Self> {
        let pool = Directory::open(directory)?;
        let catalog = SqliteCatalog::open(&pool.root().join(CATALOG))?;
        let run = run_folder().join(tag(pool.root()));
        let headers = Some(pool.root().join(HEADERS));
        let volumes = Self::new(Arc::new(pool), Arc::new(catalog), launcher, run);
        Ok(Self { headers, ..volumes })
    }

    /// Changes what deriving a key may cost.
    #[must_use]
    pub fn with_policy(mut self, policy: CostPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> Arc<dyn Catalog> {
        Arc::clone(&self.catalog)
    }

    /// Returns the room of the pool.
    ///
    /// # Errors
    ///
    /// What the pool says.
    pub fn space(&self) -> Result<Space> {
        self.pool.space().map_err(Error::from)
    }

    /// Returns the file or device that holds the bytes of a volume, its header first. For people: what is
    /// written there past this crate, nobody has checked.
    ///
    /// # Errors
    ///
    /// When the pool does not have it.
    pub fn device_path(&self, id: &VolumeId) -> Result<PathBuf> {
        self.pool.path(&Item::Volume(id.clone())).map_err(Error::from)
    }

    fn ledger(&self) -> Ledger<'_> {
        Ledger { pool: &*self.pool, catalog: &*self.catalog }
    }

    fn lock(&self, id: &VolumeId) -> Result<ItemGuard> {
        Ok(self.pool.try_lock(&Item::Volume(id.clone()))?)
    }

    fn load(&self, id: &VolumeId) -> Result<Stored<Volume>> {
        let found = Records::of(&*self.catalog).load(id.as_str())?;
        found.ok_or_else(|| Error::volume(id, VolumeProblem::NotFound))
    }

    /// Returns the name of a volume's mapping: one that no other pool of this machine has, and that a
    /// device-mapper UUID has room for.
    fn mapping_name(&self, id: &VolumeId) -> String {
        let name = format!("strongroom-{}-{id}", tag(&self.run));
        if name.len() <= LONGEST_MAPPING {
            name
        } else {
            format!("strongroom-{}", tag(Path::new(&name)))
        }
    }

    fn make_run_folder(&self, id: &VolumeId) -> Result<()> {
        self.make_private_folder(&self.run.join(id.as_str()))
    }

    /// Makes a folder that nobody else can look into, and refuses one that somebody else has made.
    fn make_private_folder(&self, folder: &Path) -> Result<()> {
        let failed = |source| {
            let problem = format!("cannot make {}", folder.display());
            Error::Attach(strongroom_attach::Error::from_io(problem, source))
        };
        let parents = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        parents.map_err(failed)?;
        // Whoever owns one of those above could put another folder in its place.
        let above = self.run.parent().filter(|_| folder.starts_with(&self.run));
        let ours =
            folder.ancestors().take_while(|part| Some(*part) != above.and_then(Path::parent));
        let limit = if above.is_some() { usize::MAX } else { 1 };
        for part in ours.take(limit) {
            let found = std::fs::symlink_metadata(part).map_err(failed)?;
            let is_own = found.uid() == rustix::process::geteuid().as_raw();
            if !found.is_dir() || !is_own || found.mode() & OTHERS_WRITE != 0 {
                let problem = format!("{} is not ours alone", part.display());
                let kind = strongroom_attach::ErrorKind::Request;
                return Err(strongroom_attach::Error::new(kind, problem)
                    .hinted("remove it, or let only this user write to it")
                    .into());
            }
        }
        Ok(())
    }

    fn header_backup_path(&self, id: &VolumeId) -> Option<PathBuf> {
        self.headers.as_ref().map(|folder| folder.join(format!("{id}.luks")))
    }
}

/// Returns the bytes that a device needs for a volume of which `size` can be used: an encrypted one has
/// its header in front.
pub fn device_len(size: u64, encryption: &VolumeEncryption) -> u64 {
    match encryption {
        VolumeEncryption::None => size,
        VolumeEncryption::Passphrase | VolumeEncryption::Kms(_) => size.saturating_add(HEADER_LEN),
    }
}

/// Returns where what does not outlive a boot lies.
fn run_folder() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/strongroom");
    }
    std::env::var_os("XDG_RUNTIME_DIR")
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("strongroom-{}", rustix::process::geteuid().as_raw()))
}

/// Returns a short text that stands for a path.
fn tag(path: &Path) -> String {
    hexadecimal(&Sha256::digest(path.as_os_str().as_encoded_bytes())[..6])
}

/// The catalog in the directory of a pool.
const CATALOG: &str = "catalog.sqlite";

/// The permissions by which others could change a folder.
const OTHERS_WRITE: u32 = 0o022;

/// The folder of saved headers in the directory of a pool.
const HEADERS: &str = "headers";

/// How long the name of a mapping may be: its UUID, of at most 128 bytes, ends with it.
const LONGEST_MAPPING: usize = 80;

/// What a LUKS2 header takes in front of the data, in bytes.
pub const HEADER_LEN: u64 = 16 << 20;

#[cfg(test)]
mod tests;
