//! `strongroom luks test-key`

use clap::Args;
use serde_json::json;
use strongroom::keys;

use super::DeviceArgs;
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::passphrases::PassphraseArgs;
use crate::ui::{Output, Ui};

/// Tell whether a passphrase opens the volume, and which keyslot
#[derive(Debug, Args)]
pub(crate) struct TestKeyArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Try this keyslot only
    #[arg(long, value_name = "N")]
    keyslot: Option<u32>,

    #[command(flatten)]
    passphrase: PassphraseArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Tries the passphrase.
///
/// # Errors
///
/// That it opens nothing, or what else went wrong.
pub(crate) fn run(ui: &mut Ui, args: &TestKeyArgs) -> Result<(), CommandError> {
    let given = args.passphrase.read()?;
    let device = args.device.read()?;
    let id = keys::test(&device, &given.passphrase, args.keyslot, &args.policy.policy())
        .map_err(|error| given.explain(error.into()))?;
    match args.output.output() {
        Output::Json => ui.json(&json!({ "keyslot": id })),
        Output::Text => ui.data(&format!("keyslot {id} opens")),
    }
}
