//! Documents with a type.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Catalog, Document, Error, Kind, Result};

/// What one kind of document holds.
pub trait Record: Serialize + DeserializeOwned {
    /// The kind.
    const KIND: Kind;

    /// Returns the identifier.
    fn id(&self) -> &str;
}

/// A record, and the version of the document that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The version.
    pub version: u64,
    /// The record.
    pub record: T,
}

/// The documents of one kind.
#[derive(Debug)]
pub struct Records<'a, T> {
    catalog: &'a dyn Catalog,
    record: PhantomData<fn() -> T>,
}

impl<'a, T: Record> Records<'a, T> {
    /// Returns those of a catalog.
    pub fn of(catalog: &'a dyn Catalog) -> Self {
        Self { catalog, record: PhantomData }
    }

    /// Returns a record, `None` when there is none.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn load(&self, id: &str) -> Result<Option<Stored<T>>> {
        self.catalog.load(T::KIND, id)?.map(read).transpose()
    }

    /// Returns at most `limit` records with identifiers after `after`, in their order.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Stored<T>>> {
        self.catalog.list(T::KIND, after, limit)?.into_iter().map(read).collect()
    }

    /// Puts in a record that is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`].
    pub fn insert(&self, record: T) -> Result<Stored<T>> {
        self.catalog.insert(T::KIND, record.id(), &text(&record)?)?;
        Ok(Stored { version: 1, record })
    }

    /// Replaces the record that was read as `stored` by what it is now.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] when somebody else has replaced it.
    pub fn replace(&self, stored: Stored<T>) -> Result<Stored<T>> {
        let Stored { version, record } = stored;
        self.catalog.replace(T::KIND, record.id(), version, &text(&record)?)?;
        Ok(Stored { version: version + 1, record })
    }

    /// Takes out the record that was read as `stored`.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] when somebody else has replaced it.
    pub fn remove(&self, stored: &Stored<T>) -> Result<()> {
        self.catalog.remove(T::KIND, stored.record.id(), stored.version)
    }
}

fn read<T: Record>(document: Document) -> Result<Stored<T>> {
    let Document { id, version, json } = document;
    let malformed = |problem: String| Error::Malformed { kind: T::KIND, id: id.clone(), problem };
    let record: T = serde_json::from_str(&json).map_err(|error| malformed(error.to_string()))?;
    if record.id() != id {
        return Err(malformed(format!("it calls itself {}", record.id())));
    }
    Ok(Stored { version, record })
}

fn text<T: Record>(record: &T) -> Result<String> {
    serde_json::to_string(record).map_err(|error| Error::Malformed {
        kind: T::KIND,
        id: record.id().to_owned(),
        problem: error.to_string(),
    })
}
