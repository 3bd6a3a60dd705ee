//! `strongroom volume set`

use clap::Args;
use serde_json::json;
use strongroom_crypto::CostPolicy;
use strongroom_model::VolumeId;

use super::pool::PoolArgs;
use super::report_done;
use super::tuning::{self, TuningArgs};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Change what can be tuned about a volume
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The volume
    name: VolumeId,

    #[command(flatten)]
    tuning: TuningArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Changes the volume.
///
/// # Errors
///
/// When nothing was said, or there is no such volume.
pub(crate) fn run(ui: &mut Ui, args: &SetArgs) -> Result<(), CommandError> {
    if !args.tuning.is_given() {
        return Err(CommandError::request("nothing was said that is to change")
            .hinted("give --discard, --read-workqueue or --write-workqueue"));
    }
    let volumes = args.pool.open(CostPolicy::default())?;
    let tuned = args.tuning.changed(volumes.volume(&args.name)?.tuning);
    let volume = volumes.tune(&args.name, tuned)?;
    let later = match volumes.attachment(&args.name)? {
        Some(_) => "; it takes effect when the volume is attached the next time",
        None => "",
    };
    let words = format!("volume {}: {}{later}", args.name, tuning::words(volume.tuning));
    let object = json!({ "volume": args.name, "tuning": volume.tuning });
    report_done(ui, args.output.output(), &words, &object)
}
