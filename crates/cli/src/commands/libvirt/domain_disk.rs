//! `strongroom libvirt domain-disk`

use clap::Args;
use serde_json::json;
use strongroom::libvirt::DiskRequest;
use strongroom_crypto::CostPolicy;

use super::place::{DataArgs, VolumeArgs};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Print the <disk> element of a volume, for the document of a domain
///
/// The secret that it names must be defined in the libvirt daemon, too: secret-dumpxml prints its document,
/// and secret-get-value writes its value to a file.
#[derive(Debug, Args)]
pub(crate) struct DiskArgs {
    #[command(flatten)]
    volume: VolumeArgs,

    /// What the guest calls the disk
    #[arg(long, value_name = "NAME", default_value = "vda")]
    target: String,

    /// How it is attached: virtio, scsi, sata, usb
    #[arg(long, value_name = "BUS", default_value = "virtio")]
    bus: String,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Prints it.
///
/// # Errors
///
/// When QEMU could not open the volume.
pub(crate) fn run(ui: &mut Ui, args: &DiskArgs) -> Result<(), CommandError> {
    let request = DiskRequest { target: args.target.clone(), bus: args.bus.clone() };
    let libvirt = args.data.open(CostPolicy::default())?;
    let disk = libvirt.domain_disk(&args.volume.name(), &request)?;
    match args.output.output() {
        Output::Json => ui.json(&json!({ "document": disk.write() })),
        Output::Text => ui.data(disk.write().trim_end()),
    }
}
