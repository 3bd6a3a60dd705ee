//! `strongroom volume snapshots`

use clap::Args;
use serde_json::json;
use strongroom::ErrorKind;
use strongroom::volumes::{Snapshot, Volumes};
use strongroom_crypto::CostPolicy;
use strongroom_model::{SnapshotId, VolumeId};

use super::pool::PoolArgs;
use super::{description, table};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{self, Output, Ui};

/// List the snapshots of the pool
#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// Only those of this volume
    name: Option<VolumeId>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Lists the snapshots.
///
/// # Errors
///
/// When the catalog cannot be read.
pub(crate) fn run(ui: &mut Ui, args: &SnapshotsArgs) -> Result<(), CommandError> {
    let volumes = args.pool.open(CostPolicy::default())?;
    let mut found = all(&volumes)?;
    if let Some(name) = &args.name {
        found.retain(|snapshot| snapshot.of.id == *name);
    }
    if args.output.output() == Output::Json {
        let values: Vec<_> = found.iter().map(description::snapshot_value).collect();
        return ui.json(&json!({ "snapshots": values }));
    }
    let head = ["SNAPSHOT", "VOLUME", "SIZE", "ENCRYPTION", "MADE"].map(str::to_owned);
    let rows = found.iter().map(|snapshot| {
        [
            snapshot.id.to_string(),
            snapshot.of.id.to_string(),
            ui::short_bytes(snapshot.of.size),
            description::kind(&snapshot.of.encryption).to_owned(),
            description::moment(snapshot.created),
        ]
    });
    table(ui, &[head].into_iter().chain(rows).collect::<Vec<_>>())
}

/// Returns the error about a snapshot that is not there.
pub(super) fn missing(name: &SnapshotId) -> CommandError {
    CommandError::of_kind(ErrorKind::NotFound, format!("there is no snapshot {name}"))
        .hinted("`strongroom volume snapshots` shows the snapshots of the pool")
}

fn all(volumes: &Volumes) -> Result<Vec<Snapshot>, CommandError> {
    let mut found: Vec<Snapshot> = Vec::new();
    loop {
        let page = volumes.snapshots(found.last().map(|snapshot| &snapshot.id), PAGE)?;
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page);
    }
}

/// How many snapshots are asked for at a time.
const PAGE: usize = 1000;
