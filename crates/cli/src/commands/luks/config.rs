//! `strongroom luks config`

use clap::Args;
use serde_json::json;
use strongroom::keys;

use super::{DeviceArgs, PriorityName, report};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Change label, subsystem or a keyslot's priority (LUKS2)
#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true, args = ["label", "subsystem", "priority"])]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// The new label, empty for none
    #[arg(long)]
    label: Option<String>,

    /// The new subsystem, empty for none
    #[arg(long)]
    subsystem: Option<String>,

    /// The new priority of the keyslot
    #[arg(long, value_enum, requires = "keyslot")]
    priority: Option<PriorityName>,

    /// The keyslot whose priority changes
    #[arg(long, value_name = "N", requires = "priority")]
    keyslot: Option<u32>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Changes the header.
///
/// # Errors
///
/// What went wrong.
pub(crate) fn run(ui: &mut Ui, args: &ConfigArgs) -> Result<(), CommandError> {
    let device = args.device.write()?;
    if args.label.is_some() || args.subsystem.is_some() {
        keys::update_luks2(&device, |header| {
            let (_, change) =
                header.set_labels(args.label.as_deref(), args.subsystem.as_deref())?;
            Ok(((), change))
        })?;
    }
    if let (Some(id), Some(priority)) = (args.keyslot, args.priority) {
        keys::update_luks2(&device, |header| {
            let (_, change) = header.set_priority(id, priority.value())?;
            Ok(((), change))
        })?;
    }
    report(ui, args.output.output(), &args.device, "changed", json!({ "changed": true }))
}
