//! `strongroom key …`

mod add_recovery;
mod erase;
mod move_to;
mod recover;
mod remove_recovery;
mod revoke;
mod rewrap;
mod rotate;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom::Device;
use strongroom_crypto::CostPolicy;
use strongroom_disk::Access;
use strongroom_kms::KeyProvider;

use super::{done, envelope};
use crate::command_error::CommandError;
use crate::key_arguments;
use crate::kms_arguments::{KmsArgs, Own};
use crate::passphrases::PassphraseArgs;
use crate::ui::{Output, Ui};

/// What can be done with keys that a KMS manages.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Add a recovery passphrase beside the KMS
    AddRecovery(add_recovery::AddRecoveryArgs),

    /// Destroy all keyslots and envelopes: nobody opens the image again without a header backup
    Erase(erase::EraseArgs),

    /// Move an image to another KMS, or to another key of the same; it gets another data key
    Move(Box<move_to::MoveArgs>),

    /// Prove that the KMS opens an image, and put a lost envelope back where it belongs
    Recover(recover::RecoverArgs),

    /// Remove a recovery passphrase
    RemoveRecovery(remove_recovery::RemoveRecoveryArgs),

    /// Take an image from its KMS; a passphrase must open it
    Revoke(revoke::RevokeArgs),

    /// Wrap data keys under the newest version of the key in the KMS; no data and no keyslot changes
    Rewrap(rewrap::RewrapArgs),

    /// Give an image another data key; its data stays as it is
    Rotate(rotate::RotateArgs),

    /// Show which KMS opens an image, and what its keyslots are for
    Show(show::ShowArgs),
}

impl KeyCommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<ExitCode, CommandError> {
        match self {
            Self::AddRecovery(args) => done(add_recovery::run(ui, &args)),
            Self::Erase(args) => done(erase::run(ui, &args)),
            Self::Move(args) => done(move_to::run(ui, &args)),
            Self::Recover(args) => done(recover::run(ui, &args)),
            Self::RemoveRecovery(args) => done(remove_recovery::run(ui, &args)),
            Self::Revoke(args) => done(revoke::run(ui, &args)),
            Self::Rewrap(args) => rewrap::run(ui, &args),
            Self::Rotate(args) => done(rotate::run(ui, &args)),
            Self::Show(args) => done(show::run(ui, &args)),
        }
    }
}

/// The image that a command works on
#[derive(Debug, Args)]
struct FileArgs {
    /// The image or device, or its detached header
    file: PathBuf,
}

/// The KMS that has wrapped the key, and where the envelope lies besides the header
#[derive(Debug, Args)]
struct ManagedArgs {
    #[command(flatten)]
    passphrase: PassphraseArgs,

    #[command(flatten)]
    kms: KmsArgs<Own>,
}

impl FileArgs {
    fn read(&self) -> Result<Device, CommandError> {
        Ok(Device::open(&self.file, None, Access::ReadOnly)?)
    }

    fn write(&self) -> Result<Device, CommandError> {
        Ok(Device::open(&self.file, None, Access::ReadWrite)?)
    }

    fn label(&self) -> String {
        self.file.display().to_string()
    }
}

impl ManagedArgs {
    /// Returns the KMS.
    fn provider(&self, policy: &CostPolicy) -> Result<Box<dyn KeyProvider>, CommandError> {
        key_arguments::provider(self.passphrase.source(), &self.kms, policy)
    }

    /// Returns the file of the envelope, when one was named.
    fn record(&self) -> Option<&Path> {
        self.kms.envelope_file()
    }
}

/// Says what was done to an image.
fn report(
    ui: &mut Ui,
    output: Output,
    file: &FileArgs,
    words: &str,
    mut object: Value,
) -> Result<(), CommandError> {
    match output {
        Output::Json => {
            object["file"] = json!(file.label());
            ui.json(&object)
        }
        Output::Text => {
            ui.status(&format!("{}: {words}", file.label()));
            Ok(())
        }
    }
}

/// Returns numbers as people read them.
fn numbers(ids: &[u32]) -> String {
    if ids.is_empty() {
        return "none".to_owned();
    }
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
