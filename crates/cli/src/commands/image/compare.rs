//! `strongroom image compare`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use strongroom::images::{self, Work};
use strongroom_clone::Comparison;

use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::interruption;
use crate::passphrases::{Given, PassphraseArgs};
use crate::ui::{Output, Ui};

/// Compare the contents of two images, encrypted or not
///
/// The passphrase opens whichever of them are encrypted, or A alone where B has one of its own. Ends with code 5 when they differ.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// One image
    a: PathBuf,

    /// The other image
    b: PathBuf,

    #[command(flatten)]
    passphrase: PassphraseArgs,

    /// Read the passphrase of the other image from this file, where it has one of its own
    #[arg(long, value_name = "FILE")]
    other_passphrase_file: Option<PathBuf>,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Compares the images.
///
/// # Errors
///
/// What went wrong; that they differ is no error.
pub(crate) fn run(ui: &mut Ui, args: &CompareArgs) -> Result<ExitCode, CommandError> {
    let given = args.passphrase.read_optional()?;
    let other = args.other_passphrase_file.as_deref().map(Given::from_file).transpose()?;
    let a = given.as_ref().map(|given| &given.passphrase);
    let b = other.as_ref().map(|given| &given.passphrase).or(a);
    let cancelled = interruption::flag()?;
    let output = args.output.output();
    let watch = ui.watch(output);
    let work = Work { policy: args.policy.policy(), observer: &watch, cancelled: &cancelled };
    let comparison = images::compare((&args.a, a), (&args.b, b), &work);
    watch.finish();
    let comparison = match (comparison, given) {
        (Err(error), Some(given)) => return Err(given.explain(error.into())),
        (comparison, _) => comparison?,
    };
    print(ui, comparison, output)?;
    Ok(match comparison {
        Comparison::Equal => ExitCode::SUCCESS,
        _ => ExitCode::from(DIFFERENT),
    })
}

fn print(ui: &mut Ui, comparison: Comparison, output: Output) -> Result<(), CommandError> {
    let (text, value) = match comparison {
        Comparison::Equal => ("the contents are equal".to_owned(), json!({ "equal": true })),
        Comparison::DifferentAt(offset) => (
            format!("the contents differ, first at byte {offset}"),
            json!({ "equal": false, "first_difference": offset }),
        ),
        Comparison::DifferentLength { left, right } => (
            format!("the contents differ in length: {left} and {right} bytes"),
            json!({ "equal": false, "lengths": [left, right] }),
        ),
    };
    match output {
        Output::Text => ui.data(&text),
        Output::Json => ui.json(&value),
    }
}

const DIFFERENT: u8 = 5;
