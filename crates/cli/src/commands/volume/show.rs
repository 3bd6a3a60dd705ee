//! `strongroom volume show`

use clap::Args;
use serde_json::json;
use strongroom_crypto::CostPolicy;
use strongroom_model::VolumeId;

use super::pool::PoolArgs;
use super::{description, row};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Show what is known of a volume
///
/// This is what the catalog says; `strongroom volume report` compares it with what lies in the pool.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The volume
    name: VolumeId,

    #[command(flatten)]
    output: OutputArgs,
}

/// Shows the volume.
///
/// # Errors
///
/// When there is none of that name.
pub(crate) fn run(ui: &mut Ui, args: &ShowArgs) -> Result<(), CommandError> {
    let volumes = args.pool.open(CostPolicy::default())?;
    let volume = volumes.volume(&args.name)?;
    let attachment = volumes.attachment(&args.name)?;
    if args.output.output() == Output::Json {
        let mut value = description::value(&volume);
        value["attachment"] = json!(attachment.as_ref().map(description::attachment_value));
        return ui.json(&value);
    }
    for (name, value) in description::lines(&volume) {
        row(ui, name, &value)?;
    }
    let here = attachment.as_ref().map(description::attachment_words);
    row(ui, "here", &here.unwrap_or("not attached".to_owned()))
}
