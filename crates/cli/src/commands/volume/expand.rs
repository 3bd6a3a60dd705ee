//! `strongroom volume expand`

use clap::Args;
use serde_json::json;
use strongroom::image_size::SizeChange;
use strongroom::volumes::{Show, Volume, VolumeProblem};
use strongroom_crypto::CostPolicy;
use strongroom_model::VolumeId;

use super::pool::PoolArgs;
use super::report_done;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::sizes::size_change;
use crate::ui::{self, Ui};

/// Make a volume larger, also while it is attached
///
/// Where it is attached on this machine, its device and its file system grow at once, and no key is
/// needed. Otherwise the file system grows when the volume is mounted the next time.
#[derive(Debug, Args)]
pub(crate) struct ExpandArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The volume
    name: VolumeId,

    /// How much of it can be used from now on, or with + before it how much more; K, M, G, T and P are
    /// powers of 1024
    #[arg(long, value_parser = size_change)]
    size: SizeChange,

    #[command(flatten)]
    output: OutputArgs,
}

/// Expands the volume.
///
/// # Errors
///
/// When it would become smaller, or something cannot grow.
pub(crate) fn run(ui: &mut Ui, args: &ExpandArgs) -> Result<(), CommandError> {
    let volumes = args.pool.open(CostPolicy::default())?;
    let before = volumes.volume(&args.name)?;
    let volume = volumes.expand(&args.name, wanted(&before, args.size)?)?;
    let attached = volumes.attachment(&args.name)?;
    let mut grown = false;
    if let Some(Show::Nbd { address, .. }) = attached.as_ref().map(|attached| &attached.show) {
        ui.warning(&format!(
            "clients of {address} learn of the new size when the volume is attached anew"
        ));
    } else if attached.is_some() {
        volumes.grow(&args.name)?;
        grown = true;
    }
    let words = format!("volume {}: {} can be used", args.name, ui::bytes(volume.size));
    let object = json!({
        "volume": args.name,
        "size": volume.size,
        "size_before": before.size,
        "grown_online": grown,
    });
    report_done(ui, args.output.output(), &words, &object)
}

/// Returns the size that a volume shall have, in bytes.
fn wanted(volume: &Volume, change: SizeChange) -> Result<u64, CommandError> {
    let refused = |size: u64, reason: String| {
        let problem = Box::new(VolumeProblem::Size { size, reason });
        CommandError::from(strongroom::Error::Volume { id: volume.id.to_string(), problem })
    };
    let size = match change {
        SizeChange::To(size) => size,
        SizeChange::By(more) => volume.size.saturating_add(more),
        SizeChange::Less(less) => volume.size.saturating_sub(less),
    };
    if size < volume.size {
        let reason = format!("it has {}, and volumes only become larger", volume.size);
        return Err(refused(size, reason));
    }
    Ok(size)
}
