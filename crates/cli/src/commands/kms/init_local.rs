//! `strongroom kms init-local`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom_kms::LocalKek;

use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Create a file with a new key, which wraps data keys on this machine
///
/// Whoever has the file opens what it has wrapped, and nobody opens it without: keep a copy elsewhere.
#[derive(Debug, Args)]
pub(crate) struct InitLocalArgs {
    /// The file to create; one that exists is never touched
    file: PathBuf,

    #[command(flatten)]
    output: OutputArgs,
}

/// Creates the file.
///
/// # Errors
///
/// When it exists, or cannot be written.
pub(crate) fn run(ui: &mut Ui, args: &InitLocalArgs) -> Result<(), CommandError> {
    let id = LocalKek::create(&args.file).map_err(strongroom::Error::from)?;
    let file = args.file.display();
    match args.output.output() {
        Output::Json => ui.json(&json!({ "file": file.to_string(), "key_id": id })),
        Output::Text => {
            ui.status(&format!("{file}: key {id} is made"));
            ui.hint(&format!(
                "name it with --kms local --kms-kek-file {file}; keep a copy elsewhere"
            ));
            Ok(())
        }
    }
}
