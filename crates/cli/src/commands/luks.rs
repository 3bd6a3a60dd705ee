//! `strongroom luks …`

mod add_key;
mod change_key;
mod config;
mod convert;
mod dump;
mod erase;
mod header_backup;
mod header_restore;
mod remove_key;
mod repair;
mod test_key;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use strongroom::Device;
use strongroom::keys::KeyslotRequest;
use strongroom_crypto::CostPolicy;
use strongroom_disk::Access;
use strongroom_luks::luks2;

use super::done;
use crate::arguments::DerivationArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// What can be done with LUKS headers.
#[derive(Debug, Subcommand)]
pub(crate) enum LuksCommand {
    /// Add a passphrase
    AddKey(add_key::AddKeyArgs),

    /// Replace a passphrase by another
    ChangeKey(change_key::ChangeKeyArgs),

    /// Change label, subsystem or a keyslot's priority (LUKS2)
    Config(config::ConfigArgs),

    /// Convert the header to another LUKS version in place
    Convert(convert::ConvertArgs),

    /// Show everything that the header says
    Dump(dump::DumpArgs),

    /// Destroy all keyslots: nobody opens the volume again without a header backup
    Erase(erase::EraseArgs),

    /// Save header and keyslots to a file
    HeaderBackup(header_backup::HeaderBackupArgs),

    /// Restore header and keyslots from a file
    HeaderRestore(header_restore::HeaderRestoreArgs),

    /// Remove a passphrase
    RemoveKey(remove_key::RemoveKeyArgs),

    /// Repair a damaged header
    Repair(repair::RepairArgs),

    /// Tell whether a passphrase opens the volume, and which keyslot
    TestKey(test_key::TestKeyArgs),

    /// Work on tokens (LUKS2)
    #[command(subcommand)]
    Token(token::TokenCommand),
}

impl LuksCommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<ExitCode, CommandError> {
        done(match self {
            Self::AddKey(args) => add_key::run(ui, &args),
            Self::ChangeKey(args) => change_key::run(ui, &args),
            Self::Config(args) => config::run(ui, &args),
            Self::Convert(args) => convert::run(ui, &args),
            Self::Dump(args) => dump::run(ui, &args),
            Self::Erase(args) => erase::run(ui, &args),
            Self::HeaderBackup(args) => header_backup::run(ui, &args),
            Self::HeaderRestore(args) => header_restore::run(ui, &args),
            Self::RemoveKey(args) => remove_key::run(ui, &args),
            Self::Repair(args) => repair::run(ui, &args),
            Self::TestKey(args) => test_key::run(ui, &args),
            Self::Token(command) => command.run(ui),
        })
    }
}

/// The device that a command works on
#[derive(Debug, Args)]
struct DeviceArgs {
    /// The file or device with the header
    device: PathBuf,
}

impl DeviceArgs {
    fn read(&self) -> Result<Device, CommandError> {
        Ok(Device::open(&self.device, None, Access::ReadOnly)?)
    }

    fn write(&self) -> Result<Device, CommandError> {
        Ok(Device::open(&self.device, None, Access::ReadWrite)?)
    }

    fn label(&self) -> String {
        self.device.display().to_string()
    }
}

/// Says what was done to a device.
fn report(
    ui: &mut Ui,
    output: Output,
    device: &DeviceArgs,
    words: &str,
    mut object: Value,
) -> Result<(), CommandError> {
    match output {
        Output::Json => {
            object["device"] = json!(device.label());
            ui.json(&object)
        }
        Output::Text => {
            ui.status(&format!("{}: {words}", device.label()));
            Ok(())
        }
    }
}

/// The new keyslot
#[derive(Debug, Args)]
struct KeyslotArgs {
    /// When the keyslot is tried (LUKS2)
    #[arg(long, value_enum)]
    priority: Option<PriorityName>,

    #[command(flatten)]
    derivation: DerivationArgs,
}

impl KeyslotArgs {
    /// Returns the request for a keyslot of this device's header.
    fn request(
        &self,
        device: &Device,
        id: Option<u32>,
        policy: &CostPolicy,
    ) -> Result<KeyslotRequest, CommandError> {
        let version = device.read_header()?.header.version();
        Ok(KeyslotRequest {
            id,
            kdf: self.derivation.kdf(version, policy)?,
            priority: self.priority.map(PriorityName::value),
        })
    }
}

/// When a keyslot is tried.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PriorityName {
    /// Only when it is named
    Ignore,
    /// With the others
    Normal,
    /// Before the others
    Prefer,
}

impl PriorityName {
    fn value(self) -> luks2::Priority {
        match self {
            Self::Ignore => luks2::Priority::Ignore,
            Self::Normal => luks2::Priority::Normal,
            Self::Prefer => luks2::Priority::Prefer,
        }
    }
}
