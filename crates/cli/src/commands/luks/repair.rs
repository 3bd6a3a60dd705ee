//! `strongroom luks repair`

use clap::Args;
use serde_json::json;
use strongroom_luks::RepairScope;

use super::DeviceArgs;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Repair a damaged header
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Write the primary header anew over whatever overwrote it, be that a file system
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// Repairs the header.
///
/// # Errors
///
/// When the damage is beyond repair.
pub(crate) fn run(ui: &mut Ui, args: &RepairArgs) -> Result<(), CommandError> {
    let scope = if args.force { RepairScope::OverwritePrimary } else { RepairScope::SureDamage };
    let done = args.device.write()?.repair(scope)?;
    match args.output.output() {
        Output::Json => ui.json(&json!({ "repaired": done })),
        Output::Text if done.is_empty() => {
            ui.status(&format!("{}: nothing is wrong", args.device.label()));
            Ok(())
        }
        Output::Text => {
            for what in done {
                ui.status(&format!("{}: {what}", args.device.label()));
            }
            Ok(())
        }
    }
}
