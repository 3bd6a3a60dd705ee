//! `strongroom luks test-key`

use clap::Args;
use serde_json::json;
use strongroom::keys;

use super::DeviceArgs;
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::key_arguments::{GivenOpener, KeyArgs};
use crate::ui::{Output, Ui};

/// Tell whether a passphrase or a KMS opens the volume, and which keyslot
#[derive(Debug, Args)]
pub(crate) struct TestKeyArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Try this keyslot only
    #[arg(long, value_name = "N")]
    keyslot: Option<u32>,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Tries the passphrase or the KMS.
///
/// # Errors
///
/// That it opens nothing, or what else went wrong.
pub(crate) fn run(ui: &mut Ui, args: &TestKeyArgs) -> Result<(), CommandError> {
    let GivenOpener { opener, advice } = args.key.read(&args.policy.policy())?;
    let device = args.device.read()?;
    let id = keys::test(&device, opener.opener(), args.keyslot, &args.policy.policy())
        .map_err(|error| advice.explain(error.into()))?;
    match args.output.output() {
        Output::Json => ui.json(&json!({ "keyslot": id })),
        Output::Text => ui.data(&format!("keyslot {id} opens")),
    }
}
