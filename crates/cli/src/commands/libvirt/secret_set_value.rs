//! `strongroom libvirt secret-set-value`

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use strongroom::libvirt::{Force, ValueNote, value_of_base64};
use strongroom_crypto::{CostPolicy, Passphrase};
use strongroom_model::dialect::libvirt::SecretName;

use super::place::DataArgs;
use super::secret_name::SecretArgs;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::passphrases::read_file;
use crate::ui::{Output, Ui};

/// Give a secret its value
///
/// The value is the exact bytes, a final newline included. It replaces the one that the secret has, but for
/// one that volumes need: they would not open with the new one.
#[derive(Debug, Args)]
pub(crate) struct SetValueArgs {
    #[command(flatten)]
    secret: SecretArgs,

    #[command(flatten)]
    value: ValueArgs,

    /// What is read is the base64 of the value
    #[arg(long)]
    base64: bool,

    /// Do it though the value that it has is needed, and lost by that
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Where the value comes from
#[derive(Debug, Args)]
#[group(id = "value", required = true, multiple = false)]
struct ValueArgs {
    /// Read the value from this file, `-` for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Read the value from this open file descriptor
    #[arg(long, value_name = "N")]
    fd: Option<u32>,

    /// Read the value from the environment variable of this name
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
}

/// Keeps the value.
///
/// # Errors
///
/// When it cannot be read, there is no such secret, or volumes need the value that it has.
pub(crate) fn run(ui: &mut Ui, args: &SetValueArgs) -> Result<(), CommandError> {
    let name = args.secret.name()?;
    let read = args.value.read()?;
    let value = if args.base64 { value_of_base64(read.expose_bytes())? } else { read };
    let force = if args.force { Force::Yes } else { Force::No };
    let libvirt = args.data.open(CostPolicy::default())?;
    let notes = libvirt.set_secret_value(&name, &value, force)?;
    for note in &notes {
        ui.warning(words(*note));
        if *note == ValueNote::NotText {
            ui.hint("encode it first, in base64 for instance, and let that be the value");
        }
    }
    match args.output.output() {
        Output::Json => ui.json(&json!({
            "uuid": uuid_of(&name),
            "warnings": notes.iter().map(|note| words(*note)).collect::<Vec<_>>(),
        })),
        Output::Text => {
            ui.status("the secret has its value");
            Ok(())
        }
    }
}

fn words(note: ValueNote) -> &'static str {
    match note {
        ValueNote::Empty => "the value is empty: it keeps nobody out",
        ValueNote::NotText => {
            "QEMU takes none but text without a zero byte, so it cannot open volumes with this value"
        }
        ValueNote::EndsWithNewline => "the value ends with a newline, which is a part of it",
    }
}

fn uuid_of(name: &SecretName) -> Option<&str> {
    match name {
        SecretName::Uuid(uuid) => Some(uuid),
        SecretName::Usage(_) => None,
    }
}

impl ValueArgs {
    fn read(&self) -> Result<Passphrase, CommandError> {
        let mut bytes = match (&self.file, self.fd, &self.env) {
            (Some(path), ..) => read_file(path)?,
            (None, Some(number), _) => read_file(Path::new(&format!("/dev/fd/{number}")))?,
            (None, None, name) => {
                let name = name.as_deref().unwrap_or_default();
                let value = std::env::var_os(name).ok_or_else(|| {
                    CommandError::request(format!("there is no environment variable {name}"))
                })?;
                return Ok(Passphrase::new(value.into_vec()));
            }
        };
        Ok(Passphrase::new(std::mem::take(&mut *bytes)))
    }
}
