//! `strongroom libvirt vol-define`

use clap::Args;
use strongroom::libvirt::NewVolume;
use strongroom_crypto::CostPolicy;
use strongroom_model::EncryptionRequest;

use super::place::{DataArgs, DocumentArgs};
use super::printing;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Take over a volume that is there, as its document says it is
///
/// For volumes that libvirt or QEMU have made: `virsh vol-dumpxml` prints the document. Nothing of the volume
/// is changed. What its file holds never decides what it is, so a document is needed.
#[derive(Debug, Args)]
pub(crate) struct DefineArgs {
    #[command(flatten)]
    document: DocumentArgs,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Takes it over.
///
/// # Errors
///
/// When the file is not there, or is not what the document says.
pub(crate) fn run(ui: &mut Ui, args: &DefineArgs) -> Result<(), CommandError> {
    let document = args.document.read(ui)?;
    let pool = args.document.pool.as_deref();
    let derivation = EncryptionRequest::default();
    let libvirt = args.data.open(CostPolicy::default())?;
    let made = libvirt.adopt(&NewVolume { document: &document, pool, derivation, job: None })?;
    printing::made(ui, &made, args.output.output())
}
