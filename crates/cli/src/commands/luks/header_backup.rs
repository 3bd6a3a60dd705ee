//! `strongroom luks header-backup`

use std::path::PathBuf;

use clap::Args;
use strongroom::keys;

use super::DeviceArgs;
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
}

/// Saves the header.
///
/// # Errors
///
/// What went wrong.
pub(crate) fn run(ui: &mut Ui, args: &HeaderBackupArgs) -> Result<(), CommandError> {
    let len = keys::backup(&args.device.read()?, &args.backup)?;
    ui.status(&format!("{}: {} saved", args.backup.display(), ui::bytes(len)));
    Ok(())
}
