//! `strongroom volume snapshot`

use clap::Args;
use strongroom_crypto::CostPolicy;
use strongroom_model::{SnapshotId, VolumeId};

use super::pool::PoolArgs;
use super::watched_copy::WatchedCopy;
use super::{description, report_done};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Keep a volume as it is now
///
/// A snapshot is ciphertext, as its volume is, and needs no key. Where the volume is mounted its file
/// system stands still meanwhile. `strongroom volume create NEW --from-snapshot SNAPSHOT` makes a volume
/// of it.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The volume
    name: VolumeId,

    /// The name of the snapshot, of which there is one in the pool
    snapshot: SnapshotId,

    #[command(flatten)]
    output: OutputArgs,
}

/// Makes the snapshot.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &SnapshotArgs) -> Result<(), CommandError> {
    let volumes = args.pool.open(CostPolicy::default())?;
    let output = args.output.output();
    let watch = WatchedCopy::begin(ui, output)?;
    let made = volumes.snapshot(&args.name, &args.snapshot, &watch)?;
    watch.bar.finish();
    let moment = description::moment(made.created);
    let words = format!("snapshot {} of volume {}, made {moment}", made.id, made.of.id);
    report_done(ui, output, &words, &description::snapshot_value(&made))
}
