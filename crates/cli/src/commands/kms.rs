//! `strongroom kms …`

mod init_local;
mod probe;
mod rotate_local;

use std::process::ExitCode;

use clap::Subcommand;

use super::done;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// What can be done with key management systems.
#[derive(Debug, Subcommand)]
pub(crate) enum KmsCommand {
    /// Create a file with a new key, which wraps data keys on this machine
    InitLocal(init_local::InitLocalArgs),

    /// Show what the KMS says: its key, how long the credentials last, what is missing
    Probe(Box<probe::ProbeArgs>),

    /// Add a new version to the key in a file
    RotateLocal(rotate_local::RotateLocalArgs),
}

impl KmsCommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<ExitCode, CommandError> {
        done(match self {
            Self::InitLocal(args) => init_local::run(ui, &args),
            Self::Probe(args) => probe::run(ui, &args),
            Self::RotateLocal(args) => rotate_local::run(ui, &args),
        })
    }
}
