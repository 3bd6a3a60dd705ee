//! `strongroom key rotate`

use clap::Args;
use serde_json::{Value, json};
use strongroom::managed::{ManagedVolume, Replaced, Work};

use super::{FileArgs, ManagedArgs, envelope, numbers, report};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Give an image another data key; its data stays as it is
///
/// The new keyslot comes first, then its envelope, and the old keyslot goes last: an image that was
/// interrupted opens, and the command goes on when it is given again. Passphrases stay as they are. Who
/// has a header backup and the KMS still opens the backup with the old data key.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    file: FileArgs,

    #[command(flatten)]
    managed: ManagedArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Rotates the data key.
///
/// # Errors
///
/// When the KMS does not open the image, or something cannot be written.
pub(crate) fn run(ui: &mut Ui, args: &RotateArgs) -> Result<(), CommandError> {
    let provider = args.managed.provider(&args.policy.policy())?;
    let device = args.file.write()?;
    let volume = ManagedVolume::new(&device, args.managed.record(), &args.policy.policy());
    let replaced = volume.rotate(provider.as_ref())?;
    let words = format!(
        "a new data key opens keyslot {}; keyslots removed: {}",
        replaced.keyslot,
        numbers(&replaced.removed)
    );
    report(ui, args.output.output(), &args.file, &words, object(&replaced))
}

/// Returns what scripts want to know of a data key that was replaced.
pub(super) fn object(replaced: &Replaced) -> Value {
    json!({
        "keyslot": replaced.keyslot,
        "token": replaced.token,
        "removed_keyslots": replaced.removed,
        "finished_earlier_work": replaced.work == Work::Finished,
        "envelope": envelope::value(&replaced.envelope),
    })
}
