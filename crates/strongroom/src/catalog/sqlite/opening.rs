//! How the database is made and opened.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;

use super::failure::store_failed;
use super::schema;
use crate::catalog::{Error, Result, StoreCause};

/// Opens the database at `path`, and makes it when it is not there.
pub(super) fn open(path: &Path, label: &str) -> Result<Connection> {
    let failed = |error| store_failed(label, &error);
    let path = whole_path(path).and_then(|path| make(&path).map(|()| path));
    let path = path.map_err(|error| Error::Store {
        label: label.to_owned(),
        problem: format!("it cannot be made: {error}"),
        cause: StoreCause::Other,
    })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    schema::check_owner(&mut connection, label)?;
    configure(&connection).map_err(failed)?;
    log_ahead(&connection, label)?;
    schema::migrate(&mut connection, label)?;
    Ok(connection)
}

/// Returns the path without links in it, which SQLite does not follow here. An absolute path is never
/// taken for a URI.
fn whole_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok(fs::canonicalize(directory)?.join(name))
}

/// Makes an empty file, which is an empty database, that only its owner can read; the other files of
/// the database get the same mode. It is never open here: closing it would end the locks that another
/// thread has on it.
fn make(path: &Path) -> io::Result<()> {
    match rustix::fs::mknodat(CWD, path, FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    let directory = path.parent().ok_or(io::ErrorKind::NotFound)?;
    File::open(directory)?.sync_all()
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // What has returned survives a loss of power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The data key of a deleted volume is gone, wrapped as it was.
    connection.pragma_update(None, "secure_delete", "ON")?;
    // What is damaged is noticed, and a schema that somebody has changed does not run anything.
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")
}

/// Switches to the write-ahead log, in which readers and a writer do not wait for each other.
fn log_ahead(connection: &Connection, label: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let mode: rusqlite::Result<String> =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
        match mode.map_err(|error| store_failed(label, &error)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                return Err(Error::Store {
                    label: label.to_owned(),
                    problem:
                        "its file system has no shared memory, which a write-ahead log needs: \
                              put it on a local one"
                            .to_owned(),
                    cause: StoreCause::Other,
                });
            }
            // SQLite itself does not wait for others that do the same to a new database.
            Err(Error::Store { cause: StoreCause::Busy, .. }) if start.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// How long a call waits for others that write.
const PATIENCE: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(2);
