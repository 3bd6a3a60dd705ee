//! `strongroom volume …`

mod attach;
mod clone;
mod create;
mod delete;
mod delete_snapshot;
mod description;
mod detach;
mod expand;
mod list;
pub(crate) mod pool;
mod rekey;
mod report;
mod set;
mod show;
mod snapshot;
mod snapshots;
mod tuning;
mod watched_copy;

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use self::pool::PoolArgs;
use super::done;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// What can be done with volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Let a volume appear on this machine: mounted, as a device, or over NBD
    Attach(Box<attach::AttachArgs>),

    /// Make a volume with the contents of another one, or of a snapshot
    Clone(Box<clone::CloneArgs>),

    /// Make a volume
    Create(Box<create::CreateArgs>),

    /// Delete a volume: its data, then its keys
    Delete(delete::DeleteArgs),

    /// Delete a snapshot
    DeleteSnapshot(delete_snapshot::DeleteSnapshotArgs),

    /// Let a volume disappear from this machine
    Detach(detach::DetachArgs),

    /// Make a volume larger, also while it is attached
    Expand(expand::ExpandArgs),

    /// List the volumes of the pool
    List(list::ListArgs),

    /// Let another key open a volume, and no other one; its data stays as it is
    Rekey(Box<rekey::RekeyArgs>),

    /// Prove how a volume is encrypted, and who can open it
    Report(report::ReportArgs),

    /// Change what can be tuned about a volume
    Set(set::SetArgs),

    /// Show what is known of a volume
    Show(show::ShowArgs),

    /// Keep a volume as it is now
    Snapshot(snapshot::SnapshotArgs),

    /// List the snapshots of the pool
    Snapshots(snapshots::SnapshotsArgs),
}

impl VolumeCommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<ExitCode, CommandError> {
        let pool = self.pool().named().map(ToOwned::to_owned);
        let result = match self {
            Self::Attach(args) => done(attach::run(ui, &args)),
            Self::Clone(args) => done(clone::run(ui, &args)),
            Self::Create(args) => done(create::run(ui, &args)),
            Self::Delete(args) => done(delete::run(ui, &args)),
            Self::DeleteSnapshot(args) => done(delete_snapshot::run(ui, &args)),
            Self::Detach(args) => done(detach::run(ui, &args)),
            Self::Expand(args) => done(expand::run(ui, &args)),
            Self::List(args) => done(list::run(ui, &args)),
            Self::Rekey(args) => done(rekey::run(ui, &args)),
            Self::Report(args) => report::run(ui, &args),
            Self::Set(args) => done(set::run(ui, &args)),
            Self::Show(args) => done(show::run(ui, &args)),
            Self::Snapshot(args) => done(snapshot::run(ui, &args)),
            Self::Snapshots(args) => done(snapshots::run(ui, &args)),
        };
        result.map_err(|error| match &pool {
            Some(pool) => error.in_pool(pool),
            None => error,
        })
    }

    fn pool(&self) -> &PoolArgs {
        match self {
            Self::Attach(args) => &args.pool,
            Self::Clone(args) => &args.pool,
            Self::Create(args) => &args.pool,
            Self::Delete(args) => &args.pool,
            Self::DeleteSnapshot(args) => &args.pool,
            Self::Detach(args) => &args.pool,
            Self::Expand(args) => &args.pool,
            Self::List(args) => &args.pool,
            Self::Rekey(args) => &args.pool,
            Self::Report(args) => &args.pool,
            Self::Set(args) => &args.pool,
            Self::Show(args) => &args.pool,
            Self::Snapshot(args) => &args.pool,
            Self::Snapshots(args) => &args.pool,
        }
    }
}

/// Says what was done: as words where words go, or as data for scripts.
fn report_done(
    ui: &mut Ui,
    output: Output,
    words: &str,
    object: &Value,
) -> Result<(), CommandError> {
    match output {
        Output::Json => ui.json(object),
        Output::Text => {
            ui.status(words);
            Ok(())
        }
    }
}

/// Prints a line of a page.
fn row(ui: &mut Ui, name: &str, value: &str) -> Result<(), CommandError> {
    // Whoever wrote it may have liked more than one line.
    ui.data(&format!("{name:<16}{}", value.replace('\n', "\\n")))
}

/// Prints a table whose columns are as wide as what stands in them.
pub(super) fn table<const N: usize>(ui: &mut Ui, rows: &[[String; N]]) -> Result<(), CommandError> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        ui.data(line.trim_end())?;
    }
    Ok(())
}
