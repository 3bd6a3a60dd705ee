//! Secrets and volumes as libvirt's documents describe them: secrets kept sealed, volumes made as libvirt's
//! storage driver would have made them, and remembered.

mod adopting;
mod backing;
mod cloning;
mod creating;
mod deleting;
mod describing;
mod directory;
mod erasing;
mod opening;
mod plan;
mod problem;
mod records;
mod resizing;
mod secrets;
mod session;

pub use creating::{Made, NewVolume};
pub use deleting::{Deleted, SecretFate};
pub use describing::{DiskRequest, VolumeEntry, VolumeFacts};
pub use directory::VolumeName;
pub use erasing::{Erasure, Wiped};
pub use problem::LibvirtProblem;
pub use secrets::{Force, SecretEntry, ValueNote, value_of_base64};
pub use session::random_uuid;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_crypto::{CostPolicy, Passphrase};
use strongroom_model::dialect::libvirt::SecretName;

use self::session::Session;
use crate::Result;
use crate::audit::Audit;
use crate::catalog::{Catalog, MemoryCatalog};
use crate::sealing::Sealer;

/// Secrets and volumes in a data directory.
///
/// # Guarantees
///
/// - The value of a secret is kept sealed, and one that was made here is stored and read back before
///   anything is encrypted with it.
/// - A volume is made in a file that was created exclusively, and is there when it is whole.
/// - What was recorded of a volume is no volume when its file is not there.
/// - Every use of a value, and everything that destroys, is in the audit log before it is done.
#[derive(Debug, Clone)]
pub struct Libvirt {
    place: Place,
    actor: String,
    values: Option<Arc<dyn SecretValues>>,
    policy: CostPolicy,
}

/// Where values of secrets come from that are not kept here: from a libvirt daemon.
pub trait SecretValues: fmt::Debug + Send + Sync {
    /// Returns the UUID and the value of a secret that is for volumes.
    ///
    /// # Errors
    ///
    /// When there is none, or it is told to nobody.
    fn value(&self, name: &SecretName) -> Result<(String, Passphrase)>;
}

/// What a data directory holds, for somebody who has it for himself.
#[derive(Debug)]
pub struct Vault {
    catalog: Arc<dyn Catalog>,
    /// Secrets that are written to no medium.
    memory: MemoryCatalog,
    sealer: Sealer,
    audit: Arc<Audit>,
    locks: PathBuf,
    /// Had by whoever reads and writes here, until he is done: what a session has found stays so.
    turn: Mutex<()>,
}

/// How the data directory is had.
#[derive(Debug, Clone)]
enum Place {
    /// It is opened when there is something to read or write in it.
    Directory(PathBuf),
    /// Somebody has it all the time.
    Held(Arc<Vault>),
}

impl Libvirt {
    /// Returns those in a data directory, which is opened, and made, only for the moments in which something
    /// is read or written in it.
    pub fn in_directory(data: PathBuf, actor: String) -> Self {
        let policy = CostPolicy::default();
        Self { place: Place::Directory(data), actor, values: None, policy }
    }

    /// Returns those of somebody who has the data directory. Ephemeral secrets are kept as long as the
    /// vault is.
    pub fn held(vault: Arc<Vault>, actor: String) -> Self {
        Self { place: Place::Held(vault), actor, values: None, policy: CostPolicy::default() }
    }

    /// Changes what deriving a key may cost.
    #[must_use]
    pub fn with_policy(mut self, policy: CostPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Takes the values of secrets from somewhere else.
    #[must_use]
    pub fn with_values_of(mut self, values: Arc<dyn SecretValues>) -> Self {
        self.values = Some(values);
        self
    }

    /// Does something in the data directory, which nobody else has meanwhile.
    fn session<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T> {
        match &self.place {
            Place::Held(vault) => {
                // It guards nothing that a panic could leave half done: the catalog does that.
                let _turn = vault.turn.lock().unwrap_or_else(PoisonError::into_inner);
                work(&vault.session(self, Keeping::Memory))
            }
            Place::Directory(data) => {
                let opened = opening::open(data)?;
                work(&opened.vault.session(self, Keeping::Nothing))
            }
        }
    }

    /// Returns the catalog, to read in it whoever else works in the data directory.
    fn catalog(&self) -> Result<Arc<dyn Catalog>> {
        match &self.place {
            Place::Held(vault) => Ok(Arc::clone(&vault.catalog)),
            Place::Directory(data) => opening::catalog(data),
        }
    }

    /// Returns the folder of the locks of volumes.
    fn locks(&self) -> PathBuf {
        match &self.place {
            Place::Held(vault) => vault.locks.clone(),
            Place::Directory(data) => data.join(LOCKS),
        }
    }
}

impl Vault {
    /// Returns the vault in `data`, of which the caller holds the lock.
    pub fn new(catalog: Arc<dyn Catalog>, sealer: Sealer, audit: Arc<Audit>, data: &Path) -> Self {
        let (memory, locks) = (MemoryCatalog::new(), data.join(LOCKS));
        Self { catalog, memory, sealer, audit, locks, turn: Mutex::new(()) }
    }

    fn session<'a>(&'a self, of: &'a Libvirt, keeping: Keeping) -> Session<'a> {
        Session {
            catalog: &*self.catalog,
            memory: match keeping {
                Keeping::Memory => Some(&self.memory),
                Keeping::Nothing => None,
            },
            sealer: &self.sealer,
            audit: &self.audit,
            actor: &of.actor,
            values: of.values.as_deref(),
        }
    }
}

/// What becomes of a secret that is written to no medium.
#[derive(Debug, Clone, Copy)]
enum Keeping {
    /// The process lasts, and so does it.
    Memory,
    /// It could not be used by anybody.
    Nothing,
}

/// The folder of locks in a data directory.
const LOCKS: &str = "libvirt-locks";
