//! `strongroom image check`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use strongroom::{Error, qcow2_image};
use strongroom_disk::qcow2::{Repair, Report, Severity};
use strongroom_model::ImageFormat;

use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{self, Output, Ui};

/// Find out what is wrong with a qcow2 image, encrypted or not
///
/// References between clusters are compared with the counts of them. No passphrase is needed, and
/// files that the image names are not looked at. The exit code is 9 when space is lost only (leaks),
/// 10 when data may get lost (corruptions); after a repair it is about what is left. For LUKS
/// volumes there is `strongroom luks repair`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The image
    file: PathBuf,

    /// Format of the image: qcow2 or qcow2-luks; nothing else can be checked
    #[arg(long, value_name = "FORMAT")]
    source_format: Option<ImageFormat>,

    /// Repair the image: only leaks, which is always safe, or all; nobody else may be using it
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "all")]
    repair: Option<Scope>,

    #[command(flatten)]
    output: OutputArgs,
}

/// What is repaired.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scope {
    /// Clusters that nobody refers to are freed, if nothing else is wrong
    Leaks,
    /// Reference counts are made anew
    All,
}

/// Checks the image and prints what was found.
///
/// # Errors
///
/// When it cannot be checked at all.
pub(crate) fn run(ui: &mut Ui, args: &CheckArgs) -> Result<ExitCode, CommandError> {
    if let Some(format) = args.source_format.filter(|format| !format.is_qcow2()) {
        return Err(CommandError::request(format!("{format} images have nothing to check"))
            .hinted("LUKS headers are looked after by `strongroom luks repair`"));
    }
    let repair = match args.repair {
        None => Repair::Nothing,
        Some(Scope::Leaks) => Repair::Leaks,
        Some(Scope::All) => Repair::Everything,
    };
    let report = match qcow2_image::check(&args.file, repair) {
        Err(Error::SourceFormat { label, found, .. }) if found.contains("LUKS") => {
            return Err(CommandError::request(format!(
                "{label} is {found}, and only qcow2 images can be checked"
            ))
            .hinted("LUKS headers are looked after by `strongroom luks repair`"));
        }
        // The hint for a damaged image is this command.
        Err(error @ Error::Disk(_)) => return Err(CommandError::from(error).unhinted()),
        report => report?,
    };
    match args.output.output() {
        Output::Json => ui.json(&object(&report, &args.file.display().to_string()))?,
        Output::Text => print(ui, &report)?,
    }
    Ok(ExitCode::from(match (report.corruptions, report.leaks) {
        (0, 0) => 0,
        (0, _) => LEAKS,
        _ => CORRUPTIONS,
    }))
}

fn print(ui: &mut Ui, report: &Report) -> Result<(), CommandError> {
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Corruption => "corruption",
            Severity::Leak => "leak",
        };
        ui.data(&format!("{severity}: {}", finding.text))?;
    }
    let told = report.findings.len() as u64;
    let untold = (report.corruptions + report.leaks).saturating_sub(told);
    if untold > 0 {
        ui.data(&format!("and {untold} more"))?;
    }
    let repaired = report.corruptions_fixed + report.leaks_fixed;
    if repaired > 0 {
        ui.data(&format!(
            "repaired: {} corruptions, {} leaks",
            report.corruptions_fixed, report.leaks_fixed
        ))?;
    }
    ui.data(&match (report.corruptions, report.leaks) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, leaks) => format!("{leaks} clusters are lost space; the data is whole"),
        (corruptions, leaks) => {
            format!("{corruptions} corruptions, and {leaks} clusters of lost space")
        }
    })?;
    ui.data(&format!(
        "{} of {} clusters have data, {} of them compressed; the last one in use ends at {}",
        report.allocated_clusters,
        report.total_clusters,
        report.compressed_clusters,
        ui::bytes(report.image_end)
    ))
}

fn object(report: &Report, file: &str) -> Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            let severity = match finding.severity {
                Severity::Corruption => "corruption",
                Severity::Leak => "leak",
            };
            json!({ "severity": severity, "text": finding.text })
        })
        .collect();
    json!({
        "file": file,
        "format": "qcow2",
        "corruptions": report.corruptions,
        "leaks": report.leaks,
        "corruptions_fixed": report.corruptions_fixed,
        "leaks_fixed": report.leaks_fixed,
        "total_clusters": report.total_clusters,
        "allocated_clusters": report.allocated_clusters,
        "compressed_clusters": report.compressed_clusters,
        "image_end": report.image_end,
        "findings": findings,
    })
}

const LEAKS: u8 = 9;
const CORRUPTIONS: u8 = 10;
