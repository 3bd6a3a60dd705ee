//! `strongroom volume detach`

use clap::Args;
use serde_json::json;
use strongroom::ErrorKind;
use strongroom_crypto::CostPolicy;
use strongroom_model::VolumeId;

use super::pool::PoolArgs;
use super::report_done;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Let a volume disappear from this machine
///
/// It needs no key. A volume that is not attached stays as it is; what somebody who was interrupted has
/// left of an attachment is cleaned up.
#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The volume
    name: VolumeId,

    #[command(flatten)]
    output: OutputArgs,
}

/// Detaches the volume.
///
/// # Errors
///
/// When somebody still uses it.
pub(crate) fn run(ui: &mut Ui, args: &DetachArgs) -> Result<(), CommandError> {
    let volumes = args.pool.open(CostPolicy::default())?;
    let known = volumes.volume(&args.name);
    let was_attached = volumes.attachment(&args.name)?.is_some();
    volumes.detach(&args.name).map_err(|error| {
        let busy = error.kind() == ErrorKind::Busy;
        let error = CommandError::from(error);
        // The usual hint leads back here.
        if busy { error.unhinted().hinted("end what uses it, then detach it again") } else { error }
    })?;
    // Only now, so that leftovers of a volume of which nobody knows are gone all the same.
    known?;
    let how = if was_attached { "detached" } else { "was not attached" };
    let words = format!("volume {}: {how}", args.name);
    let object = json!({ "volume": args.name, "was_attached": was_attached });
    report_done(ui, args.output.output(), &words, &object)
}
