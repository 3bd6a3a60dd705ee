//! `strongroom libvirt secret-dumpxml`

use clap::Args;
use strongroom_crypto::CostPolicy;

use super::place::DataArgs;
use super::printing;
use super::secret_name::SecretArgs;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Print the document of a secret
#[derive(Debug, Args)]
pub(crate) struct DumpxmlArgs {
    #[command(flatten)]
    secret: SecretArgs,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Prints it.
///
/// # Errors
///
/// When there is no such secret.
pub(crate) fn run(ui: &mut Ui, args: &DumpxmlArgs) -> Result<(), CommandError> {
    let entry = args.data.open(CostPolicy::default())?.secret(&args.secret.name()?)?;
    match args.output.output() {
        Output::Json => ui.json(&printing::secret(&entry)),
        Output::Text => ui.data(entry.secret.write().trim_end()),
    }
}
