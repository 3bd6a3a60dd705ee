//! `strongroom key add-recovery`

use clap::Args;
use serde_json::json;
use strongroom::keys::KeyslotRequest;
use strongroom::managed::ManagedVolume;

use super::{FileArgs, report};
use crate::arguments::{DerivationArgs, OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::key_arguments::KeyArgs;
use crate::passphrases::NewPassphraseArgs;
use crate::ui::Ui;

/// Add a recovery passphrase beside the KMS
///
/// For the day on which the KMS is lost. Keep the passphrase where the KMS is not.
#[derive(Debug, Args)]
pub(crate) struct AddRecoveryArgs {
    #[command(flatten)]
    file: FileArgs,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,

    /// Use this keyslot [default: the first free one]
    #[arg(long, value_name = "N")]
    keyslot: Option<u32>,

    #[command(flatten)]
    derivation: DerivationArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Adds the passphrase.
///
/// # Errors
///
/// When the image does not open, or the header has no room.
pub(crate) fn run(ui: &mut Ui, args: &AddRecoveryArgs) -> Result<(), CommandError> {
    let policy = args.policy.policy();
    let given = args.key.read(&args.policy.policy())?;
    let new = args.new_passphrase.read()?;
    let device = args.file.write()?;
    let volume = ManagedVolume::new(&device, None, &policy);
    let version = device.read_header()?.header.version();
    let request = KeyslotRequest {
        id: args.keyslot,
        kdf: args.derivation.kdf(version, &policy)?,
        priority: None,
    };
    let keyslot = volume
        .add_recovery(given.opener.opener(), &new.passphrase, &request)
        .map_err(|error| given.advice.explain(error.into()))?;
    let words = format!("the recovery passphrase is in keyslot {keyslot}");
    report(ui, args.output.output(), &args.file, &words, json!({ "keyslot": keyslot }))
}
