//! `strongroom image encrypt`

use std::path::PathBuf;

use clap::Args;
use strongroom::images::{DetachedHeaders, Keys};
use strongroom_model::{CloneRequest, ImageOperation};

use super::make;
use crate::arguments::{EncryptionArgs, OutputArgs, PolicyArgs, TargetArgs};
use crate::command_error::CommandError;
use crate::key_arguments::KeyArgs;
use crate::ui::Ui;

/// Encrypt a disk image into a new one
///
/// The target is written in one pass, header last, and gets its name when it is whole and durable.
/// Of a LUKS target all is written: a hole in it would decrypt to noise. A qcow2 target keeps the
/// holes of the source, since the image says where they are.
#[derive(Debug, Args)]
pub(crate) struct EncryptArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Put the header into this file of its own; the target then holds ciphertext only
    #[arg(long, value_name = "FILE")]
    header: Option<PathBuf>,

    #[command(flatten)]
    encryption: EncryptionArgs,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Encrypts the image.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &EncryptArgs) -> Result<(), CommandError> {
    let policy = args.policy.policy();
    let given = args.key.read_new(&args.policy.policy())?;
    let (encryption, target_format) = args.encryption.request(&args.target, &given, &policy)?;
    if encryption.cipher.as_deref().is_some_and(|cipher| cipher.contains("-ctr-")) {
        ui.warning(
            "in CTR mode whoever sees a sector before and after it is rewritten learns what changed",
        );
    }
    let request = args.target.request(ImageOperation::Encrypt(encryption));
    let request = CloneRequest { target_format, ..request };
    let keys = Keys { source: None, target: Some(given.key) };
    let headers = DetachedHeaders { source: None, target: args.header.as_deref() };
    make(ui, &request, headers, keys, policy, args.output.output())
}
