//! The audit log: every use of a key and every destructive act, in a file that is only appended to, each
//! entry bound to the one before it by a hash.
//!
//! Each line is a JSON object, `hash` the SHA-256 of what stands before it in the line:
//!
//! ```text
//! {"n":1,"time":"…","actor":"…","verb":"…","subject":"…","detail":"…","previous":"000…","hash":"5d1…"}
//! ```
//!
//! How many entries there are, and the last one's hash, is kept in the catalog as well. The file is written
//! first, so after a crash it may be ahead of the catalog, and never behind: then somebody has cut it.

mod entry;
mod head;
mod problem;
mod reading;
mod writing;

pub use problem::AuditProblem;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use self::entry::Entry;
use self::head::Head;
use self::reading::Ending;
use self::writing::Writer;
use crate::catalog::Catalog;
use crate::{Error, Result};

/// An audit log.
///
/// # Guarantees
///
/// - What [`record`](Self::record) has returned survives a loss of power. Whoever records an act before
///   doing it does nothing that the log does not know of.
/// - Entries that were changed, taken out, put in or cut off the end are found by [`verify`](Self::verify).
///   Only somebody who can write both the file and the catalog can make them agree on something else.
pub struct Audit {
    file: PathBuf,
    /// What waits to be written, together with whoever is at it.
    waiting: Mutex<Batch>,
    writer: Mutex<Writer>,
}

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
    /// The hash of the last one, in hexadecimal; zeros when there is none.
    pub head: String,
}

/// Acts that become durable together.
#[derive(Default)]
struct Batch {
    acts: Vec<(SystemTime, Act)>,
    outcome: Arc<OnceLock<std::result::Result<(), AuditProblem>>>,
}

impl Audit {
    /// Opens a log, or begins one. The catalog remembers how many entries there are and the last one's
    /// hash, so that a log that is cut short is known. One that a crash left with half an entry at its end
    /// is mended.
    ///
    /// # Errors
    ///
    /// When it is not what the catalog remembers, with the words of [`verify`](Self::verify); and when
    /// another process writes to it.
    pub fn open(file: &Path, catalog: Arc<dyn Catalog>) -> Result<Self> {
        let writer = Writer::open(file, catalog)?;
        Ok(Self { file: file.to_owned(), waiting: Mutex::default(), writer: Mutex::new(writer) })
    }

    /// Appends an entry, durably. Those of several threads that wait at the same time are written together.
    ///
    /// # Errors
    ///
    /// When it could not be: then what it is about must not happen.
    pub fn record(&self, act: &Act) -> Result<()> {
        let wrong = |problem| Error::Audit { file: self.file.clone(), problem };
        // Or all that are written together with it would fail.
        Entry::check(act).map_err(wrong)?;
        let outcome = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.acts.push((SystemTime::now(), act.clone()));
            Arc::clone(&waiting.outcome)
        };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.get().is_none() {
            // Batches are taken by whoever has the writer, so this one has our act in it.
            let batch = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *waiting)
            };
            // Nobody else has set it, and whoever panics here leaves it unset: see below.
            let _ = batch.outcome.set(writer.append(&batch.acts));
        }
        drop(writer);
        match outcome.get() {
            Some(Ok(())) => Ok(()),
            Some(Err(problem)) => Err(wrong(problem.clone())),
            None => Err(wrong(AuditProblem::Unusable { why: "a thread ended in it".to_owned() })),
        }
    }

    /// Reads a log from beginning to end, and checks each entry; with a catalog, also that none is
    /// missing at the end. A log to which somebody writes at the moment may have half an entry at its end
    /// that the catalog does not know of yet.
    ///
    /// # Errors
    ///
    /// The number of the first line that is not as it was written.
    pub fn verify(file: &Path, catalog: Option<&dyn Catalog>) -> Result<Verified> {
        // The catalog before the file: an entry in between is one more in the file.
        let head = catalog.map(Head::load).transpose()?.map(|stored| stored.head());
        let found = std::fs::File::open(file)
            .map_err(|error| AuditProblem::reading(&error))
            .and_then(|opened| reading::read(&opened, head.as_ref()))
            .map_err(|problem| Error::Audit { file: file.to_owned(), problem })?;
        if let (Ending::Half, None) = (&found.ending, &head) {
            let problem = AuditProblem::Half { line: found.tip.n + 1 };
            return Err(Error::Audit { file: file.to_owned(), problem });
        }
        Ok(Verified { entries: found.tip.n, head: found.tip.hash })
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
