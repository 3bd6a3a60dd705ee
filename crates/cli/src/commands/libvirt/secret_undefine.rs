//! `strongroom libvirt secret-undefine`

use clap::Args;
use serde_json::json;
use strongroom::Error;
use strongroom::libvirt::{Force, LibvirtProblem};
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
    let libvirt = args.data.open(CostPolicy::default())?;
    let name = args.secret.name()?;
    let uuid = match libvirt.undefine_secret(&name, Force::No) {
        Err(Error::Libvirt(problem)) if args.force && is_in_use(&problem) => {
            ui.status(&format!("warning: {problem}, and cannot be opened any more"));
            libvirt.undefine_secret(&name, Force::Yes)?
        }
        undefined => undefined?,
    };
    match args.output.output() {
        Output::Json => ui.json(&json!({ "uuid": uuid, "undefined": true })),
        Output::Text => {
            ui.status(&format!("secret {uuid} is gone"));
            Ok(())
        }
    }
}

fn is_in_use(problem: &LibvirtProblem) -> bool {
    matches!(problem, LibvirtProblem::SecretInUse { .. })
}
