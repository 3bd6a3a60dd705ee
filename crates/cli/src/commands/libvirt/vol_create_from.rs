//! `strongroom libvirt vol-create-from`

use std::path::PathBuf;

use clap::Args;
use strongroom::images::Work;
use strongroom::libvirt::NewVolume;

use super::connection::ConnectionArgs;
use super::place::{DataArgs, DocumentArgs, volume_name};
use super::printing;
use super::vol_create::version;
use crate::arguments::{DerivationArgs, OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::interruption;
use crate::ui::Ui;

/// Make the volume of a document from another volume: copied, encrypted, decrypted, converted
///
/// It is one pass, without a plain copy in between. The new volume is at least as large as the other one,
/// and encrypted as its own document says.
#[derive(Debug, Args)]
pub(crate) struct CreateFromArgs {
    #[command(flatten)]
    document: DocumentArgs,

    /// The path of the other volume; with --input-pool its name
    #[arg(value_name = "SOURCE")]
    source: String,

    /// The directory in which the other volume is
    #[arg(long, value_name = "DIR", alias = "inputpool")]
    input_pool: Option<PathBuf>,

    #[command(flatten)]
    connection: ConnectionArgs,

    #[command(flatten)]
    derivation: DerivationArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Makes it.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &CreateFromArgs) -> Result<(), CommandError> {
    let policy = args.policy.policy();
    let document = args.document.read(ui)?;
    let derivation = args.derivation.settled(version(&document), &policy)?;
    let new = NewVolume {
        document: &document,
        pool: args.document.pool.as_deref(),
        derivation,
        job: None,
    };
    let source = volume_name(&args.source, args.input_pool.as_deref());
    let libvirt = args.connection.values_for(args.data.open(policy)?)?;
    let output = args.output.output();
    let cancelled = interruption::flag()?;
    let watch = ui.watch(output);
    let work = Work { policy, observer: &watch, cancelled: &cancelled };
    let made = libvirt.create_from(&new, &source, &work)?;
    watch.finish();
    printing::made(ui, &made, output)
}
