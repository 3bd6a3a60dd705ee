//! `strongroom luks header-backup`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom::keys;

use super::{DeviceArgs, report};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{self, Ui};

/// Save header and keyslots to a file
///
/// Whoever has the file and a passphrase that was valid then opens the volume: keep it safe.
#[derive(Debug, Args)]
pub(crate) struct HeaderBackupArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// The file to make
    backup: PathBuf,

    #[command(flatten)]
    output: OutputArgs,
}

/// Saves the header.
///
/// # Errors
///
/// What went wrong.
pub(crate) fn run(ui: &mut Ui, args: &HeaderBackupArgs) -> Result<(), CommandError> {
    let len = keys::backup(&args.device.read()?, &args.backup)?;
    report(
        ui,
        args.output.output(),
        &args.device,
        &format!("{} saved to {}", ui::bytes(len), args.backup.display()),
        json!({ "backup": args.backup.display().to_string(), "bytes": len }),
    )
}
