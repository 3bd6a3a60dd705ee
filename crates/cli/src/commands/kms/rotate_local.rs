//! `strongroom kms rotate-local`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom_kms::LocalKek;

use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Add a new version to the key in a file
///
/// Older versions stay, so that everything opens as before. `strongroom key rewrap` brings envelopes to
/// the new one.
#[derive(Debug, Args)]
pub(crate) struct RotateLocalArgs {
    /// The file of the key
    file: PathBuf,

    #[command(flatten)]
    output: OutputArgs,
}

/// Adds the version.
///
/// # Errors
///
/// When the file cannot be read or written.
pub(crate) fn run(ui: &mut Ui, args: &RotateLocalArgs) -> Result<(), CommandError> {
    let version = LocalKek::rotate(&args.file).map_err(strongroom::Error::from)?;
    let file = args.file.display();
    match args.output.output() {
        Output::Json => ui.json(&json!({ "file": file.to_string(), "key_version": version })),
        Output::Text => {
            ui.status(&format!("{file}: version {version} of the key is made"));
            ui.hint("bring the images to it: strongroom key rewrap FILE…");
            Ok(())
        }
    }
}
