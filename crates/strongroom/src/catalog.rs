//! What is known of volumes, snapshots, keys, attachments and jobs: documents that are changed by
//! compare-and-swap.
//!
//! [`Catalog`] is what a store of documents implements. [`Records`] gives it types: one kind of
//! [`Record`] is one table.

mod conformance;
mod memory;
mod record;
mod sqlite;

pub use conformance::run as conformance;
pub use memory::MemoryCatalog;
pub use record::{Record, Records, Stored};
pub use sqlite::SqliteCatalog;

use std::fmt;
use std::sync::Arc;

/// The result of everything a catalog does.
pub type Result<T> = std::result::Result<T, Error>;

/// A store of documents, each a JSON text with a version under a kind and an identifier.
///
/// # Guarantees
///
/// - Every method may be called from any number of threads and processes at once, and is atomic.
/// - What has returned survives a loss of power.
/// - The version of a document is 1 when it is inserted, and one more after each replacement. No two
///   replacements of one version succeed.
pub trait Catalog: fmt::Debug + Send + Sync {
    /// Returns a document, `None` when there is none.
    fn load(&self, kind: Kind, id: &str) -> Result<Option<Document>>;

    /// Returns at most `limit` documents of a kind with identifiers after `after`, in their order (by
    /// bytes).
    fn list(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Vec<Document>>;

    /// Puts in a document that is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`].
    fn insert(&self, kind: Kind, id: &str, json: &str) -> Result<()>;

    /// Replaces the document of this version.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] when it has another version by now, or is gone.
    fn replace(&self, kind: Kind, id: &str, version: u64, json: &str) -> Result<()>;

    /// Takes out the document of this version. One that is gone succeeds.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] when it has another version by now.
    fn remove(&self, kind: Kind, id: &str, version: u64) -> Result<()>;
}

impl<C: Catalog + ?Sized> Catalog for Arc<C> {
    fn load(&self, kind: Kind, id: &str) -> Result<Option<Document>> {
        (**self).load(kind, id)
    }

    fn list(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        (**self).list(kind, after, limit)
    }

    fn insert(&self, kind: Kind, id: &str, json: &str) -> Result<()> {
        (**self).insert(kind, id, json)
    }

    fn replace(&self, kind: Kind, id: &str, version: u64, json: &str) -> Result<()> {
        (**self).replace(kind, id, version, json)
    }

    fn remove(&self, kind: Kind, id: &str, version: u64) -> Result<()> {
        (**self).remove(kind, id, version)
    }
}

/// What a document is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A volume, with its format state.
    Volume,
    /// A snapshot.
    Snapshot,
    /// An envelope: the data key of a volume, wrapped.
    Key,
    /// What makes a volume appear on this machine.
    Attachment,
    /// Work that can be taken up again.
    Job,
    /// A disk image at rest.
    Image,
    /// A document that somebody applied, as it was applied; values of Secrets are sealed.
    Object,
    /// What a server has to remember about itself.
    Setting,
    /// A secret of libvirt's; its value is sealed.
    LibvirtSecret,
    /// A volume that a document of libvirt's describes.
    LibvirtVolume,
}

/// A document as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its identifier.
    pub id: String,
    /// Which version it is, 1 for the first.
    pub version: u64,
    /// Its text.
    pub json: String,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Volume,
        Self::Snapshot,
        Self::Key,
        Self::Attachment,
        Self::Job,
        Self::Image,
        Self::Object,
        Self::Setting,
        Self::LibvirtSecret,
        Self::LibvirtVolume,
    ];

    /// Returns what it is called, in the plural as tables are.
    pub fn name(self) -> &'static str {
        match self {
            Self::Volume => "volumes",
            Self::Snapshot => "snapshots",
            Self::Key => "keys",
            Self::Attachment => "attachments",
            Self::Job => "jobs",
            Self::Image => "images",
            Self::Object => "objects",
            Self::Setting => "settings",
            Self::LibvirtSecret => "libvirt_secrets",
            Self::LibvirtVolume => "libvirt_volumes",
        }
    }
}

/// What can go wrong in a catalog.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is a document of that name.
    #[error("{} has an entry {id} already", kind.name())]
    Exists {
        /// Its kind.
        kind: Kind,
        /// Its identifier.
        id: String,
    },
    /// Somebody else has changed the document.
    #[error("entry {id} of {} was changed by somebody else meanwhile", kind.name())]
    Changed {
        /// Its kind.
        kind: Kind,
        /// Its identifier.
        id: String,
    },
    /// A document is not what this program writes.
    #[error("entry {id} of {} cannot be read: {problem}", kind.name())]
    Malformed {
        /// Its kind.
        kind: Kind,
        /// Its identifier.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// The store itself failed.
    #[error("the catalog {label} failed: {problem}")]
    Store {
        /// The store.
        label: String,
        /// What happened.
        problem: String,
        /// What may help.
        cause: StoreCause,
    },
}

/// Why a store failed, as far as somebody can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreCause {
    /// Somebody else uses it: trying again may help.
    Busy,
    /// Its file system is full.
    Full,
    /// What happened says it.
    Other,
}
