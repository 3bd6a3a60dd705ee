//! `strongroom man`

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::Cli;
use crate::command_error::CommandError;

/// Write the manual pages to a directory
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory, which must exist
    directory: PathBuf,
}

/// Writes a page for every command.
///
/// # Errors
///
/// When the directory cannot be written.
pub(crate) fn run(args: &ManArgs) -> Result<(), CommandError> {
    clap_mangen::generate_to(Cli::command(), &args.directory).map_err(|source| {
        CommandError::io(format!("cannot write to {}", args.directory.display()), source)
    })
}
