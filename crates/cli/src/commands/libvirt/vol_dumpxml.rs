//! `strongroom libvirt vol-dumpxml`

use clap::Args;
use serde_json::json;
use strongroom_crypto::CostPolicy;

use super::place::{DataArgs, VolumeArgs};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Print the document of a volume
///
/// Sizes and permissions are what its file has now; its secret and cipher are remembered, whatever a libvirt
/// daemon remembers.
#[derive(Debug, Args)]
pub(crate) struct DumpxmlArgs {
    #[command(flatten)]
    volume: VolumeArgs,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Prints it.
///
/// # Errors
///
/// When it is not known, or its file cannot be read.
pub(crate) fn run(ui: &mut Ui, args: &DumpxmlArgs) -> Result<(), CommandError> {
    let libvirt = args.data.open(CostPolicy::default())?;
    let document = libvirt.volume_document(&args.volume.name())?;
    match args.output.output() {
        Output::Json => ui.json(&json!({
            "name": document.name,
            "path": document.target.path,
            "capacity_bytes": document.capacity,
            "allocation_bytes": document.allocation,
            "document": document.write(),
        })),
        Output::Text => ui.data(document.write().trim_end()),
    }
}
