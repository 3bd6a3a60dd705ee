//! The audit log: every use of a key and every destructive act, in a file that is only appended to, each
//! entry bound to the one before it by a hash.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::{Error, Result};

/// An audit log.
///
/// # Guarantees
///
/// - What [`record`](Self::record) has returned survives a loss of power. Whoever records an act before
///   doing it does nothing that the log does not know of.
/// - Entries that were changed, taken out, put in or cut off the end are found by [`verify`](Self::verify).
#[derive(Debug)]
pub struct Audit(());

/// What was done, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Who: `token admin`, `controller`, `command line uid 0`.
    pub actor: String,
    /// What: `open-key`, `delete`, `attach`, …
    pub verb: String,
    /// To what: `secrets lab/key`.
    pub subject: String,
    /// What for, or how it went; no secret is in it.
    pub detail: String,
}

/// A log that is as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many entries it has.
    pub entries: u64,
    /// The hash of the last one, in hexadecimal.
    pub head: String,
}

impl Audit {
    /// Opens a log, or begins one. The catalog remembers how many entries there are and the last one's
    /// hash, so that a log that is cut short is known. One that a crash left with half an entry at its end
    /// is mended.
    ///
    /// # Errors
    ///
    /// When it is not what the catalog remembers, with the words of [`verify`](Self::verify).
    pub fn open(file: &Path, catalog: std::sync::Arc<dyn Catalog>) -> Result<Self> {
        let _ = catalog;
        Err(unfinished(file))
    }

    /// Appends an entry, durably.
    ///
    /// # Errors
    ///
    /// When it could not be: then what it is about must not happen.
    pub fn record(&self, act: &Act) -> Result<()> {
        Err(Error::Request { problem: format!("{} cannot be recorded yet", act.verb) })
    }

    /// Reads a log from beginning to end, and checks each entry; with a catalog, also that none is
    /// missing at the end.
    ///
    /// # Errors
    ///
    /// The number of the first line that is not as it was written.
    pub fn verify(file: &Path, catalog: Option<&dyn Catalog>) -> Result<Verified> {
        let _ = catalog;
        Err(unfinished(file))
    }
}

fn unfinished(file: &Path) -> Error {
    Error::Request { problem: format!("{} cannot be read yet", file.display()) }
}
