//! What became of each file, a JSON object a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;

use crate::command_error::CommandError;

/// A file that lines are appended to.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<(File, io::Result<()>)>,
}

impl Journal {
    /// Opens a file to append to, and creates it if it is not there.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub(super) fn append(path: &Path) -> Result<Self, CommandError> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|source| {
            CommandError::io(format!("cannot open the report {}", path.display()), source)
        })?;
        Ok(Self { path: path.to_owned(), file: Mutex::new((file, Ok(()))) })
    }

    /// Adds a line. That this failed is told in the end: the work itself must not stop for it.
    pub(super) fn add(&self, object: &Value) {
        if let Ok(mut guard) = self.file.lock() {
            let (file, failed) = &mut *guard;
            // At once, so that no other process writes within the line.
            let written = file.write_all(format!("{object}\n").as_bytes());
            if failed.is_ok() {
                *failed = written;
            }
        }
    }

    /// Makes the lines durable.
    ///
    /// # Errors
    ///
    /// When one of them could not be written.
    pub(super) fn close(self) -> Result<(), CommandError> {
        let path = self.path;
        let Ok((file, failed)) = self.file.into_inner() else { return Ok(()) };
        failed.and_then(|()| file.sync_data()).map_err(|source| {
            CommandError::io(format!("cannot write the report {}", path.display()), source)
        })
    }
}
