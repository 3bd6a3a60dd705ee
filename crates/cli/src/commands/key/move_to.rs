//! `strongroom key move`

use clap::Args;
use strongroom::OwnedNewKey;
use strongroom::managed::{ManagedVolume, Work};

use super::{FileArgs, envelope, numbers, report, rotate};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::key_arguments::{KeyArgs, NewKeyArgs};
use crate::ui::Ui;

/// Move an image to another KMS, or to another key of the same; it gets another data key
///
/// What opens the image now is the KMS that it leaves, or a passphrase when that KMS is lost. The data
/// key is a new one, so that the old KMS opens nothing any more. Give the command again when it was
/// interrupted.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    file: FileArgs,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    new_key: NewKeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Moves the image.
///
/// # Errors
///
/// When it does not open, or the new KMS does not work.
pub(crate) fn run(ui: &mut Ui, args: &MoveArgs) -> Result<(), CommandError> {
    let given = args.key.read(&args.policy.policy())?;
    let OwnedNewKey::Kms { provider, envelope_file } =
        args.new_key.read(&args.policy.policy())?.key
    else {
        return Err(CommandError::request("an image moves to a KMS, not to a passphrase").hinted(
            "name the KMS with --new-kms; add a passphrase with `strongroom key add-recovery`",
        ));
    };
    let device = args.file.write()?;
    let record = envelope_file.as_deref().or(args.key.envelope_file());
    let volume = ManagedVolume::new(&device, record, &args.policy.policy());
    let moved = volume
        .move_to(given.opener.opener(), provider.as_ref())
        .map_err(|error| given.advice.explain(error.into()))?;
    let words = match moved.work {
        Work::Whole => format!(
            "{} opens keyslot {} now; keyslots removed: {}",
            envelope::line(&moved.envelope),
            moved.keyslot,
            numbers(&moved.removed)
        ),
        Work::Finished => {
            format!("it had moved to {} already", envelope::line(&moved.envelope))
        }
    };
    report(ui, args.output.output(), &args.file, &words, rotate::object(&moved))
}
