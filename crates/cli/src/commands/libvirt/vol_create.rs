//! `strongroom libvirt vol-create`

use clap::Args;
use strongroom::libvirt::Libvirt;

use super::making::MakingArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Make the volume of a document; prints its document, with the secret that opens it
///
/// What is made is what libvirt's storage driver makes: raw, qcow2, LUKS in either; and LUKS2, which it does
/// not. The capacity is rounded up to KiB. A secret that the document names and nobody has defined is made,
/// with a random value. LUKS in a raw file reads as noise where nothing was written yet.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    making: MakingArgs,
}

/// Makes it.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &CreateArgs) -> Result<(), CommandError> {
    args.making.run(ui, Libvirt::create)
}
