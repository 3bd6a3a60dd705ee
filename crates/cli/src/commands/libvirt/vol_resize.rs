//! `strongroom libvirt vol-resize`

use clap::Args;
use serde_json::json;
use strongroom::image_size::SizeChange;
use strongroom_disk::qcow2::Shrinking;

use super::connection::ConnectionArgs;
use super::place::{DataArgs, VolumeArgs};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::sizes::size;
use crate::ui::{self, Output, Ui};

/// Make a volume larger, or smaller
///
/// The capacity is rounded up to 512 bytes. File systems in it stay as they are.
#[derive(Debug, Args)]
pub(crate) struct ResizeArgs {
    #[command(flatten)]
    volume: VolumeArgs,

    /// The new capacity; K, M, G, T and P are powers of 1024
    #[arg(value_parser = size)]
    capacity: u64,

    /// The capacity is by how much it changes: more, or with --shrink less
    #[arg(long)]
    delta: bool,

    /// Let the volume become smaller; what lies at its end is lost for ever
    #[arg(long)]
    shrink: bool,

    #[command(flatten)]
    connection: ConnectionArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Changes the size.
///
/// # Errors
///
/// When the volume stays as it is, and why.
pub(crate) fn run(ui: &mut Ui, args: &ResizeArgs) -> Result<(), CommandError> {
    let change = match (args.delta, args.shrink) {
        (false, _) => SizeChange::To(args.capacity),
        (true, false) => SizeChange::By(args.capacity),
        (true, true) => SizeChange::Less(args.capacity),
    };
    let shrinking = if args.shrink { Shrinking::Allow } else { Shrinking::Refuse };
    let libvirt = args.connection.values_for(args.data.open(args.policy.policy())?)?;
    let resized = libvirt.resize(&args.volume.name(), change, shrinking)?;
    match args.output.output() {
        Output::Json => ui.json(&json!({
            "capacity_bytes_before": resized.from,
            "capacity_bytes": resized.to,
        })),
        Output::Text => {
            let (from, to) = (ui::bytes(resized.from), ui::bytes(resized.to));
            ui.status(&format!("{from} before, {to} now"));
            Ok(())
        }
    }
}
