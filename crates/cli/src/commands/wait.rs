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
use super::delete::{name_of, wait_until_gone};
use super::document_arguments::{CallArgs, title_at};
use super::following::{self, Following};
use super::get::documents_of;
use super::selection::EachArgs;
use crate::command_error::CommandError;
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
    call: CallArgs,
}

/// Waits.
///
/// # Errors
///
/// When it takes too long, there is no such document, or it has failed.
pub(crate) fn run(ui: &mut Ui, args: &WaitArgs) -> Result<(), CommandError> {
    let client = args.call.client()?;
    let until = Instant::now() + args.timeout;
    let places = args.selection.each(ui, &client, args.call.namespace.or_default())?;
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
        if args.call.output() == Output::Text {
            ui.data(&format!("{} {word}", title_at(place)))?;
        }
    }
    match args.call.output() {
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

/// How a document was last seen.
enum Seen {
    Met,
    Failed(String),
    Unmet(Value),
}

impl Waiting<'_> {
    /// Follows the document until it is as waited for, has failed, or the time is over.
    fn run(&self) -> Result<(), CommandError> {
        let Self { client, place, condition, until } = *self;
        let not_found = || {
            let problem = format!("{} is not there", title_at(place));
            CommandError::of_kind(ErrorKind::NotFound, problem)
        };
        let mut last = Seen::Unmet(Value::Null);
        let form = Form::Documents;
        let following = Following { client, place, selector: None, form, until: Some(until) };
        following.run(&mut |seen| {
            let document = match seen {
                following::Seen::Change(happened, _) if happened == "DELETED" => {
                    return Err(not_found());
                }
                following::Seen::Change(_, document) => document,
                following::Seen::All(list) => {
                    let mut found = documents_of(list).into_iter();
                    let is_it =
                        |found: &Value| found["metadata"]["name"].as_str() == place.name.as_deref();
                    found.find(is_it).ok_or_else(not_found)?
                }
            };
            last = self.seen(document);
            Ok(match last {
                Seen::Unmet(_) => ControlFlow::Continue(()),
                Seen::Met | Seen::Failed(_) => ControlFlow::Break(()),
            })
        })?;
        let name = title_at(place);
        let (kind, problem) = match last {
            Seen::Met => return Ok(()),
            Seen::Failed(reason) if reason.is_empty() => {
                (ErrorKind::Image, format!("{name} has failed"))
            }
            Seen::Failed(reason) => (ErrorKind::Image, format!("{name} has failed: {reason}")),
            Seen::Unmet(document) => {
                let found = condition.found(place.resource, &document);
                let problem =
                    format!("{name} is not as waited for in time: {condition} is {found}");
                (ErrorKind::Io, problem)
            }
        };
        Err(CommandError::of_kind(kind, problem)
            .hinted(format!("`strongroom describe {}` shows more", name_of(place))))
    }

    fn seen(&self, document: Value) -> Seen {
        let resource = self.place.resource;
        if self.condition.is_met(resource, &document) {
            return Seen::Met;
        }
        // Nothing else is the server's to change: somebody else may still.
        let ending = || ending::of(resource, &document);
        match self.condition.is_of_status().then(ending).flatten() {
            Some(reason) => Seen::Failed(reason),
            None => Seen::Unmet(document),
        }
    }
}
