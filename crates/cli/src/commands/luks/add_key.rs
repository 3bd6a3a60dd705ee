//! `strongroom luks add-key`

use clap::Args;
use serde_json::json;
use strongroom::keys;

use super::{DeviceArgs, KeyslotArgs};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::passphrases::{NewPassphraseArgs, PassphraseArgs};
use crate::ui::{Output, Ui};

/// Add a passphrase
#[derive(Debug, Args)]
pub(crate) struct AddKeyArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Use this keyslot [default: the first free one]
    #[arg(long, value_name = "N")]
    keyslot: Option<u32>,

    /// Add a random key of so many bytes that is bound to no data (LUKS2)
    #[arg(long, value_name = "BYTES", conflicts_with = "passphrase")]
    unbound: Option<usize>,

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

/// Adds the passphrase.
///
/// # Errors
///
/// What went wrong.
pub(crate) fn run(ui: &mut Ui, args: &AddKeyArgs) -> Result<(), CommandError> {
    let policy = args.policy.policy();
    let new = args.new_passphrase.read()?;
    let device = args.device.write()?;
    let request = args.new_keyslot.request(&device, args.keyslot, &policy)?;
    let id = match args.unbound {
        Some(bytes @ 1..=512) => {
            keys::add_unbound(&device, bytes, &new.passphrase, &request, &policy)?
        }
        Some(bytes) => {
            return Err(CommandError::request(format!(
                "an unbound key of {bytes} bytes is not possible: use 1 to 512"
            )));
        }
        None => {
            let existing = args.passphrase.read()?;
            keys::add(&device, &existing.passphrase, &new.passphrase, &request, &policy)
                .map_err(|error| existing.explain(error.into()))?
        }
    };
    match args.output.output() {
        Output::Json => ui.json(&json!({ "keyslot": id })),
        Output::Text => {
            ui.status(&format!("{}: the new passphrase is in keyslot {id}", args.device.label()));
            Ok(())
        }
    }
}
