//! `strongroom libvirt vol-create-from`

use std::path::PathBuf;

use clap::Args;

use super::making::MakingArgs;
use super::place::volume_name;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Make the volume of a document from another volume: copied, encrypted, decrypted, converted
///
/// It is one pass, without a plain copy in between. The new volume is at least as large as the other one,
/// and encrypted as its own document says. The layers that the other one lies over are each opened with their
/// own secret.
#[derive(Debug, Args)]
pub(crate) struct CreateFromArgs {
    #[command(flatten)]
    making: MakingArgs,

    /// The path of the other volume; with --input-pool its name
    #[arg(value_name = "SOURCE")]
    source: String,

    /// The directory in which the other volume is
    #[arg(long, value_name = "DIR", alias = "inputpool")]
    input_pool: Option<PathBuf>,
}

/// Makes it.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &CreateFromArgs) -> Result<(), CommandError> {
    let source = volume_name(&args.source, args.input_pool.as_deref());
    args.making.run(ui, |libvirt, new, work| libvirt.create_from(new, &source, work))
}
