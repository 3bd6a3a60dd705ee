//! `strongroom image reencrypt`

use std::path::PathBuf;

use clap::Args;
use strongroom::images::{DetachedHeaders, Keys};
use strongroom_model::{CloneRequest, ImageOperation};

use super::make;
use crate::arguments::{EncryptionArgs, OutputArgs, PolicyArgs, TargetArgs};
use crate::command_error::CommandError;
use crate::key_arguments::{GivenOpener, KeyArgs, NewKeyArgs};
use crate::ui::Ui;

/// Encrypt an encrypted image anew, under another volume key and passphrase
///
/// One pass, no plaintext on the disk. Cipher and sector size stay as they are unless given.
#[derive(Debug, Args)]
pub(crate) struct ReencryptArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// The detached header of the source
    #[arg(long, value_name = "FILE")]
    header: Option<PathBuf>,

    /// Put the header of the target into this file of its own
    #[arg(long, value_name = "FILE")]
    new_header: Option<PathBuf>,

    #[command(flatten)]
    encryption: EncryptionArgs,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    new_key: NewKeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Encrypts the image anew.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &ReencryptArgs) -> Result<(), CommandError> {
    let policy = args.policy.policy();
    let GivenOpener { opener, advice } = args.key.read(&args.policy.policy())?;
    let new = args.new_key.read(&args.policy.policy())?;
    let (encryption, target_format) = args.encryption.request(&args.target, &new, &policy)?;
    let request = args.target.request(ImageOperation::Reencrypt(encryption));
    let request = CloneRequest { target_format, ..request };
    let keys = Keys { source: Some(opener), target: Some(new.key) };
    let headers =
        DetachedHeaders { source: args.header.as_deref(), target: args.new_header.as_deref() };
    make(ui, &request, headers, keys, policy, args.output.output())
        .map_err(|error| advice.explain(error))
}
