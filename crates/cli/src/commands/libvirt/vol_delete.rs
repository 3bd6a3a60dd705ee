//! `strongroom libvirt vol-delete`

use clap::Args;
use serde_json::json;
use strongroom::libvirt::SecretFate;
use strongroom_crypto::CostPolicy;

use super::place::{DataArgs, VolumeArgs};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Delete a volume
///
/// Its file goes first, then, with --with-secret, the secret that was made for it. A secret that somebody
/// has defined stays.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    volume: VolumeArgs,

    /// Take the secret away, too, that was made for this volume and opens no other
    #[arg(long)]
    with_secret: bool,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Deletes it.
///
/// # Errors
///
/// When it is not known, or in use.
pub(crate) fn run(ui: &mut Ui, args: &DeleteArgs) -> Result<(), CommandError> {
    let fate = if args.with_secret { SecretFate::Remove } else { SecretFate::Keep };
    let deleted = args.data.open(CostPolicy::default())?.delete(&args.volume.name(), fate)?;
    if args.output.output() == Output::Json {
        return ui.json(&json!({
            "path": deleted.path,
            "removed_secret": deleted.removed_secret,
            "kept_secret": deleted.kept_secret,
        }));
    }
    ui.status(&format!("volume {} is gone", deleted.path));
    if let Some(uuid) = &deleted.removed_secret {
        ui.status(&format!("secret {uuid} is gone"));
    }
    if let Some(uuid) = &deleted.kept_secret {
        ui.hint(&format!(
            "secret {uuid} was made for it and stays; if nothing else needs it: strongroom libvirt \
             secret-undefine {uuid}"
        ));
    }
    Ok(())
}
