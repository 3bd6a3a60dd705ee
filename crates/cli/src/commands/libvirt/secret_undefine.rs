//! `strongroom libvirt secret-undefine`

use clap::Args;
use serde_json::json;
use strongroom::libvirt::Force;
use strongroom_crypto::CostPolicy;

use super::place::DataArgs;
use super::secret_name::SecretArgs;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Take a secret away, with its value
///
/// One that opens volumes stays: without it they are lost.
#[derive(Debug, Args)]
pub(crate) struct UndefineArgs {
    #[command(flatten)]
    secret: SecretArgs,

    /// Do it though volumes are lost by that
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Takes it away.
///
/// # Errors
///
/// When there is no such secret, or it opens volumes.
pub(crate) fn run(ui: &mut Ui, args: &UndefineArgs) -> Result<(), CommandError> {
    let force = if args.force { Force::Yes } else { Force::No };
    let libvirt = args.data.open(CostPolicy::default())?;
    let uuid = libvirt.undefine_secret(&args.secret.name()?, force)?;
    match args.output.output() {
        Output::Json => ui.json(&json!({ "uuid": uuid, "undefined": true })),
        Output::Text => {
            ui.status(&format!("secret {uuid} is gone"));
            Ok(())
        }
    }
}
