//! `strongroom luks erase`

use clap::Args;
use serde_json::json;
use strongroom::keys;

use super::{DeviceArgs, report};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Destroy all keyslots: nobody opens the volume again without a header backup
#[derive(Debug, Args)]
pub(crate) struct EraseArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Say that this is meant
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// Destroys the keyslots.
///
/// # Errors
///
/// When it was not said to be meant, or the header may not be changed.
pub(crate) fn run(ui: &mut Ui, args: &EraseArgs) -> Result<(), CommandError> {
    if !args.force {
        return Err(CommandError::request(format!(
            "this destroys all data of {}",
            args.device.label()
        ))
        .hinted("save the header first with `strongroom luks header-backup`; --force goes on"));
    }
    keys::erase(&args.device.write()?)?;
    report(
        ui,
        args.output.output(),
        &args.device,
        "all keyslots are wiped",
        json!({ "erased": true }),
    )
}
