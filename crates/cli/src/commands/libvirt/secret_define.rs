//! `strongroom libvirt secret-define`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom::libvirt::Force;
use strongroom_crypto::CostPolicy;
use strongroom_model::dialect::libvirt::Secret;

use super::place::DataArgs;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::passphrases::read_file;
use crate::ui::{Output, Ui};

/// Define a secret, or change its definition; prints its UUID
///
/// The value stays as it is. What a secret is for does not change, and one that is private stays so.
#[derive(Debug, Args)]
pub(crate) struct DefineArgs {
    /// The document, - for standard input
    #[arg(value_name = "SECRET.xml")]
    file: PathBuf,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Defines it.
///
/// # Errors
///
/// When the document is none of a secret, or contradicts what is defined.
pub(crate) fn run(ui: &mut Ui, args: &DefineArgs) -> Result<(), CommandError> {
    let (secret, notes) = Secret::read_with_notes(&read_file(&args.file)?)?;
    notes.iter().for_each(|note| ui.warning(note));
    let uuid = args.data.open(CostPolicy::default())?.define_secret(&secret, Force::No)?;
    match args.output.output() {
        Output::Json => ui.json(&json!({ "uuid": uuid })),
        Output::Text => ui.data(&uuid),
    }
}
