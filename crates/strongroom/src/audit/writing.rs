//! Writing to a log.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::entry::Entry;
use super::head::Head;
use super::reading::{self, Ending};
use super::{Act, AuditProblem};
use crate::catalog::{self, Catalog, StoreCause};
use crate::{Error, Result};

/// The one who writes to a log.
pub(super) struct Writer {
    catalog: Arc<dyn Catalog>,
    /// Locked while it is open, and written at its end alone.
    pub(super) file: File,
    /// How many bytes of it are entries.
    len: u64,
    tip: Head,
    /// Which version of the catalog's memory we have seen; 0 when there is none.
    remembered: u64,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

impl Writer {
    /// Opens a log, begins one where there is none, and mends its end.
    pub(super) fn open(path: &Path, catalog: Arc<dyn Catalog>) -> Result<Self> {
        let wrong = |problem| Error::Audit { file: path.to_owned(), problem };
        let failed = |what: &'static str| {
            move |error: std::io::Error| AuditProblem::Unusable { why: format!("{what}: {error}") }
        };
        let stored = Head::load(&*catalog)?;
        let known = stored.head();
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o600);
        // A log that the catalog knows of is never begun anew.
        options.create(known.n == 0);
        let file = match options.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(wrong(AuditProblem::cut_off(&Head::of_nothing(), &known)));
            }
            opened => opened.map_err(failed("it cannot be opened")).map_err(wrong)?,
        };
        lock(&file).map_err(wrong)?;
        let log = reading::read(&file, Some(&known)).map_err(wrong)?;
        let mended = match log.ending {
            Ending::Whole => Ok(()),
            // Nobody was told that it is recorded: the catalog knows what was.
            Ending::Half => file.set_len(log.len),
        };
        mended
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_folder(path))
            .map_err(failed("it cannot be made durable"))
            .map_err(wrong)?;
        let remembered = match log.tip == known {
            true => stored.version,
            false => log.tip.save(&*catalog, stored.version)?,
        };
        Ok(Self { catalog, file, len: log.len, tip: log.tip, remembered, broken: None })
    }

    /// Appends acts, durably and all of them or, as far as anybody is told, none.
    pub(super) fn append(
        &mut self,
        acts: &[(SystemTime, Act)],
    ) -> std::result::Result<(), AuditProblem> {
        if let Some(why) = &self.broken {
            return Err(AuditProblem::Unusable { why: why.clone() });
        }
        let (mut lines, mut tip) = (String::new(), self.tip.clone());
        for (time, act) in acts {
            let (line, head) = Entry::line(&tip, *time, act);
            lines.push_str(&line);
            tip = head;
        }
        self.write(lines.as_bytes())?;
        (self.len, self.tip) = (self.len + lines.len() as u64, tip);
        self.remember()
    }

    fn write(&mut self, lines: &[u8]) -> std::result::Result<(), AuditProblem> {
        if let Err(error) = self.file.write_all(lines) {
            let why = format!("it cannot be written: {error}");
            // What was written of it must not stand before the next entry.
            return Err(match self.file.set_len(self.len) {
                Ok(()) if is_full(&error) => AuditProblem::Full,
                Ok(()) => AuditProblem::Unusable { why },
                Err(error) => {
                    self.broken = Some(format!("{why}, and not be mended: {error}"));
                    AuditProblem::Unusable { why }
                }
            });
        }
        self.file.sync_data().map_err(|error| {
            // Nobody knows what of it is on the medium, and the next call may well say that all is.
            let why = format!("it cannot be made durable: {error}");
            self.broken = Some(why.clone());
            AuditProblem::Unusable { why }
        })
    }

    /// Lets the catalog remember the last entry. Where that fails, the file is ahead, as after a crash, and
    /// the next entry catches up.
    fn remember(&mut self) -> std::result::Result<(), AuditProblem> {
        match self.tip.save(&*self.catalog, self.remembered) {
            Ok(version) => {
                self.remembered = version;
                Ok(())
            }
            Err(error) => {
                // It may have been done all the same.
                if let Ok(stored) = Head::load(&*self.catalog) {
                    self.remembered = stored.version;
                }
                Err(match error {
                    Error::Catalog(catalog::Error::Store { cause: StoreCause::Full, .. }) => {
                        AuditProblem::Full
                    }
                    error => AuditProblem::Unusable { why: error.to_string() },
                })
            }
        }
    }
}

/// Locks the file. A program that was just started from here may have it open for a moment more.
fn lock(file: &File) -> std::result::Result<(), AuditProblem> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => thread::sleep(GLANCE),
            Err(TryLockError::WouldBlock) => return Err(AuditProblem::InUse),
            Err(TryLockError::Error(error)) => {
                return Err(AuditProblem::Unusable {
                    why: format!("it cannot be locked: {error}"),
                });
            }
        }
    }
}

/// Tells whether a file system or a quota is full.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

const PATIENCE: Duration = Duration::from_secs(1);
const GLANCE: Duration = Duration::from_millis(5);
