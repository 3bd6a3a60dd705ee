//! `strongroom wait`

mod condition;
mod ending;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use strongroom::ErrorKind;
use strongroom_server::client::{Action, Client, FailureKind, Form, Place, Request};

use self::condition::Condition;
use self::ending::Ending;
use super::delete::{name_of, wait_until_gone};
use super::document_arguments::{NamespaceArgs, title_at};
use super::events;
use super::following::{Following, Seen};
use super::get::documents_of;
use super::selection::EachArgs;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::server_arguments::ServerArgs;
use crate::ui::{Output, Ui};

/// Wait until documents are as they should be
///
/// It ends at once, with exit code 4, when one has failed and stays so.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    selection: EachArgs,

    /// For what: `state=ready` (of an image, volume, claim or snapshot, in whichever case),
    /// `condition=Ready`, `condition=Ready=False`, `jsonpath={.status.phase}=Bound`,
    /// `jsonpath={.status.conditions[?(@.type=="Imported")].status}=True`, or `delete`
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
/// When it takes too long, there is no such document, or it has failed.
pub(crate) fn run(ui: &mut Ui, args: &WaitArgs) -> Result<(), CommandError> {
    let client = args.server.client()?;
    let until = Instant::now() + args.timeout;
    let places = args.selection.each(ui, &client, args.namespace.or_default())?;
    if places.is_empty() && args.condition != Condition::Deleted {
        let problem = "there is no such document to wait for";
        return Err(CommandError::of_kind(ErrorKind::NotFound, problem));
    }
    for place in &places {
        args.condition.check(place.resource).map_err(CommandError::request)?;
    }
    for place in &places {
        let word = match &args.condition {
            Condition::Deleted => {
                wait_for_deletion(&client, place, until)?;
                "deleted"
            }
            condition => {
                Waiting { client: &client, place, condition, until }.run()?;
                "condition met"
            }
        };
        if args.output.output() == Output::Text {
            ui.data(&format!("{} {word}", title_at(place)))?;
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

struct Waiting<'a> {
    client: &'a Client,
    place: &'a Place,
    condition: &'a Condition,
    until: Instant,
}

/// How a look has ended.
enum Look {
    Met,
    Failed(String),
    /// The document is as it was last seen.
    Unmet(Value),
}

impl Waiting<'_> {
    fn run(&self) -> Result<(), CommandError> {
        loop {
            // What only events tell is asked for now and then.
            let until = self.until.min(Instant::now() + BETWEEN_EVENTS);
            let last = match self.look(until)? {
                Look::Met => return Ok(()),
                Look::Failed(reason) => return Err(self.failed(&reason)),
                Look::Unmet(last) => last,
            };
            if let Some(Ending::Event(wanted)) = self.ending(&last)
                && let Some(message) = self.last_event(wanted)?
            {
                return Err(self.failed(&message));
            }
            if Instant::now() >= self.until {
                return Err(self.overdue(&last));
            }
        }
    }

    /// Follows the document until it is as waited for, has failed, or the time is over.
    fn look(&self, until: Instant) -> Result<Look, CommandError> {
        let Self { client, place, condition, .. } = *self;
        let resource = place.resource;
        let not_found = || {
            let problem = format!("{} is not there", title_at(place));
            CommandError::of_kind(ErrorKind::NotFound, problem)
        };
        let mut look = Look::Unmet(Value::Null);
        let form = Form::Documents;
        let following = Following { client, place, selector: None, form, until: Some(until) };
        following.run(&mut |seen| {
            let document = match seen {
                Seen::Change(happened, _) if happened == "DELETED" => return Err(not_found()),
                Seen::Change(_, document) => document,
                Seen::All(list) => {
                    let mut found = documents_of(list).into_iter();
                    let is_it =
                        |found: &Value| found["metadata"]["name"].as_str() == place.name.as_deref();
                    found.find(is_it).ok_or_else(not_found)?
                }
            };
            look = match self.ending(&document) {
                _ if condition.is_met(resource, &document) => Look::Met,
                Some(Ending::Told(reason)) => Look::Failed(reason),
                _ => Look::Unmet(document),
            };
            Ok(match look {
                Look::Unmet(_) => ControlFlow::Continue(()),
                Look::Met | Look::Failed(_) => ControlFlow::Break(()),
            })
        })?;
        Ok(look)
    }

    /// Returns why it stays as it is, if somebody waits for what the server makes of it.
    fn ending(&self, document: &Value) -> Option<Ending> {
        let ending = || ending::of(self.place.resource, document);
        self.condition.is_of_status().then(ending).flatten()
    }

    /// Returns the message of its last event, if that has this reason.
    fn last_event(&self, reason: &str) -> Result<Option<String>, CommandError> {
        let request = Request::new(Action::Get, events::path_of(self.place));
        let mut list = match self.client.ask(&request) {
            Ok(answer) => answer.value,
            // Then it is waited for without.
            Err(failure) if failure.kind == FailureKind::Unreachable => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        let last = events::in_order(&mut list).pop().filter(|last| last["reason"] == reason);
        Ok(last.map(|last| last["message"].as_str().unwrap_or_default().to_owned()))
    }

    fn failed(&self, reason: &str) -> CommandError {
        let name = title_at(self.place);
        let problem = match reason {
            "" => format!("{name} has failed"),
            reason => format!("{name} has failed: {reason}"),
        };
        CommandError::of_kind(ErrorKind::Image, problem)
            .hinted(format!("`strongroom describe {}` shows more", name_of(self.place)))
    }

    fn overdue(&self, last: &Value) -> CommandError {
        let found = self.condition.found(self.place.resource, last);
        let (name, condition) = (title_at(self.place), self.condition);
        let problem = format!("{name} is not as waited for in time: {condition} is {found}");
        CommandError::of_kind(ErrorKind::Io, problem)
            .hinted(format!("`strongroom describe {}` shows more", name_of(self.place)))
    }
}

/// How often events are asked for.
const BETWEEN_EVENTS: Duration = Duration::from_secs(3);
