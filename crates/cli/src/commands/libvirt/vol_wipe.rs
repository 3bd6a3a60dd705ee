//! `strongroom libvirt vol-wipe`

use clap::{Args, ValueEnum};
use serde_json::json;
use strongroom::images::Work;
use strongroom::libvirt::Erasure;
use strongroom_crypto::CostPolicy;

use super::place::{DataArgs, VolumeArgs};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::interruption;
use crate::ui::{Output, Ui};

/// Destroy the keys of an encrypted volume, or overwrite a raw one
///
/// Nobody opens an encrypted volume after that, whatever secret or copy of a secret they have; only a copy of
/// its header would open it. The volume stays, and is deleted with vol-delete.
#[derive(Debug, Args)]
pub(crate) struct WipeArgs {
    #[command(flatten)]
    volume: VolumeArgs,

    /// How: by destroying the keys, or by writing zeros over what was written
    #[arg(long, default_value = "keys")]
    algorithm: Algorithm,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// How a volume is wiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    /// Destroy the keyslots of an encrypted volume
    Keys,
    /// Overwrite a raw volume with zeros
    Zero,
}

/// Wipes it.
///
/// # Errors
///
/// When it is not encrypted, or in use.
pub(crate) fn run(ui: &mut Ui, args: &WipeArgs) -> Result<(), CommandError> {
    let erasure = match args.algorithm {
        Algorithm::Keys => Erasure::Keys,
        Algorithm::Zero => Erasure::Zeros,
    };
    let policy = CostPolicy::default();
    let libvirt = args.data.open(policy)?;
    let output = args.output.output();
    let cancelled = interruption::flag()?;
    let watch = ui.watch(output);
    let work = Work { policy, observer: &watch, cancelled: &cancelled };
    let wiped = libvirt.wipe(&args.volume.name(), erasure, &work)?;
    watch.finish();
    match output {
        Output::Json => {
            ui.json(&json!({ "path": wiped.path, "generated_secret": wiped.generated }))
        }
        Output::Text => {
            ui.status(&match erasure {
                Erasure::Keys => format!("{}: its keys are destroyed", wiped.path),
                Erasure::Zeros => format!("{}: overwritten with zeros", wiped.path),
            });
            Ok(())
        }
    }
}
