//! The catalog of one machine, in SQLite.

mod failure;
mod opening;
mod schema;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use self::failure::{is_taken, store_failed};
use super::{Catalog, Document, Error, Kind, Result};

/// A catalog in one SQLite database, which any number of processes of this machine share.
///
/// # Guarantees
///
/// - Only its owner can read the files that it makes.
/// - What is taken out is overwritten in the database. Its write-ahead log may hold it for a while.
#[derive(Debug)]
pub struct SqliteCatalog {
    connection: Mutex<Connection>,
    label: String,
}

impl SqliteCatalog {
    /// Opens the database at `path`, and makes it when it is not there.
    ///
    /// # Errors
    ///
    /// When it is no catalog, or one of a newer program.
    pub fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let connection = opening::open(path, &label)?;
        Ok(Self { connection: Mutex::new(connection), label })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic has ended was rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &rusqlite::Error) -> Error {
        store_failed(&self.label, error)
    }
}

impl Catalog for SqliteCatalog {
    fn load(&self, kind: Kind, id: &str) -> Result<Option<Document>> {
        let sql = format!("SELECT id, version, json FROM {} WHERE id = ?1", kind.name());
        let connection = self.connection();
        let mut select = connection.prepare_cached(&sql).map_err(|error| self.failed(&error))?;
        let found = select.query_row([id], |row| Ok(document(kind, row)));
        found.optional().map_err(|error| self.failed(&error))?.transpose()
    }

    fn list(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        let (condition, after) = match after {
            Some(after) => ("id > ?1", after),
            None => ("id >= ?1", ""),
        };
        let sql = format!(
            "SELECT id, version, json FROM {} WHERE {condition} ORDER BY id LIMIT ?2",
            kind.name()
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let connection = self.connection();
        let mut select = connection.prepare_cached(&sql).map_err(|error| self.failed(&error))?;
        let rows = select.query_map(params![after, limit], |row| Ok(document(kind, row)));
        rows.map_err(|error| self.failed(&error))?
            .map(|row| row.map_err(|error| self.failed(&error))?)
            .collect()
    }

    fn insert(&self, kind: Kind, id: &str, json: &str) -> Result<()> {
        let sql = format!("INSERT INTO {} (id, version, json) VALUES (?1, 1, ?2)", kind.name());
        let connection = self.connection();
        let mut insert = connection.prepare_cached(&sql).map_err(|error| self.failed(&error))?;
        match insert.execute([id, json]) {
            Ok(_) => Ok(()),
            Err(error) if is_taken(&error) => Err(Error::Exists { kind, id: id.to_owned() }),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn replace(&self, kind: Kind, id: &str, version: u64, json: &str) -> Result<()> {
        let changed = || Error::Changed { kind, id: id.to_owned() };
        let version = i64::try_from(version).map_err(|_| changed())?;
        let sql = format!(
            "UPDATE {} SET version = version + 1, json = ?3 WHERE id = ?1 AND version = ?2",
            kind.name()
        );
        let connection = self.connection();
        let mut update = connection.prepare_cached(&sql).map_err(|error| self.failed(&error))?;
        match update.execute(params![id, version, json]) {
            Ok(0) => Err(changed()),
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn remove(&self, kind: Kind, id: &str, version: u64) -> Result<()> {
        let mut connection = self.connection();
        let removed = remove(&mut connection, kind, id, version);
        if removed.map_err(|error| self.failed(&error))? {
            return Ok(());
        }
        Err(Error::Changed { kind, id: id.to_owned() })
    }
}

/// Takes out a document of this version; tells whether there is none of that name now.
fn remove(
    connection: &mut Connection,
    kind: Kind,
    id: &str,
    version: u64,
) -> rusqlite::Result<bool> {
    let table = kind.name();
    // In one transaction, so that nobody puts one in between the two looks.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: Option<i64> = transaction
        .prepare_cached(&format!("SELECT version FROM {table} WHERE id = ?1"))?
        .query_row([id], |row| row.get(0))
        .optional()?;
    match found {
        None => Ok(true),
        Some(found) if u64::try_from(found) == Ok(version) => {
            transaction
                .prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?
                .execute([id])?;
            transaction.commit()?;
            Ok(true)
        }
        Some(_) => Ok(false),
    }
}

fn document(kind: Kind, row: &Row<'_>) -> Result<Document> {
    let id: String = row.get(0).map_err(|error| Error::Malformed {
        kind,
        id: "of no name".to_owned(),
        problem: error.to_string(),
    })?;
    let malformed = |problem: String| Error::Malformed { kind, id: id.clone(), problem };
    let version: i64 = row.get(1).map_err(|error| malformed(error.to_string()))?;
    let version = u64::try_from(version).map_err(|_| malformed(format!("version {version}")))?;
    let json = row.get(2).map_err(|error| malformed(error.to_string()))?;
    Ok(Document { id, version, json })
}

#[cfg(test)]
mod tests;
