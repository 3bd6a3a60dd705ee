//! What SQLite says, in the words of a catalog.

use rusqlite::ffi;

use super::super::{Error, StoreCause};

/// Returns the error of a catalog whose database failed.
pub(super) fn store_failed(label: &str, error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as Code;
    let code = error.sqlite_error_code();
    let cause = match code {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => StoreCause::Busy,
        Some(Code::DiskFull) => StoreCause::Full,
        _ => StoreCause::Other,
    };
    let problem = match code {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => {
            "somebody else keeps on writing to it".to_owned()
        }
        Some(Code::NotADatabase) => "it is no SQLite database".to_owned(),
        Some(Code::DatabaseCorrupt) => {
            format!("it is damaged ({error}): put a backup of it in its place")
        }
        Some(Code::DiskFull) => "its file system is full".to_owned(),
        Some(Code::ReadOnly) => "it can only be read".to_owned(),
        _ => error.to_string(),
    };
    Error::Store { label: label.to_owned(), problem, cause }
}

/// Tells whether an insertion failed because the name is taken.
pub(super) fn is_taken(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY)
}
