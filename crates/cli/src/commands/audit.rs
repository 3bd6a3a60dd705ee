//! `strongroom audit …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom::ErrorKind;
use strongroom::audit::{Audit, Verified};
use strongroom::catalog::SqliteCatalog;

use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::commands::serve::data_directory;
use crate::ui::{Output, Ui};

/// What can be done with the audit log of a server.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that the log is as it was written: nothing changed, taken out, put in or cut off
    Verify(VerifyArgs),
}

/// Which log
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The log alone. Without its server's catalog nobody knows whether its end was cut off
    #[arg(conflicts_with = "data")]
    file: Option<PathBuf>,

    /// The directory of the server, with its log and its catalog [env: STRONGROOM_DATA] [default:
    /// /var/lib/strongroom for root, else $XDG_DATA_HOME/strongroom]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

impl AuditCommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What is wrong with the log.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<(), CommandError> {
        let Self::Verify(args) = self;
        let (verified, end) = verify(&args)?;
        match args.output.output() {
            Output::Json => ui.json(&json!({
                "entries": verified.entries,
                "head": verified.head,
                "end_verified": end == End::Known,
            })),
            Output::Text => {
                let entries = match verified.entries {
                    1 => "1 entry".to_owned(),
                    entries => format!("{entries} entries"),
                };
                ui.status(&format!("the log is as it was written: {entries}"));
                ui.status(&format!("the last one has the hash {}", verified.head));
                if end == End::Unknown {
                    ui.hint(
                        "whether its end was cut off is told by --data DIR, which has the catalog",
                    );
                }
                Ok(())
            }
        }
    }
}

/// Whether it is known where a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Known,
    Unknown,
}

fn verify(args: &VerifyArgs) -> Result<(Verified, End), CommandError> {
    if let Some(file) = &args.file {
        return Ok((Audit::verify(file, None)?, End::Unknown));
    }
    let data = data_directory(args.data.as_deref())?;
    let catalog = data.join("pool/catalog.sqlite");
    // Opening would make it.
    if !catalog.is_file() {
        let problem = format!("there is no catalog {}", catalog.display());
        return Err(CommandError::of_kind(ErrorKind::NotFound, problem)
            .hinted("name the directory of the server with --data DIR, or the log itself"));
    }
    let catalog = SqliteCatalog::open(&catalog).map_err(strongroom::Error::from)?;
    Ok((Audit::verify(&data.join("audit.log"), Some(&catalog))?, End::Known))
}
