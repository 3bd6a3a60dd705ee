//! `strongroom jobs …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_server::client::{Action, FailureKind, Request};

use super::get::table::{Head, Table};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::server_arguments::{ServerArgs, ask};
use crate::times;
use crate::ui::{self, Output, Ui};

/// What can be done with the work of a server.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Stop a job for good
    Cancel(OneArgs),

    /// List the jobs: those that go on, and the last ones that have ended
    List(AllArgs),

    /// Show what is known of a job
    Show(OneArgs),

    /// Show each change of a job, until interrupted
    Watch(AllArgs),
}

/// Which job
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// Its identifier
    id: String,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    server: ServerArgs,
}

/// How jobs are printed
#[derive(Debug, Args)]
pub(crate) struct AllArgs {
    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    server: ServerArgs,
}

impl JobsCommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What the server says.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<(), CommandError> {
        match self {
            Self::Cancel(args) => cancel(ui, &args),
            Self::List(args) => list(ui, &args),
            Self::Show(args) => show(ui, &args),
            Self::Watch(args) => watch(ui, &args),
        }
    }
}

fn list(ui: &mut Ui, args: &AllArgs) -> Result<(), CommandError> {
    let client = args.server.client()?;
    let answer = ask(ui, &client, &Request::new(Action::Get, JOBS))?.value;
    if args.output.output() == Output::Json {
        return ui.json(&json!({ "items": answer["items"] }));
    }
    let mut jobs: Vec<&Value> = answer["items"].as_array().into_iter().flatten().collect();
    if jobs.is_empty() {
        ui.status("there are none");
        return Ok(());
    }
    jobs.sort_by_key(|job| (job["created"].as_u64(), text(job, "id")));
    Table::new(&COLUMNS, jobs.into_iter().map(row).collect()).print(ui, Head::Shown)
}

fn show(ui: &mut Ui, args: &OneArgs) -> Result<(), CommandError> {
    let client = args.server.client()?;
    let job = client.ask(&Request::new(Action::Get, path(&args.id))).map_err(|failure| {
        let hinted = failure.kind == FailureKind::NotFound;
        let error = CommandError::from(failure);
        if hinted { error.hinted("`strongroom jobs list` shows the jobs") } else { error }
    })?;
    page(ui, &args.output, &job.value)
}

fn cancel(ui: &mut Ui, args: &OneArgs) -> Result<(), CommandError> {
    let client = args.server.client()?;
    let job = ask(ui, &client, &Request::new(Action::Delete, path(&args.id)))?.value;
    match args.output.output() {
        Output::Json => ui.json(&job),
        Output::Text => {
            ui.status(&format!("job {} is {}", args.id, text(&job, "state")));
            Ok(())
        }
    }
}

fn watch(ui: &mut Ui, args: &AllArgs) -> Result<(), CommandError> {
    let client = args.server.client()?;
    let mut head = Head::Shown;
    for change in client.watch(&Request::new(Action::Get, format!("{JOBS}?watch=true")))? {
        let (happened, job) = change?;
        match args.output.output() {
            Output::Json => ui.data(&json!({ "type": happened, "object": job }).to_string())?,
            Output::Text if happened == "DELETED" => {}
            Output::Text => {
                Table::new(&COLUMNS, vec![row(&job)]).print(ui, head)?;
                head = Head::Left;
            }
        }
    }
    Ok(())
}

fn row(job: &Value) -> Vec<String> {
    let progress = job["progress"].as_u64().map_or(String::new(), |part| format!("{part}%"));
    ["id", "task", "subject", "state"]
        .map(|key| text(job, key))
        .into_iter()
        .chain([progress, number(&job["attempts"]), text(job, "message")])
        .collect()
}

fn page(ui: &mut Ui, output: &OutputArgs, job: &Value) -> Result<(), CommandError> {
    if output.output() == Output::Json {
        return ui.json(job);
    }
    let mut line = |name: &str, value: String| match value.is_empty() {
        true => Ok(()),
        false => ui.data(&format!("{:<16}{value}", format!("{name}:"))),
    };
    line("Job", text(job, "id"))?;
    line("Task", text(job, "task"))?;
    line("Subject", text(job, "subject"))?;
    line("State", text(job, "state"))?;
    line("Attempts", number(&job["attempts"]))?;
    let bytes = |key: &str| job[key].as_u64().map(ui::bytes);
    let done = match (bytes("done"), bytes("of")) {
        (Some(done), Some(of)) => format!("{done} of {of}, {}%", number(&job["progress"])),
        (Some(done), None) => done,
        _ => String::new(),
    };
    line("Done", done)?;
    line(
        "Rate limit",
        bytes("rate_limit").map_or(String::new(), |rate| format!("{rate} a second")),
    )?;
    line("Message", text(job, "message"))?;
    for (name, key) in [("Submitted", "created"), ("Begun", "started"), ("Ended", "ended")] {
        line(name, job[key].as_u64().map_or(String::new(), time))?;
    }
    Ok(())
}

fn text(job: &Value, key: &str) -> String {
    job[key].as_str().unwrap_or_default().replace('\n', "\\n")
}

fn number(value: &Value) -> String {
    value.as_u64().map_or(String::new(), |number| number.to_string())
}

fn time(seconds: u64) -> String {
    let since = std::time::Duration::from_secs(seconds);
    std::time::SystemTime::UNIX_EPOCH.checked_add(since).map_or(String::new(), times::rfc3339)
}

/// Returns where a server keeps a job.
fn path(id: &str) -> String {
    // Identifiers are letters and digits; anything else would be another path.
    let encoded: String = id
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("{JOBS}/{encoded}")
}

const JOBS: &str = "/v1/jobs";

const COLUMNS: [&str; 7] = ["JOB", "TASK", "SUBJECT", "STATE", "PROGRESS", "ATTEMPTS", "MESSAGE"];
