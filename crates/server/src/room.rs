//! How much room there is where the server keeps everything.

use std::error::Error;
use std::io;
use std::path::Path;

use strongroom::audit::AuditProblem;
use strongroom::catalog::{self, StoreCause};

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
        if error.downcast_ref().is_some_and(is_without_room) {
            return true;
        }
        // One that says only what is in it has no source that it is.
        if let Some(crate::Error::Strongroom(error)) = error.downcast_ref() {
            next = Some(error);
            continue;
        }
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

/// Tells whether the catalog or the audit log had no room.
fn is_without_room(error: &strongroom::Error) -> bool {
    use strongroom::Error::{Audit, Catalog};
    match error {
        Audit { problem, .. } => *problem == AuditProblem::Full,
        Catalog(catalog::Error::Store { cause, .. }) => *cause == StoreCause::Full,
        _ => false,
    }
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
        let cause = StoreCause::Full;
        let catalog = catalog::Error::Store { label: String::new(), problem: String::new(), cause };
        let file = "audit.log".into();
        let audit = strongroom::Error::Audit { file, problem: AuditProblem::Full };
        assert!(is_lacking(&crate::Error::from(strongroom::Error::from(catalog))));
        assert!(is_lacking(&crate::Error::from(audit)));
        assert!(!lacking(io::Error::other(io::Error::from(io::ErrorKind::NotFound))));
        assert!(!is_lacking(&crate::Error::Expired { version: 1 }));
    }

    #[test]
    fn there_is_room_here_and_none_nowhere() {
        assert!(free(tempfile::tempdir().unwrap().path()).unwrap() > 0);
        assert!(free(Path::new("/nothing/here")).is_err());
    }
}
