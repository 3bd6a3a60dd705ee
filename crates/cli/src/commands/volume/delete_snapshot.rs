//! `strongroom volume delete-snapshot`

use clap::Args;
use serde_json::json;
use strongroom_crypto::CostPolicy;
use strongroom_model::SnapshotId;

use super::pool::PoolArgs;
use super::report_done;
use super::snapshots::missing;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Delete a snapshot
#[derive(Debug, Args)]
pub(crate) struct DeleteSnapshotArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The snapshot
    name: SnapshotId,

    /// Say that this is meant
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// Deletes the snapshot.
///
/// # Errors
///
/// When it was not said to be meant, or somebody copies the snapshot.
pub(crate) fn run(ui: &mut Ui, args: &DeleteSnapshotArgs) -> Result<(), CommandError> {
    let volumes = args.pool.open(CostPolicy::default())?;
    if volumes.snapshot_of(&args.name)?.is_none() {
        return Err(missing(&args.name));
    }
    if !args.force {
        let problem = format!("this destroys snapshot {}", args.name);
        return Err(CommandError::request(problem).hinted("--force goes on"));
    }
    volumes.delete_snapshot(&args.name)?;
    let words = format!("snapshot {}: deleted", args.name);
    let object = json!({ "snapshot": args.name, "deleted": true });
    report_done(ui, args.output.output(), &words, &object)
}
