//! `strongroom image resize`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom::Error;
use strongroom::image_size::{self, ResizeRequest, SizeChange};
use strongroom_disk::qcow2::Shrinking;
use strongroom_model::ImageFormat;

use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::key_arguments::{Advice, KeyArgs};
use crate::sizes::size_change;
use crate::ui::{self, Output, Ui};

/// Make the disk in an image longer, by zeros, or shorter
///
/// File systems and partitions on the disk stay as they are: make them smaller before, and larger
/// after. A LUKS volume in a raw file needs its passphrase to become longer, since the zeros at its
/// end are encrypted and written; in qcow2 they take no space. A command that was interrupted can
/// be given again.
#[derive(Debug, Args)]
pub(crate) struct ResizeArgs {
    /// The image
    file: PathBuf,

    /// The new size, or with + or - by how much it changes; K, M, G, T and P are powers of 1024
    #[arg(value_parser = size_change, allow_hyphen_values = true)]
    size: SizeChange,

    /// Let the image become shorter; what lies at its end is lost for ever
    #[arg(long)]
    shrink: bool,

    /// Format of the image: raw, qcow2, luks1, luks2 or qcow2-luks [default: qcow2 for a name that
    /// ends in .qcow2, LUKS for .luks, else raw]
    #[arg(long, value_name = "FORMAT")]
    source_format: Option<ImageFormat>,

    /// Read backing files that a qcow2 image names, if they lie in this folder; may be repeated
    #[arg(long, value_name = "FOLDER")]
    backing_from: Vec<PathBuf>,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Changes the size.
///
/// # Errors
///
/// When the image stays as it is, and why.
pub(crate) fn run(ui: &mut Ui, args: &ResizeArgs) -> Result<(), CommandError> {
    let given = args.key.read_optional(&args.policy.policy())?;
    let request = ResizeRequest {
        path: args.file.clone(),
        format: args.source_format,
        size: args.size,
        shrinking: if args.shrink { Shrinking::Allow } else { Shrinking::Refuse },
        backing_from: args.backing_from.clone(),
    };
    let advice = given.as_ref().map(|given| given.advice);
    let opener = given.map(|given| given.opener);
    let resized = match image_size::resize(&request, opener, &args.policy.policy()) {
        Ok(resized) => resized,
        Err(error) => return Err(explain(error, advice)),
    };
    let file = args.file.display().to_string();
    match args.output.output() {
        Output::Json => {
            ui.json(&json!({ "file": file, "bytes_before": resized.from, "bytes": resized.to }))
        }
        Output::Text => {
            let (from, to) = (ui::bytes(resized.from), ui::bytes(resized.to));
            ui.status(&format!("{file}: {from} before, {to} now"));
            Ok(())
        }
    }
}

fn explain(error: Error, advice: Option<Advice>) -> CommandError {
    let is_full =
        matches!(&error, Error::Disk(error) if error.kind() == strongroom_disk::ErrorKind::NoSpace);
    let error = CommandError::from(error);
    match advice {
        _ if is_full => error.unhinted().hinted("free some space, and give the command again"),
        Some(advice) => advice.explain(error),
        None => error,
    }
}
