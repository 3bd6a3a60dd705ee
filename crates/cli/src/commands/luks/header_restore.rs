//! `strongroom luks header-restore`

use std::path::PathBuf;

use clap::Args;
use strongroom::{Device, keys};
use strongroom_disk::Access;
use strongroom_luks::RestoreCheck;

use super::DeviceArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Restore header and keyslots from a file
///
/// The passphrases of the backup hold afterwards, and no others. The backup must be of this very
/// volume; --force lets it overwrite whatever is there.
#[derive(Debug, Args)]
pub(crate) struct HeaderRestoreArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// The backup
    backup: PathBuf,

    /// Restore even where no header or another one is
    #[arg(long)]
    force: bool,
}

/// Restores the header.
///
/// # Errors
///
/// When the backup does not fit.
pub(crate) fn run(ui: &mut Ui, args: &HeaderRestoreArgs) -> Result<(), CommandError> {
    let check = if args.force { RestoreCheck::Overwrite } else { RestoreCheck::SameVolume };
    let backup = Device::open(&args.backup, None, Access::ReadOnly)?;
    keys::restore(&args.device.write()?, &backup, check).map_err(|error| {
        let error = CommandError::from(error);
        if args.force { error } else { error.hinted("--force overwrites whatever is there") }
    })?;
    ui.status(&format!("{}: the header is restored", args.device.label()));
    Ok(())
}
