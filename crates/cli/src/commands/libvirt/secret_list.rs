//! `strongroom libvirt secret-list`

use clap::Args;
use strongroom_crypto::CostPolicy;

use super::place::DataArgs;
use super::printing;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::commands::volume::table;
use crate::ui::{Output, Ui};

/// List the secrets
///
/// Values are never shown.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Lists them.
///
/// # Errors
///
/// When they cannot be read.
pub(crate) fn run(ui: &mut Ui, args: &ListArgs) -> Result<(), CommandError> {
    let secrets = args.data.open(CostPolicy::default())?.secrets()?;
    if args.output.output() == Output::Json {
        return ui.json(&secrets.iter().map(printing::secret).collect());
    }
    if secrets.is_empty() {
        ui.status("there are no secrets");
        return Ok(());
    }
    let mut rows = vec![["UUID", "USAGE", "VALUE"].map(str::to_owned)];
    rows.extend(secrets.iter().map(|entry| {
        let (kind, id) = printing::usage(&entry.secret);
        let value = if entry.has_value { "set" } else { "none" };
        [entry.uuid.clone(), format!("{kind} {id}").trim_end().to_owned(), value.to_owned()]
    }));
    table(ui, &rows)
}
