//! `strongroom image compare`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use strongroom::images::{self, Side, Work};
use strongroom::{ManagedKey, Opener};
use strongroom_clone::Comparison;
use strongroom_model::ImageFormat;

use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::interruption;
use crate::key_arguments::{self, KeyArgs};
use crate::kms_arguments::{KmsArgs, Other};
use crate::passphrases::Source;
use crate::ui::{Output, Ui};

/// Compare the contents of two images, encrypted or not
///
/// The passphrase or KMS opens whichever of them are encrypted, or A alone where B has one of its
/// own. Ends with code 5 when they differ.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// One image
    a: PathBuf,

    /// The other image
    b: PathBuf,

    #[command(flatten)]
    key: KeyArgs,

    /// Format of the one image: raw, qcow2, luks1, luks2 or qcow2-luks [default: as its name and
    /// header say]
    #[arg(long, value_name = "FORMAT")]
    source_format: Option<ImageFormat>,

    /// Format of the other image
    #[arg(long, value_name = "FORMAT")]
    other_format: Option<ImageFormat>,

    /// The detached header of the one image
    #[arg(long, value_name = "FILE")]
    header: Option<PathBuf>,

    /// The detached header of the other image
    #[arg(long, value_name = "FILE")]
    other_header: Option<PathBuf>,

    /// Read backing and data files that qcow2 images name, if they lie in this directory; may be
    /// repeated
    #[arg(long, value_name = "DIR")]
    backing_from: Vec<PathBuf>,

    /// Read the passphrase of the other image from this file, where it has one of its own
    #[arg(long, value_name = "FILE")]
    other_passphrase_file: Option<PathBuf>,

    #[command(flatten)]
    other_kms: KmsArgs<Other>,

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
    let given = args.key.read_optional(&args.policy.policy())?;
    let other = args.other_passphrase_file.as_deref().map(Source::File);
    let a = given.as_ref().map(|given| given.opener.opener());
    // The same KMS may open both, each by an envelope of its own.
    let envelope = match (a, other, args.other_kms.name_one()) {
        (Some(Opener::Kms(_)), None, false) => args.other_kms.read_envelope()?,
        _ => None,
    };
    let other = match &envelope {
        Some(_) => None,
        None => key_arguments::opener(other, &args.other_kms, &args.policy.policy())?,
    };
    let b = match (a, &envelope, &other) {
        (_, _, Some(other)) => Some(other.opener.opener()),
        (Some(Opener::Kms(key)), Some(envelope), None) => {
            Some(Opener::Kms(ManagedKey { envelope: Some(envelope), ..key }))
        }
        (a, ..) => a,
    };
    let cancelled = interruption::flag()?;
    let output = args.output.output();
    let watch = ui.watch(output);
    let work = Work { policy: args.policy.policy(), observer: &watch, cancelled: &cancelled };
    let one = Side {
        path: &args.a,
        format: args.source_format,
        header: args.header.as_deref(),
        opener: a,
    };
    let two = Side {
        path: &args.b,
        format: args.other_format,
        header: args.other_header.as_deref(),
        opener: b,
    };
    let advice = given.as_ref().map(|given| given.advice);
    let explain = |error: strongroom::Error| match advice {
        Some(advice) => advice.explain(error.into()),
        None => error.into(),
    };
    let open = |side| images::open(side, &args.backing_from, &work).map_err(explain);
    let (one, two) = (open(one)?, open(two)?);
    // Whoever looks into the memory from now on finds nothing that opens an image.
    drop((given, other));
    let comparison = images::compare(&one, &two, &work)?;
    watch.finish();
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
