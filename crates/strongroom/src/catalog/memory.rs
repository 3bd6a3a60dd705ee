//! A catalog in memory, for tests and for what need not last.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Catalog, Document, Error, Kind, Result};

/// Version and text of each document, by kind and identifier.
type Documents = BTreeMap<(&'static str, String), (u64, String)>;

/// A catalog that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    documents: Mutex<Documents>,
}

impl MemoryCatalog {
    /// Returns one without documents.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a copy of it as it is now: what a backup of a catalog would be.
    pub fn snapshot(&self) -> Self {
        Self { documents: Mutex::new(self.lock().clone()) }
    }

    /// Makes it what it was when `snapshot` was taken.
    pub fn roll_back_to(&self, snapshot: &Self) {
        *self.lock() = snapshot.lock().clone();
    }

    fn lock(&self) -> MutexGuard<'_, Documents> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog for MemoryCatalog {
    fn load(&self, kind: Kind, id: &str) -> Result<Option<Document>> {
        let documents = self.lock();
        let found = documents.get(&(kind.name(), id.to_owned()));
        Ok(found.map(|(version, json)| document(id, *version, json)))
    }

    fn list(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        let documents = self.lock();
        let of_kind = documents.iter().filter(|((name, _), _)| *name == kind.name());
        let later = of_kind.filter(|((_, id), _)| after.is_none_or(|after| id.as_str() > after));
        Ok(later
            .take(limit)
            .map(|((_, id), (version, json))| document(id, *version, json))
            .collect())
    }

    fn insert(&self, kind: Kind, id: &str, json: &str) -> Result<()> {
        let mut documents = self.lock();
        let key = (kind.name(), id.to_owned());
        if documents.contains_key(&key) {
            return Err(Error::Exists { kind, id: id.to_owned() });
        }
        documents.insert(key, (1, json.to_owned()));
        Ok(())
    }

    fn replace(&self, kind: Kind, id: &str, version: u64, json: &str) -> Result<()> {
        match self.lock().get_mut(&(kind.name(), id.to_owned())) {
            Some(found) if found.0 == version => {
                *found = (version + 1, json.to_owned());
                Ok(())
            }
            _ => Err(Error::Changed { kind, id: id.to_owned() }),
        }
    }

    fn remove(&self, kind: Kind, id: &str, version: u64) -> Result<()> {
        let mut documents = self.lock();
        let key = (kind.name(), id.to_owned());
        match documents.get(&key) {
            None => Ok(()),
            Some((found, _)) if *found == version => {
                documents.remove(&key);
                Ok(())
            }
            Some(_) => Err(Error::Changed { kind, id: id.to_owned() }),
        }
    }
}

fn document(id: &str, version: u64, json: &str) -> Document {
    Document { id: id.to_owned(), version, json: json.to_owned() }
}
