//! `strongroom luks convert`

use clap::Args;
use serde_json::json;
use strongroom::keys;
use strongroom_luks::Version;
use strongroom_model::LuksFormat;

use super::{DeviceArgs, report};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Convert the header to another LUKS version in place
///
/// The data stays where it is, and so do all passphrases.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// The version to convert to: luks2 or luks1
    #[arg(long, value_name = "FORMAT")]
    to: LuksFormat,

    #[command(flatten)]
    output: OutputArgs,
}

/// Converts the header.
///
/// # Errors
///
/// What the other version does not have.
pub(crate) fn run(ui: &mut Ui, args: &ConvertArgs) -> Result<(), CommandError> {
    let version = match args.to {
        LuksFormat::Luks1 => Version::Luks1,
        LuksFormat::Luks2 => Version::Luks2,
    };
    keys::convert(&args.device.write()?, version)?;
    report(
        ui,
        args.output.output(),
        &args.device,
        &format!("the header is {version} now"),
        json!({ "format": args.to.to_string() }),
    )
}
