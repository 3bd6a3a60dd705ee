//! How much room there is where the server keeps everything.

use std::error::Error;
use std::io;
use std::path::Path;

/// Returns how many bytes can still be written where a directory is.
///
/// # Errors
///
/// When nobody can tell.
pub(crate) fn free(directory: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Tells whether an error comes of a file system or a quota that is full.
pub(crate) fn is_lacking(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        let Some(failed) = error.downcast_ref::<io::Error>() else { continue };
        if matches!(failed.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return true;
        }
        // What somebody has put into such an error is not what it comes from.
        if let Some(within) = failed.get_ref() {
            next = Some(within);
        }
    }
    false
}

/// With less than so many bytes a server does not take more work.
pub(crate) const LEAST: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_system_is_known_however_deep_its_error_lies() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let lacking = |error: io::Error| is_lacking(&error);
        assert!(lacking(full()));
        assert!(lacking(io::Error::other(io::Error::other(full()))));
        let store = crate::Error::Io { what: "a".to_owned(), source: io::Error::other(full()) };
        assert!(is_lacking(&store));
        assert!(!lacking(io::Error::other(io::Error::from(io::ErrorKind::NotFound))));
        assert!(!is_lacking(&crate::Error::Expired { version: 1 }));
    }

    #[test]
    fn there_is_room_here_and_none_nowhere() {
        assert!(free(tempfile::tempdir().unwrap().path()).unwrap() > 0);
        assert!(free(Path::new("/nothing/here")).is_err());
    }
}
