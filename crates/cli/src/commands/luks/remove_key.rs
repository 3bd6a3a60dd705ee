//! `strongroom luks remove-key`

use clap::Args;
use serde_json::json;
use strongroom::keys::{self, KeyslotChoice};

use super::DeviceArgs;
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::passphrases::PassphraseArgs;
use crate::ui::{Output, Ui};

/// Remove a passphrase
///
/// Without --keyslot the passphrase given is the one that goes. With it, the passphrase must open
/// another keyslot, so that nobody is locked out by mistake.
#[derive(Debug, Args)]
pub(crate) struct RemoveKeyArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Remove this keyslot
    #[arg(long, value_name = "N")]
    keyslot: Option<u32>,

    #[command(flatten)]
    passphrase: PassphraseArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Removes the keyslot.
///
/// # Errors
///
/// What went wrong.
pub(crate) fn run(ui: &mut Ui, args: &RemoveKeyArgs) -> Result<(), CommandError> {
    let given = args.passphrase.read()?;
    let device = args.device.write()?;
    let choice = match args.keyslot {
        Some(id) => KeyslotChoice::Number(id),
        None => KeyslotChoice::Opened,
    };
    let id = keys::remove(&device, &given.passphrase, choice, &args.policy.policy())
        .map_err(|error| given.explain(error.into()))?;
    match args.output.output() {
        Output::Json => ui.json(&json!({ "keyslot": id })),
        Output::Text => {
            ui.status(&format!("{}: keyslot {id} is wiped", args.device.label()));
            Ok(())
        }
    }
}
