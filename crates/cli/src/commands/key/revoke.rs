//! `strongroom key revoke`

use clap::Args;
use serde_json::json;
use strongroom::managed::{ManagedVolume, Revoked};

use super::{FileArgs, numbers, report};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::passphrases::PassphraseArgs;
use crate::ui::Ui;

/// Take an image from its KMS; a passphrase must open it
///
/// Keyslots and envelopes of the KMS are removed. The KMS is not asked, and nothing in it changes. Who
/// has a header backup and the KMS still opens the backup.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    file: FileArgs,

    #[command(flatten)]
    passphrase: PassphraseArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Removes what is the KMS's.
///
/// # Errors
///
/// When the passphrase opens nothing else.
pub(crate) fn run(ui: &mut Ui, args: &RevokeArgs) -> Result<(), CommandError> {
    let given = args.passphrase.read()?;
    let device = args.file.write()?;
    let volume = ManagedVolume::new(&device, None, &args.policy.policy());
    let Revoked { removed, left } =
        volume.revoke(&given.passphrase).map_err(|error| given.explain(error.into()))?;
    if !left.is_empty() {
        ui.hint(&format!(
            "tokens of the KMS named these keyslots as well, which were left, since something else opens \
             them: {}",
            numbers(&left)
        ));
    }
    let words = format!("no KMS opens it any more; keyslots removed: {}", numbers(&removed));
    let object = json!({ "removed_keyslots": removed, "left_keyslots": left });
    report(ui, args.output.output(), &args.file, &words, object)
}
