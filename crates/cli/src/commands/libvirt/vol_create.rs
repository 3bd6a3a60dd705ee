//! `strongroom libvirt vol-create`

use clap::Args;
use strongroom::images::Work;
use strongroom::libvirt::NewVolume;
use strongroom_luks::Version;
use strongroom_model::dialect::libvirt::{EncryptionFormat, Volume};

use super::connection::ConnectionArgs;
use super::place::{DataArgs, DocumentArgs};
use super::printing;
use crate::arguments::{DerivationArgs, OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::interruption;
use crate::ui::Ui;

/// Make the volume of a document; prints its document, with the secret that opens it
///
/// What is made is what libvirt's storage driver makes: raw, qcow2, LUKS in either; and LUKS2, which it does
/// not. The capacity is rounded up to KiB. A secret that the document names and nobody has defined is made,
/// with a random value. LUKS in a raw file reads as noise where nothing was written yet.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    document: DocumentArgs,

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
pub(crate) fn run(ui: &mut Ui, args: &CreateArgs) -> Result<(), CommandError> {
    let policy = args.policy.policy();
    let document = args.document.read(ui)?;
    let derivation = args.derivation.settled(version(&document), &policy)?;
    let new = NewVolume {
        document: &document,
        pool: args.document.pool.as_deref(),
        derivation,
        job: None,
    };
    let libvirt = args.connection.values_for(args.data.open(policy)?)?;
    let output = args.output.output();
    let cancelled = interruption::flag()?;
    let watch = ui.watch(output);
    let work = Work { policy, observer: &watch, cancelled: &cancelled };
    let made = libvirt.create(&new, &work)?;
    watch.finish();
    printing::made(ui, &made, output)
}

/// Returns the version of the header that the volume will have.
pub(super) fn version(document: &Volume) -> Version {
    match &document.target.encryption {
        Some(encryption) if encryption.format == EncryptionFormat::Luks2 => Version::Luks2,
        _ => Version::Luks1,
    }
}
