//! `strongroom image clone`

use clap::Args;
use strongroom::images::{DetachedHeaders, Keys};
use strongroom_crypto::CostPolicy;
use strongroom_model::ImageOperation;

use super::make;
use crate::arguments::{OutputArgs, PlainTargetArgs, TargetArgs};
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Copy an image, holes kept
///
/// Byte for byte, encrypted or not, unless another format or compression is asked for: then what
/// is in the image is converted.
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    plain: PlainTargetArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Copies the image.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &CloneArgs) -> Result<(), CommandError> {
    let request = args.plain.complete(args.target.request(ImageOperation::Copy));
    let (keys, policy) = (Keys::default(), CostPolicy::default());
    make(ui, &request, DetachedHeaders::default(), keys, policy, args.output.output())
}
