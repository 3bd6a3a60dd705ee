//! `strongroom image clone`

use clap::Args;
use strongroom::images::{DetachedHeaders, Passphrases};
use strongroom_crypto::CostPolicy;
use strongroom_model::ImageOperation;

use super::make;
use crate::arguments::{OutputArgs, TargetArgs};
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Copy an image byte for byte, holes kept
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Copies the image.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &CloneArgs) -> Result<(), CommandError> {
    let request = args.target.request(ImageOperation::Copy);
    let (passphrases, policy) = (Passphrases::default(), CostPolicy::default());
    make(ui, &request, DetachedHeaders::default(), &passphrases, policy, args.output.output())
}
