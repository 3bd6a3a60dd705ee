//! `strongroom key remove-recovery`

use clap::Args;
use serde_json::json;
use strongroom::managed::ManagedVolume;

use super::{FileArgs, report};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::key_arguments::KeyArgs;
use crate::ui::Ui;

/// Remove a recovery passphrase
///
/// The KMS, or a passphrase, must open another keyslot: nobody is locked out by mistake.
#[derive(Debug, Args)]
pub(crate) struct RemoveRecoveryArgs {
    #[command(flatten)]
    file: FileArgs,

    /// The keyslot of the recovery passphrase [default: the only one]
    #[arg(long, value_name = "N")]
    keyslot: Option<u32>,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Removes the passphrase.
///
/// # Errors
///
/// When it is not clear which one is meant, or nothing else opens.
pub(crate) fn run(ui: &mut Ui, args: &RemoveRecoveryArgs) -> Result<(), CommandError> {
    let given = args.key.read(&args.policy.policy())?;
    let device = args.file.write()?;
    let volume = ManagedVolume::new(&device, None, &args.policy.policy());
    let keyslot = volume
        .remove_recovery(given.opener.opener(), args.keyslot)
        .map_err(|error| given.advice.explain(error.into()))?;
    let words = format!("the recovery passphrase in keyslot {keyslot} is removed");
    report(ui, args.output.output(), &args.file, &words, json!({ "keyslot": keyslot }))
}
