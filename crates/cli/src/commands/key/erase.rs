//! `strongroom key erase`

use clap::Args;
use serde_json::json;
use strongroom::managed::ManagedVolume;
use strongroom_crypto::CostPolicy;

use super::{FileArgs, report};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Destroy all keyslots and envelopes: nobody opens the image again without a header backup
#[derive(Debug, Args)]
pub(crate) struct EraseArgs {
    #[command(flatten)]
    file: FileArgs,

    /// Say that this is meant
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// Destroys the keyslots.
///
/// # Errors
///
/// When it was not said to be meant, or the header may not be changed.
pub(crate) fn run(ui: &mut Ui, args: &EraseArgs) -> Result<(), CommandError> {
    if !args.force {
        let problem = format!("this destroys all data of {}", args.file.label());
        return Err(CommandError::request(problem).hinted(
            "save the header first with `strongroom luks header-backup`; --force goes on",
        ));
    }
    let device = args.file.write()?;
    ManagedVolume::new(&device, None, &CostPolicy::default()).erase()?;
    let words = "all keyslots are wiped, and all envelopes are gone";
    report(ui, args.output.output(), &args.file, words, json!({ "erased": true }))
}
