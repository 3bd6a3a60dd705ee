//! `strongroom delete`

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use serde_json::{Value, json};
use strongroom::ErrorKind;
use strongroom_server::client::{Action, Client, FailureKind, Form, Place, Request};

use super::document_arguments::{CallArgs, title_at};
use super::events;
use super::following::{Following, Seen};
use super::get::documents_of;
use super::manifests::{self, FileArgs};
use super::selection::EachArgs;
use crate::command_error::CommandError;
use crate::server_arguments::ask;
use crate::ui::{Output, Ui};

/// Delete documents, and what was made of them
///
/// What somebody uses is not deleted: the users are listed instead. A document that something holds yet, such as
/// its data, goes when that is gone; it is waited for.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    selection: EachArgs,

    #[command(flatten)]
    files: FileArgs,

    /// Delete what is in use, too; what is lost by that is said
    #[arg(long)]
    force: bool,

    /// Succeed when there is no such document
    #[arg(long)]
    ignore_not_found: bool,

    /// Whether to wait until they are gone: --wait=false does not
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true"
    )]
    wait: bool,

    /// How long to wait until they are gone: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,

    #[command(flatten)]
    call: CallArgs,
}

/// The documents of one command on their way out.
struct Deletion<'a> {
    ui: &'a mut Ui,
    args: &'a DeleteArgs,
    client: &'a Client,
    leaving: Vec<Leaving>,
    last: Option<CommandError>,
    /// Until when they have to be gone.
    until: Option<Instant>,
}

/// A document that something uses.
struct Refused {
    place: Place,
    why: CommandError,
}

/// What comes of telling a document to go.
enum Answered {
    /// It goes.
    Leaving(Leaving),
    /// There was none, and that is well.
    Nothing,
    /// Something uses it.
    Refused(Refused),
}

/// A document that was told to go.
struct Leaving {
    place: Place,
    uid: String,
    /// As it stands while something holds it; `None` once it is gone.
    held: Option<Value>,
    /// Whether its user knows how it went.
    is_told: bool,
}

/// Deletes documents: all that can be, even where one cannot.
///
/// # Errors
///
/// What the server says of the last one that could not be deleted, or is not gone in time.
pub(crate) fn run(ui: &mut Ui, args: &DeleteArgs) -> Result<(), CommandError> {
    let client = args.call.client()?;
    let mut deletion =
        Deletion { ui, args, client: &client, leaving: Vec::new(), last: None, until: None };
    let mut places = wanted(deletion.ui, args, &client)?;
    // What was refused for what goes only now can go after it.
    while !places.is_empty() {
        let refused = deletion.delete_all(places);
        let is_further = deletion.wait_for_all()? && args.wait && !args.force;
        places = match is_further {
            true => refused.into_iter().map(|refused| refused.place).collect(),
            false => {
                for refused in refused {
                    deletion.keep(refused.why);
                }
                break;
            }
        };
    }
    let Deletion { ui, leaving, last, .. } = deletion;
    let is_text = args.call.output() == Output::Text;
    if leaving.is_empty() && last.is_none() && is_text {
        ui.status("there was nothing to delete");
    }
    if !is_text {
        let shown = leaving.iter().map(|found| {
            let place = &found.place;
            json!({
                "kind": place.resource.kind(), "name": place.name, "namespace": place.namespace,
                "uid": found.uid, "gone": found.held.is_none(),
            })
        });
        ui.json(&json!({ "deleted": shown.collect::<Vec<_>>() }))?;
    }
    last.map_or(Ok(()), Err)
}

fn wanted(ui: &mut Ui, args: &DeleteArgs, client: &Client) -> Result<Vec<Place>, CommandError> {
    match (args.files.are_given(), args.selection.is_given()) {
        (true, true) => Err(CommandError::request("documents are named by files and by words")
            .hinted("say either -f FILE or RESOURCE NAME")),
        (true, false) => {
            let found = manifests::read(&args.files)?;
            let place =
                |manifest: &manifests::Manifest| manifest.place(args.call.namespace.named());
            // What was made last goes first: it may use what was made before it.
            found.iter().rev().map(place).collect()
        }
        (false, _) => args.selection.each(ui, client, args.call.namespace.or_default()),
    }
}

impl Deletion<'_> {
    /// Tells documents to go; returns those that something uses.
    fn delete_all(&mut self, places: Vec<Place>) -> Vec<Refused> {
        let mut refused = Vec::new();
        for place in places {
            match delete(self.ui, self.args, self.client, place) {
                Ok(Answered::Leaving(found)) => self.leaving.push(found),
                Ok(Answered::Nothing) => {}
                Ok(Answered::Refused(found)) => refused.push(found),
                Err(error) => self.keep(error),
            }
        }
        refused
    }

    /// Waits until all that were told to go are gone, unless nobody wants that. Returns whether any has gone.
    fn wait_for_all(&mut self) -> Result<bool, CommandError> {
        let is_text = self.args.call.output() == Output::Text;
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.args.timeout);
        let mut has_gone = false;
        for found in self.leaving.iter_mut().filter(|found| !found.is_told) {
            found.is_told = true;
            let name = title_at(&found.place);
            let words = match (&found.held, self.args.wait) {
                (None, _) => format!("{name} deleted"),
                (Some(_), false) => format!("{name} is being deleted"),
                (Some(_), true) => match found.wait(self.ui, self.client, until) {
                    Ok(()) => format!("{name} deleted"),
                    Err(error) => {
                        CommandError::keep_last(&mut self.last, self.ui, error);
                        continue;
                    }
                },
            };
            has_gone |= found.held.is_none();
            if is_text {
                self.ui.data(&words)?;
            }
        }
        Ok(has_gone)
    }

    fn keep(&mut self, error: CommandError) {
        CommandError::keep_last(&mut self.last, self.ui, error);
    }
}

impl Leaving {
    /// Waits until it is gone; what for is told, should it take long.
    fn wait(&mut self, ui: &mut Ui, client: &Client, until: Instant) -> Result<(), CommandError> {
        let Self { place, uid, held, .. } = self;
        let soon = until.min(Instant::now() + BEFORE_TELLING);
        if !is_gone(client, place, Some(uid), soon)? {
            let why = why_held(client, place, held.as_ref());
            ui.status(&format!("waiting until {} is gone: {why}", title_at(place)));
            wait_until_gone(client, place, Some(uid), until)?;
        }
        *held = None;
        Ok(())
    }
}

/// Tells a document to go.
fn delete(
    ui: &mut Ui,
    args: &DeleteArgs,
    client: &Client,
    place: Place,
) -> Result<Answered, CommandError> {
    let query: &[(&str, &str)] = if args.force { &[("force", "true")] } else { &[] };
    match ask(ui, client, &Request::new(Action::Delete, place.path(query))) {
        Ok(answer) => {
            let value = answer.value;
            let uid = value["metadata"]["uid"].as_str().or(value["details"]["uid"].as_str());
            let uid = uid.unwrap_or_default().to_owned();
            // What is gone is answered by how that went, and what is not by itself.
            let held = (value["kind"] != "Status").then_some(value);
            Ok(Answered::Leaving(Leaving { place, uid, held, is_told: false }))
        }
        Err(failure) if failure.kind == FailureKind::NotFound && args.ignore_not_found => {
            Ok(Answered::Nothing)
        }
        Err(failure) => {
            let is_used = failure.kind == FailureKind::Conflict && !args.force;
            let text = CommandError::from(manifests::with_causes(failure));
            if !is_used {
                return Err(text);
            }
            let why = text.hinted("delete what uses it first; --force deletes it all the same");
            Ok(Answered::Refused(Refused { place, why }))
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
    if is_gone(client, place, uid, until)? {
        return Ok(());
    }
    let held = client.ask(&Request::new(Action::Get, place.path(&[]))).ok();
    let why = why_held(client, place, held.as_ref().map(|answer| &answer.value));
    let problem = format!("{} is still there: {why}", title_at(place));
    Err(CommandError::of_kind(ErrorKind::Io, problem)
        .hinted(format!("`strongroom describe {}` shows more", name_of(place))))
}

/// Returns whether a document is gone by then.
fn is_gone(
    client: &Client,
    place: &Place,
    uid: Option<&str>,
    until: Instant,
) -> Result<bool, CommandError> {
    let is_it = |document: &Value| {
        let found = document["metadata"]["uid"].as_str();
        uid.is_none_or(|uid| uid.is_empty() || found == Some(uid))
    };
    let (mut gone, form) = (false, Form::Documents);
    let following = Following { client, place, selector: None, form, until: Some(until) };
    following.run(&mut |seen| {
        gone = match seen {
            Seen::All(list) => !documents_of(list).iter().any(|found| {
                found["metadata"]["name"].as_str() == place.name.as_deref() && is_it(found)
            }),
            Seen::Change(happened, document) => happened == "DELETED" || !is_it(&document),
        };
        Ok(if gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(gone)
}

/// Returns what a document that was told to go waits for, as far as it or its last event says that.
fn why_held(client: &Client, place: &Place, document: Option<&Value>) -> String {
    let document = document.unwrap_or(&Value::Null);
    if document["metadata"].get("deletionTimestamp").is_none() {
        return "nobody has deleted it".to_owned();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let claim = &document["spec"]["claimRef"];
    if document["status"]["phase"] == "Bound" && claim["name"].is_string() {
        let (namespace, name) = (text(&claim["namespace"]), text(&claim["name"]));
        return format!("the claim {namespace}/{name} is bound to it, and has to be deleted first");
    }
    let answer = client.ask(&Request::new(Action::Get, events::path_of(place)));
    let last = answer.ok().and_then(|mut answer| events::in_order(&mut answer.value).pop());
    if let Some(last) = last.filter(|last| last["type"] == "Warning") {
        return text(&last["message"]);
    }
    let finalizers: Vec<String> =
        document["metadata"]["finalizers"].as_array().into_iter().flatten().map(text).collect();
    match &finalizers[..] {
        [] => "the server has not taken it out yet".to_owned(),
        held => format!("what was made of it has to go first ({})", held.join(", ")),
    }
}

/// Returns the words by which a command names a document: `pvc/data -n lab`.
pub(super) fn name_of(place: &Place) -> String {
    let namespace = place.namespace.as_ref().map(|namespace| format!(" -n {namespace}"));
    format!("{}{}", title_at(place), namespace.unwrap_or_default())
}

/// How long nobody has to be told what is waited for.
const BEFORE_TELLING: Duration = Duration::from_secs(1);
