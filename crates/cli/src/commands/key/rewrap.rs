//! `strongroom key rewrap`

mod files;
mod journal;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Args;
use serde_json::{Value, json};
use strongroom::managed::{
    BulkReport, Job, ManagedVolume, NewestKey, Proof, Rewrapped, rewrap_all,
};
use strongroom::{Device, Error};
use strongroom_crypto::CostPolicy;
use strongroom_disk::Access;

use self::files::FilesArgs;
use self::journal::Journal;
use super::ManagedArgs;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::interruption;
use crate::ui::{Output, Ui};

/// Wrap data keys under the newest version of the key in the KMS; no data and no keyslot changes
///
/// Takes any number of LUKS2 images and devices, and of envelopes in files whose names end in .json.
/// What is under the newest version already costs the KMS nothing: a command that was interrupted goes
/// on when it is given again. One file that fails does not stop the others.
#[derive(Debug, Args)]
pub(crate) struct RewrapArgs {
    #[command(flatten)]
    files: FilesArgs,

    #[command(flatten)]
    managed: ManagedArgs,

    /// Work on so many files at a time
    #[arg(long, value_name = "N", default_value_t = THREADS)]
    threads: NonZeroUsize,

    /// Append what became of each file to this one, a JSON object a line
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Rewraps the envelopes.
///
/// # Errors
///
/// When nothing could be begun, or the only file fails; where one of many fails, the exit code says
/// so.
pub(crate) fn run(ui: &mut Ui, args: &RewrapArgs) -> Result<ExitCode, CommandError> {
    let provider = args.managed.provider(&CostPolicy::default())?;
    let paths = args.files.read()?;
    let journal = args.report.as_deref().map(Journal::append).transpose()?;
    if let Some(record) = args.managed.record() {
        let [path] = paths.as_slice() else {
            return Err(CommandError::request("--envelope-file goes with one image")
                .hinted("name envelopes of other images as files of their own"));
        };
        let device = Device::open(path, None, Access::ReadWrite)?;
        let volume = ManagedVolume::new(&device, Some(record), &CostPolicy::default());
        let newest = NewestKey::ask(provider.as_ref())?;
        let result = volume.rewrap(provider.as_ref(), &newest);
        if let Some(journal) = journal {
            journal.add(&object(path, &result));
            journal.close()?;
        }
        return one(ui, args.output.output(), path, result);
    }
    let cancelled = interruption::flag()?;
    let watch = ui.watch_files(args.output.output(), paths.len() as u64);
    // Of one file everything is told, of many what failed.
    let told: Mutex<Vec<(PathBuf, strongroom::Result<Rewrapped>)>> = Mutex::default();
    let observer = |path: &Path, result: strongroom::Result<Rewrapped>| {
        if let Some(journal) = &journal {
            journal.add(&object(path, &result));
        }
        strongroom_clone::Progress::advance(&watch, 1);
        if let Ok(mut told) = told.lock()
            && (paths.len() == 1 || result.is_err())
        {
            told.push((path.to_owned(), result));
        }
    };
    let job = Job {
        paths: &paths,
        threads: args.threads,
        policy: &CostPolicy::default(),
        observer: &observer,
        cancelled: &cancelled,
    };
    let report = rewrap_all(&job, provider.as_ref());
    watch.finish();
    let (report, mut told) = (report?, told.into_inner().unwrap_or_default());
    if let Some(journal) = journal {
        journal.close()?;
    }
    if paths.len() == 1
        && let Some((path, result)) = told.pop()
    {
        return one(ui, args.output.output(), &path, result);
    }
    summary(ui, args.output.output(), report, told)
}

/// Says what became of the only file.
fn one(
    ui: &mut Ui,
    output: Output,
    path: &Path,
    result: strongroom::Result<Rewrapped>,
) -> Result<ExitCode, CommandError> {
    let rewrapped = result?;
    match output {
        Output::Json => ui.json(&object(path, &Ok(rewrapped)))?,
        Output::Text => ui.status(&format!("{}: {}", path.display(), words(&rewrapped))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what became of many files.
fn summary(
    ui: &mut Ui,
    output: Output,
    report: BulkReport,
    failed: Vec<(PathBuf, strongroom::Result<Rewrapped>)>,
) -> Result<ExitCode, CommandError> {
    let BulkReport { done, already, failed: failures, left } = report;
    for (path, result) in failed {
        if let Err(error) = result {
            ui.error(&format!("{}: {}", path.display(), CommandError::from(error).text()));
        }
    }
    match output {
        Output::Json => ui.json(&json!({
            "rewrapped": done, "already": already, "failed": failures, "left": left,
        }))?,
        Output::Text => ui.status(&format!(
            "{done} rewrapped, {already} at the newest version already, {failures} failed, {left} left"
        )),
    }
    if left > 0 {
        return Err(CommandError::from(Error::Interrupted)
            .unhinted()
            .hinted("give the command again: what is done already costs nothing"));
    }
    if failures > 0 {
        ui.hint("give the command again once the reasons are gone: it does what is left");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what scripts want to know of a file.
fn object(path: &Path, result: &strongroom::Result<Rewrapped>) -> Value {
    let file = path.display().to_string();
    match result {
        Ok(Rewrapped::Already { version }) => {
            json!({ "file": file, "outcome": "already", "key_version": version })
        }
        Ok(Rewrapped::Done { from, to, proof }) => json!({
            "file": file,
            "outcome": "rewrapped",
            "from_key_version": from,
            "key_version": to,
            "unwrapped": *proof == Proof::Unwrapped,
        }),
        Err(error) => {
            let mut problem = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                let text = cause.to_string();
                // Transparent errors say the same as what they hold.
                if !problem.ends_with(&text) {
                    problem = format!("{problem}: {text}");
                }
                source = cause.source();
            }
            json!({ "file": file, "outcome": "failed", "problem": problem })
        }
    }
}

fn words(rewrapped: &Rewrapped) -> String {
    let named = |version: &Option<String>| {
        version.as_ref().map_or_else(String::new, |version| format!(" version {version} of"))
    };
    match rewrapped {
        Rewrapped::Already { version } => {
            format!("it is under{} the key already; nothing was written", named(version))
        }
        Rewrapped::Done { from, to, proof } => {
            let unproved = match proof {
                Proof::Unwrapped => "",
                Proof::Told => "; it was not unwrapped to see whether it is the same data key",
            };
            format!(
                "it is under{} the key now, and was under{}{unproved}",
                named(to),
                match from {
                    Some(version) => format!(" version {version}"),
                    None => " an older one".to_owned(),
                }
            )
        }
    }
}

/// How many files are worked on at a time: they wait for the KMS and the medium, not for the
/// processor.
const THREADS: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not 0");
