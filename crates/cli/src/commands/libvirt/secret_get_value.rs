//! `strongroom libvirt secret-get-value`

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom_crypto::CostPolicy;

use super::place::DataArgs;
use super::secret_name::SecretArgs;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Write the value of a secret to a new file, for `virsh secret-set-value --file`
///
/// The file holds the exact bytes, which only its owner can read. The value of a private secret is told to
/// nobody.
#[derive(Debug, Args)]
pub(crate) struct GetValueArgs {
    #[command(flatten)]
    secret: SecretArgs,

    /// The file to make; it must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Writes it.
///
/// # Errors
///
/// When the secret is private, has no value, or the file is there.
pub(crate) fn run(ui: &mut Ui, args: &GetValueArgs) -> Result<(), CommandError> {
    let value = args.data.open(CostPolicy::default())?.secret_value(&args.secret.name()?)?;
    let file = args.out.display().to_string();
    let failed = |source| CommandError::io(format!("cannot write {file}"), source);
    let mut options = OpenOptions::new();
    let mut out =
        options.write(true).create_new(true).mode(0o600).open(&args.out).map_err(failed)?;
    let written = out.write_all(value.expose_bytes()).and_then(|()| out.sync_all());
    if let Err(error) = written {
        // A part of a value opens nothing.
        let _ = std::fs::remove_file(&args.out);
        return Err(failed(error));
    }
    match args.output.output() {
        Output::Json => ui.json(&json!({ "file": file })),
        Output::Text => {
            ui.status(&format!("the value is in {file}: remove it when it has served its purpose"));
            Ok(())
        }
    }
}
