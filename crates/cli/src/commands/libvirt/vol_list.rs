//! `strongroom libvirt vol-list`

use std::path::PathBuf;

use clap::Args;
use strongroom_crypto::CostPolicy;

use super::place::DataArgs;
use super::printing;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::commands::volume::table;
use crate::ui::{Output, Ui, short_bytes};

/// List the volumes
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Those in this directory alone
    #[arg(long, value_name = "DIR")]
    pool: Option<PathBuf>,

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
    let volumes = args.data.open(CostPolicy::default())?.volumes(args.pool.as_deref())?;
    if args.output.output() == Output::Json {
        return ui.json(&volumes.iter().map(printing::volume).collect());
    }
    if volumes.is_empty() {
        ui.status("there are no volumes");
        return Ok(());
    }
    let mut rows = vec![["NAME", "FORMAT", "CAPACITY", "ALLOCATION", "PATH"].map(str::to_owned)];
    rows.extend(volumes.iter().map(|entry| {
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), short_bytes);
        let format = match entry.is_wiped {
            true => format!("{} (wiped)", entry.format),
            false => entry.format.to_string(),
        };
        [
            entry.name.clone(),
            format,
            size(entry.facts.map(|facts| facts.capacity)),
            size(entry.facts.map(|facts| facts.allocation)),
            entry.path.clone(),
        ]
    }));
    table(ui, &rows)
}
