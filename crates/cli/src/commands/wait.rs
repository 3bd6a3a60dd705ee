//! `strongroom wait`

mod condition;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use strongroom::ErrorKind;
use strongroom_server::client::{Action, Client, FailureKind, Form, Place, Request};

use self::condition::Condition;
use super::delete::wait_until_gone;
use super::document_arguments::{NamespaceArgs, places, title};
use super::following::{Following, Seen};
use super::get::documents_of;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::server_arguments::ServerArgs;
use crate::ui::{Output, Ui};

/// Wait until documents are as they should be
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The kind and the names: `backingimage ubuntu`, `pvc/data volume/data`
    #[arg(required = true, value_name = "RESOURCE/NAME")]
    words: Vec<String>,

    /// For what: `state=ready` (of an image, volume or claim, in whichever case), `condition=Ready`,
    /// `condition=Ready=False`, `jsonpath={.status.phase}=Bound`, or `delete`
    #[arg(long = "for", value_name = "CONDITION")]
    condition: Condition,

    /// How long for all of them together: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,

    #[command(flatten)]
    namespace: NamespaceArgs,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    server: ServerArgs,
}

/// Waits.
///
/// # Errors
///
/// When it takes too long, or there is no such document.
pub(crate) fn run(ui: &mut Ui, args: &WaitArgs) -> Result<(), CommandError> {
    let places = places(&args.words, Some(args.namespace.or_default()))?;
    if let Some(place) = places.iter().find(|place| place.name.is_none()) {
        return Err(CommandError::request(format!("no {} is named", place.resource.kind())));
    }
    let until = Instant::now() + args.timeout;
    let client = args.server.client()?;
    for place in &places {
        let name = title(place.resource, place.name.as_deref().unwrap_or_default());
        match &args.condition {
            Condition::Deleted => wait_for_deletion(&client, place, until)?,
            condition => wait_for(&client, place, condition, &name, until)?,
        }
        if args.output.output() == Output::Text {
            let word =
                if args.condition == Condition::Deleted { "deleted" } else { "condition met" };
            ui.data(&format!("{name} {word}"))?;
        }
    }
    match args.output.output() {
        Output::Json => ui.json(&json!({ "met": true })),
        Output::Text => Ok(()),
    }
}

fn wait_for_deletion(client: &Client, place: &Place, until: Instant) -> Result<(), CommandError> {
    match client.ask(&Request::new(Action::Get, place.path(&[]))) {
        Err(failure) if failure.kind == FailureKind::NotFound => Ok(()),
        Err(failure) => Err(failure.into()),
        Ok(answer) => {
            let uid = answer.value["metadata"]["uid"].as_str().map(str::to_owned);
            wait_until_gone(client, place, uid.as_deref(), until)
        }
    }
}

fn wait_for(
    client: &Client,
    place: &Place,
    condition: &Condition,
    name: &str,
    until: Instant,
) -> Result<(), CommandError> {
    let not_found = || CommandError::of_kind(ErrorKind::NotFound, format!("{name} is not there"));
    let (mut met, mut last) = (false, Value::Null);
    let following = Following { client, place, form: Form::Documents, until: Some(until) };
    following.run(&mut |seen| {
        last = match seen {
            Seen::Change(happened, _) if happened == "DELETED" => return Err(not_found()),
            Seen::Change(_, document) => document,
            Seen::All(list) => {
                let mut found = documents_of(list).into_iter();
                let is_it =
                    |found: &Value| found["metadata"]["name"].as_str() == place.name.as_deref();
                found.find(is_it).ok_or_else(not_found)?
            }
        };
        met = condition.is_met(&last);
        Ok(if met { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if met {
        return Ok(());
    }
    let found = condition.found(&last);
    let problem = format!("{name} is not as waited for in time: {condition} is {found}");
    Err(CommandError::of_kind(ErrorKind::Io, problem)
        .hinted(format!("`strongroom describe {name}` shows more")))
}
