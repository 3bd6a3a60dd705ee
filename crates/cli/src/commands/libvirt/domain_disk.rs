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
    #[arg(long, value_name = "NAME", default_value = "vda", value_parser = device_name)]
    target: String,

    /// How it is attached
    #[arg(long, value_name = "BUS", default_value = "virtio", value_parser = BUSES)]
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

/// Takes what libvirt numbers disks by: `vda`, `sdb`.
fn device_name(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("it is letters and digits, such as vda or sdb".to_owned())
    }
}

/// The buses that a disk can be at in a domain of QEMU's.
const BUSES: [&str; 5] = ["virtio", "scsi", "sata", "usb", "ide"];
