//! The tables, and how those of older programs become those of this one.

use rusqlite::{Connection, TransactionBehavior};

use super::failure::store_failed;
use crate::catalog::{Error, Result, StoreCause};

/// Refuses a database that is not ours, before anything about it is changed.
pub(super) fn check_owner(connection: &mut Connection, label: &str) -> Result<()> {
    let read = |connection: &mut Connection| -> rusqlite::Result<(i32, i64, i64)> {
        // All of one moment: somebody may just be making it.
        let transaction = connection.transaction()?;
        let application =
            transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version = version(&transaction)?;
        let tables =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((application, version, tables))
    };
    let (application, version, tables) =
        read(connection).map_err(|error| store_failed(label, &error))?;
    match (application, version, tables) {
        (APPLICATION, ..) | (0, 0, 0) => Ok(()),
        _ => Err(refused(label, "it is the database of another application".to_owned())),
    }
}

/// Makes the tables, or makes them what this program needs.
pub(super) fn migrate(connection: &mut Connection, label: &str) -> Result<()> {
    let failed = |error| store_failed(label, &error);
    if is_current(connection, label)? {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Somebody else may have done so meanwhile.
    if is_current(&transaction, label)? {
        return Ok(());
    }
    let done = version(&transaction).map_err(failed)?;
    let migrate = || -> rusqlite::Result<()> {
        for migration in MIGRATIONS.iter().skip(done as usize) {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", CURRENT)
    };
    migrate().and_then(|()| transaction.commit()).map_err(failed)
}

/// Tells whether no migration is left to be done.
fn is_current(connection: &Connection, label: &str) -> Result<bool> {
    match version(connection).map_err(|error| store_failed(label, &error))? {
        CURRENT => Ok(true),
        0..CURRENT => Ok(false),
        found => Err(refused(
            label,
            format!(
                "it has version {found}, and this program knows version {CURRENT} at most: \
                 use a newer one"
            ),
        )),
    }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn refused(label: &str, problem: String) -> Error {
    Error::Store { label: label.to_owned(), problem, cause: StoreCause::Other }
}

/// What makes each version out of the one before; the version is how many of them were done. None is
/// ever changed or removed: there are databases that were made with it.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE volumes (id TEXT PRIMARY KEY, version INTEGER NOT NULL, json TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE snapshots (id TEXT PRIMARY KEY, version INTEGER NOT NULL, json TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE keys (id TEXT PRIMARY KEY, version INTEGER NOT NULL, json TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE attachments (id TEXT PRIMARY KEY, version INTEGER NOT NULL, json TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE jobs (id TEXT PRIMARY KEY, version INTEGER NOT NULL, json TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE images (id TEXT PRIMARY KEY, version INTEGER NOT NULL, json TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE objects (id TEXT PRIMARY KEY, version INTEGER NOT NULL, json TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE settings (id TEXT PRIMARY KEY, version INTEGER NOT NULL, json TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE libvirt_secrets (id TEXT PRIMARY KEY, version INTEGER NOT NULL, json TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE libvirt_volumes (id TEXT PRIMARY KEY, version INTEGER NOT NULL, json TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
",
];

const CURRENT: i64 = MIGRATIONS.len() as i64;

/// "Strg": by this number in its header a database is known as ours.
const APPLICATION: i32 = 0x5374_7267;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Kind;

    #[test]
    fn every_kind_has_a_table() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, "memory").unwrap();
        for kind in Kind::ALL {
            let sql = format!("SELECT count(*) FROM {}", kind.name());
            let count: i64 = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(count, 0);
        }
    }
}
