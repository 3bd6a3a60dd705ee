//! `strongroom key recover`

use clap::Args;
use serde_json::json;
use strongroom::managed::{ManagedVolume, Recovered};

use super::{FileArgs, ManagedArgs, report};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Prove that the KMS opens an image, and put a lost envelope back where it belongs
///
/// With --envelope-file, an envelope that is missing there is written from the header, and one that is
/// missing in a LUKS2 header is written from the file.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    file: FileArgs,

    #[command(flatten)]
    managed: ManagedArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Recovers the envelope.
///
/// # Errors
///
/// When nothing opens the image.
pub(crate) fn run(ui: &mut Ui, args: &RecoverArgs) -> Result<(), CommandError> {
    let provider = args.managed.provider(&args.policy.policy())?;
    let device = args.file.write()?;
    let volume = ManagedVolume::new(&device, args.managed.record(), &args.policy.policy());
    let recovered = volume.recover(provider.as_ref())?;
    let (words, outcome, keyslot) = match recovered {
        Recovered::Header { keyslot } => {
            (format!("the envelope in the header opens keyslot {keyslot}"), "header-opens", keyslot)
        }
        Recovered::RecordOpens { keyslot } => {
            (format!("the envelope in the file opens keyslot {keyslot}"), "file-opens", keyslot)
        }
        Recovered::Record { keyslot } => {
            let words = format!(
                "the envelope in the header opens keyslot {keyslot}, and was written to the file"
            );
            (words, "file-written", keyslot)
        }
        Recovered::Token { keyslot, token } => {
            let words = format!(
                "the envelope in the file opens keyslot {keyslot}, and was written to token {token}"
            );
            (words, "token-written", keyslot)
        }
        Recovered::Agree { keyslot } => {
            (format!("header and file agree, and open keyslot {keyslot}"), "agree", keyslot)
        }
        Recovered::Differ { header, record } => {
            ui.hint("`strongroom key rotate` finishes a rotation that was interrupted");
            let words = format!(
                "both open it, with different data keys: the header keyslot {header}, the file \
                 keyslot {record}"
            );
            (words, "differ", header)
        }
    };
    let object = json!({ "outcome": outcome, "keyslot": keyslot });
    report(ui, args.output.output(), &args.file, &words, object)
}
