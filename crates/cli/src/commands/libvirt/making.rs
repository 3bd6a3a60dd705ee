//! Making a volume by its document, whatever it is made of.

use clap::Args;
use strongroom::images::Work;
use strongroom::libvirt::{Libvirt, Made, NewVolume};
use strongroom_luks::Version;
use strongroom_model::dialect::libvirt::{EncryptionFormat, Volume};

use super::connection::ConnectionArgs;
use super::place::{DataArgs, DocumentArgs};
use super::printing;
use crate::arguments::{DerivationArgs, OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::interruption;
use crate::ui::Ui;

/// What is said of a volume that is to be made.
#[derive(Debug, Args)]
pub(super) struct MakingArgs {
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

impl MakingArgs {
    /// Makes the volume in the way that `make` does, and prints its document.
    ///
    /// # Errors
    ///
    /// What went wrong; nothing is left behind then.
    pub(super) fn run(
        &self,
        ui: &mut Ui,
        make: impl FnOnce(&Libvirt, &NewVolume<'_>, &Work<'_>) -> strongroom::Result<Made>,
    ) -> Result<(), CommandError> {
        let policy = self.policy.policy();
        let document = self.document.read(ui)?;
        let derivation = self.derivation.settled(version(&document), &policy)?;
        let pool = self.document.pool.as_deref();
        let new = NewVolume { document: &document, pool, derivation, job: None };
        let libvirt = self.connection.values_for(self.data.open(policy)?)?;
        let output = self.output.output();
        let cancelled = interruption::flag()?;
        let watch = ui.watch(output);
        let work = Work { policy, observer: &watch, cancelled: &cancelled };
        let made = make(&libvirt, &new, &work)?;
        watch.finish();
        printing::made(ui, &made, output)
    }
}

/// Returns the version of the header that the volume will have.
fn version(document: &Volume) -> Version {
    match &document.target.encryption {
        Some(encryption) if encryption.format == EncryptionFormat::Luks2 => Version::Luks2,
        _ => Version::Luks1,
    }
}
