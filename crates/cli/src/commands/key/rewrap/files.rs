//! Which files to work on: named one by one, or in a list.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::command_error::CommandError;

/// The files to work on
#[derive(Debug, Args)]
pub(super) struct FilesArgs {
    /// LUKS2 images and devices; a name that ends in .json is that of an envelope
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Read names of further files from this one, a name a line; `-` for standard input
    #[arg(long, value_name = "LIST")]
    files_from: Option<PathBuf>,

    /// The names in the list end with a NUL instead of a line break, as `find -print0` writes them
    #[arg(short = '0', long, requires = "files_from")]
    null: bool,
}

impl FilesArgs {
    /// Returns all of them, at least one.
    ///
    /// # Errors
    ///
    /// When the list cannot be read, or there is no file.
    pub(super) fn read(&self) -> Result<Vec<PathBuf>, CommandError> {
        let mut files = self.files.clone();
        if let Some(list) = &self.files_from {
            let separator = if self.null { 0 } else { b'\n' };
            files.extend(
                read(list)?
                    .split(|byte| *byte == separator)
                    .filter(|name| !name.is_empty())
                    .map(|name| PathBuf::from(OsString::from_vec(name.to_vec()))),
            );
        }
        if files.is_empty() {
            return Err(CommandError::request("there is no file to rewrap")
                .hinted("name files, or a list of them with --files-from"));
        }
        Ok(files)
    }
}

fn read(list: &Path) -> Result<Vec<u8>, CommandError> {
    let failed =
        |source| CommandError::io(format!("cannot read the list {}", list.display()), source);
    let mut names = Vec::new();
    if list == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut names).map_err(failed)?;
    } else {
        names = std::fs::read(list).map_err(failed)?;
    }
    Ok(names)
}
