//! `strongroom luks header-restore`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom::{Device, Error, keys};
use strongroom_disk::Access;
use strongroom_luks::RestoreCheck;

use super::{DeviceArgs, report};
use crate::arguments::OutputArgs;
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

    #[command(flatten)]
    output: OutputArgs,
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
        let forcible = !args.force && is_forcible(&error);
        let error = CommandError::from(error);
        if forcible {
            error.hinted(
                "if you are sure, --force overwrites what is there, and what it held is lost",
            )
        } else {
            error
        }
    })?;
    report(
        ui,
        args.output.output(),
        &args.device,
        "the header is restored",
        json!({ "restored": true }),
    )
}

/// Returns whether --force would go on: with the backup of another volume, or no header to compare.
fn is_forcible(error: &Error) -> bool {
    match error {
        Error::NotEncrypted { .. } => true,
        Error::Luks { source, .. } => !matches!(source, strongroom_luks::Error::NoRoom { .. }),
        _ => false,
    }
}
