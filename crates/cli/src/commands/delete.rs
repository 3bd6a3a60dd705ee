//! `strongroom delete`

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use strongroom::ErrorKind;
use strongroom_server::client::{Action, Client, FailureKind, Form, Place, Request};

use super::document_arguments::{NamespaceArgs, places, title};
use super::following::{Following, Seen};
use super::get::documents_of;
use super::manifests::{self, FileArgs};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::server_arguments::{ServerArgs, ask};
use crate::ui::{Output, Ui};

/// Delete documents, and what was made of them
///
/// What somebody uses is not deleted: the users are listed instead.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The kind and the names: `backingimage ubuntu`, `pvc/data secret/key`
    #[arg(
        required_unless_present = "files",
        conflicts_with = "files",
        value_name = "RESOURCE NAME"
    )]
    words: Vec<String>,

    #[command(flatten)]
    files: FileArgs,

    #[command(flatten)]
    namespace: NamespaceArgs,

    /// Delete what is in use, too; what is lost by that is said
    #[arg(long)]
    force: bool,

    /// Succeed when there is no such document
    #[arg(long)]
    ignore_not_found: bool,

    /// Do not wait until they are gone
    #[arg(long)]
    no_wait: bool,

    /// How long to wait until they are gone: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    server: ServerArgs,
}

/// Deletes documents: all that can be, even where one cannot.
///
/// # Errors
///
/// What the server says of the last one that could not be deleted.
pub(crate) fn run(ui: &mut Ui, args: &DeleteArgs) -> Result<(), CommandError> {
    let places = wanted(args)?;
    let client = args.server.client()?;
    let (mut deleted, mut last) = (Vec::new(), None);
    for place in &places {
        match delete(ui, args, &client, place) {
            Ok(Some(uid)) => {
                if args.output.output() == Output::Text {
                    ui.data(&format!("{} deleted", title_of(place)))?;
                }
                deleted.push((place, uid));
            }
            Ok(None) => {}
            Err(error) => {
                if let Some(before) = last.replace(error) {
                    CommandError::print(&before, ui);
                }
            }
        }
    }
    if !args.no_wait {
        let until = Instant::now() + args.timeout;
        for (place, uid) in &deleted {
            wait_until_gone(&client, place, Some(uid), until)?;
        }
    }
    if args.output.output() == Output::Json {
        let shown = deleted.iter().map(|(place, uid)| {
            json!({
                "kind": place.resource.kind(), "name": place.name, "namespace": place.namespace,
                "uid": uid,
            })
        });
        ui.json(&json!({ "deleted": shown.collect::<Vec<_>>() }))?;
    }
    last.map_or(Ok(()), Err)
}

fn wanted(args: &DeleteArgs) -> Result<Vec<Place>, CommandError> {
    let places = match args.files.are_given() {
        true => {
            let found = manifests::read(&args.files)?;
            let place = |manifest: &manifests::Manifest| manifest.place(args.namespace.named());
            // What was made last goes first: it may use what was made before it.
            found.iter().rev().map(place).collect::<Result<Vec<_>, _>>()?
        }
        false => places(&args.words, Some(args.namespace.or_default()))?,
    };
    match places.iter().find(|place| place.name.is_none()) {
        Some(place) => {
            let problem = format!("no {} is named", place.resource.kind());
            Err(CommandError::request(problem)
                .hinted(format!("`strongroom get {}` lists them", place.resource.plural())))
        }
        None => Ok(places),
    }
}

/// Deletes a document; returns its UID, `None` when there was none and that is well.
fn delete(
    ui: &mut Ui,
    args: &DeleteArgs,
    client: &Client,
    place: &Place,
) -> Result<Option<String>, CommandError> {
    let query: &[(&str, &str)] = if args.force { &[("force", "true")] } else { &[] };
    match ask(ui, client, &Request::new(Action::Delete, place.path(query))) {
        Ok(answer) => {
            let value = &answer.value;
            let uid = value["metadata"]["uid"].as_str().or(value["details"]["uid"].as_str());
            Ok(Some(uid.unwrap_or_default().to_owned()))
        }
        Err(failure) if failure.kind == FailureKind::NotFound && args.ignore_not_found => Ok(None),
        Err(failure) => {
            let is_used = failure.kind == FailureKind::Conflict;
            let mut text = CommandError::from(manifests::with_causes(failure));
            if is_used && !args.force {
                text = text.hinted("delete what uses it first; --force deletes it all the same");
            }
            Err(text)
        }
    }
}

/// Waits until a document is gone, or another one of its name has taken its place.
///
/// # Errors
///
/// When it is still there at `until`, and what the server says.
pub(super) fn wait_until_gone(
    client: &Client,
    place: &Place,
    uid: Option<&str>,
    until: Instant,
) -> Result<(), CommandError> {
    let is_it = |document: &Value| {
        let found = document["metadata"]["uid"].as_str();
        uid.is_none_or(|uid| uid.is_empty() || found == Some(uid))
    };
    let mut gone = false;
    let following = Following { client, place, form: Form::Documents, until: Some(until) };
    following.run(&mut |seen| {
        gone = match seen {
            Seen::All(list) => !documents_of(list).iter().any(|found| {
                found["metadata"]["name"].as_str() == place.name.as_deref() && is_it(found)
            }),
            Seen::Change(happened, document) => happened == "DELETED" || !is_it(&document),
        };
        Ok(if gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    match gone {
        true => Ok(()),
        false => {
            let problem = format!("{} is still there", title_of(place));
            Err(CommandError::of_kind(ErrorKind::Io, problem).hinted(format!(
                "`strongroom describe {}` shows what it waits for",
                title_of(place)
            )))
        }
    }
}

fn title_of(place: &Place) -> String {
    title(place.resource, place.name.as_deref().unwrap_or_default())
}
