//! `strongroom luks change-key`

use clap::Args;
use serde_json::json;
use strongroom::keys;

use super::{DeviceArgs, KeyslotArgs};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::passphrases::{NewPassphraseArgs, PassphraseArgs};
use crate::ui::{Output, Ui};

/// Replace a passphrase by another
///
/// The new keyslot is whole before the old one is wiped. The volume key stays the same.
#[derive(Debug, Args)]
pub(crate) struct ChangeKeyArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Change this keyslot [default: the one that the passphrase opens]
    #[arg(long, value_name = "N")]
    keyslot: Option<u32>,

    #[command(flatten)]
    new_keyslot: KeyslotArgs,

    #[command(flatten)]
    passphrase: PassphraseArgs,

    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Replaces the passphrase.
///
/// # Errors
///
/// What went wrong.
pub(crate) fn run(ui: &mut Ui, args: &ChangeKeyArgs) -> Result<(), CommandError> {
    let policy = args.policy.policy();
    let old = args.passphrase.read()?;
    let new = args.new_passphrase.read()?;
    let device = args.device.write()?;
    let request = args.new_keyslot.request(&device, None, &policy)?;
    let id =
        keys::change(&device, &old.passphrase, &new.passphrase, args.keyslot, &request, &policy)
            .map_err(|error| old.explain(error.into()))?;
    match args.output.output() {
        Output::Json => ui.json(&json!({ "keyslot": id })),
        Output::Text => {
            ui.status(&format!("{}: the new passphrase is in keyslot {id}", args.device.label()));
            Ok(())
        }
    }
}
