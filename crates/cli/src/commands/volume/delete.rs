//! `strongroom volume delete`

use clap::Args;
use serde_json::json;
use strongroom_crypto::CostPolicy;
use strongroom_model::VolumeId;

use super::pool::PoolArgs;
use super::report_done;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Delete a volume: its data, then its keys
///
/// It needs no key, and no KMS. The copy of its header goes too; the key in the KMS stays, and so do the
/// volume's snapshots and clones, which have keyslots of their own.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The volume
    name: VolumeId,

    /// Say that this is meant
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// Deletes the volume.
///
/// # Errors
///
/// When it was not said to be meant, or somebody uses the volume.
pub(crate) fn run(ui: &mut Ui, args: &DeleteArgs) -> Result<(), CommandError> {
    let volumes = args.pool.open(CostPolicy::default())?;
    volumes.volume(&args.name)?;
    if !args.force {
        let problem = format!("this destroys all data of volume {}", args.name);
        return Err(CommandError::request(problem).hinted("--force goes on"));
    }
    volumes.delete(&args.name)?;
    let words = format!("volume {}: deleted", args.name);
    let object = json!({ "volume": args.name, "deleted": true });
    report_done(ui, args.output.output(), &words, &object)
}
