//! `strongroom volume rekey`

use clap::Args;
use strongroom_model::VolumeId;

use super::pool::PoolArgs;
use super::{description, report_done};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::key_arguments::{KeyArgs, NewKeyArgs};
use crate::ui::Ui;

/// Let another key open a volume, and no other one; its data stays as it is
///
/// The new keyslot comes first and is tried, the others go last: a volume that was interrupted opens, and
/// the command goes on when it is given again. The saved copy of the header is replaced. Whoever kept the
/// old key and a copy of the old header still opens the volume: `strongroom volume clone --reencrypt`
/// makes one that they do not open.
#[derive(Debug, Args)]
pub(crate) struct RekeyArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The volume
    name: VolumeId,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    new_key: NewKeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Changes the key.
///
/// # Errors
///
/// When the volume does not open, or a header cannot be written.
pub(crate) fn run(ui: &mut Ui, args: &RekeyArgs) -> Result<(), CommandError> {
    let policy = args.policy.policy();
    let volumes = args.pool.open(policy)?;
    let volume = volumes.volume(&args.name)?;
    let from = args.key.read_for_volume(&volume.encryption, &policy)?;
    let from = from.ok_or_else(|| no_key(&volume))?;
    let (to, encryption) =
        args.new_key.read_for_volume(&policy)?.ok_or_else(NewKeyArgs::missing)?;
    let rekeyed = volumes
        .rekey(&args.name, from.opener(), to.opener(), &encryption)
        .map_err(|error| from.advice.explain(error.into()))?;
    let words = format!(
        "volume {}: only the new key opens it ({})",
        args.name,
        description::encryption(&rekeyed.encryption)
    );
    report_done(ui, args.output.output(), &words, &description::value(&rekeyed))
}

/// Returns the error about a volume for which no key was given.
pub(super) fn no_key(volume: &strongroom::volumes::Volume) -> CommandError {
    use strongroom::volumes::{VolumeEncryption, VolumeProblem};
    let problem = match volume.encryption {
        VolumeEncryption::None => {
            VolumeProblem::OtherKey { is: "not encrypted", given: "another key" }
        }
        VolumeEncryption::Passphrase => VolumeProblem::NoKey { missing: "passphrase" },
        VolumeEncryption::Kms(_) => VolumeProblem::NoKey { missing: "key management system" },
    };
    strongroom::Error::Volume { id: volume.id.to_string(), problem: Box::new(problem) }.into()
}
