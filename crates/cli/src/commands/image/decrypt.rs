//! `strongroom image decrypt`

use std::path::PathBuf;

use clap::Args;
use strongroom::images::{DetachedHeaders, Keys};
use strongroom_model::ImageOperation;

use super::make;
use crate::arguments::{OutputArgs, PlainTargetArgs, PolicyArgs, TargetArgs};
use crate::command_error::CommandError;
use crate::key_arguments::{GivenOpener, KeyArgs};
use crate::ui::Ui;

/// Decrypt an image into a new one
///
/// Runs of zeros become holes again.
#[derive(Debug, Args)]
pub(crate) struct DecryptArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    plain: PlainTargetArgs,

    /// The detached header of the source
    #[arg(long, value_name = "FILE")]
    header: Option<PathBuf>,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Decrypts the image.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &DecryptArgs) -> Result<(), CommandError> {
    let GivenOpener { opener, advice } = args.key.read(&args.policy.policy())?;
    let request = args.plain.complete(args.target.request(ImageOperation::Decrypt));
    let keys = Keys { source: Some(opener), target: None };
    let headers = DetachedHeaders { source: args.header.as_deref(), target: None };
    make(ui, &request, headers, keys, args.policy.policy(), args.output.output())
        .map_err(|error| advice.explain(error))
}
