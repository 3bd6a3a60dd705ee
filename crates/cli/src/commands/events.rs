//! `strongroom events`

use std::ops::ControlFlow;
use std::time::SystemTime;

use clap::Args;
use serde_json::Value;
use strongroom_model::dialect::resource::{Resource, Scope};
use strongroom_server::client::{Action, Form, Place, Request};

use super::document_arguments::{self, DEFAULT, Format, FormatArgs, NamespacesArgs, Together};
use super::following::{Following, Seen};
use super::get::documents_of;
use super::get::table::{Head, Table};
use crate::command_error::CommandError;
use crate::server_arguments::{ServerArgs, ask};
use crate::times;
use crate::ui::Ui;

/// List what has happened, the latest last
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    namespaces: NamespacesArgs,

    #[command(flatten)]
    format: FormatArgs,

    /// Go on and show what happens, until interrupted
    #[arg(short, long)]
    watch: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// Lists events.
///
/// # Errors
///
/// What the server says.
pub(crate) fn run(ui: &mut Ui, args: &EventsArgs) -> Result<(), CommandError> {
    let client = args.server.client()?;
    let place = Place::of_all(Resource::Event, args.namespaces.namespace());
    if args.watch {
        let mut head = Head::Shown;
        let following = Following {
            client: &client,
            place: &place,
            selector: None,
            form: Form::Documents,
            until: None,
        };
        return following.run(&mut |seen| {
            let events = match seen {
                Seen::All(mut list) => in_order(&mut list),
                Seen::Change(happened, _) if happened == "DELETED" => Vec::new(),
                Seen::Change(_, event) => vec![event],
            };
            if !events.is_empty() {
                show(ui, args, events, head)?;
                head = Head::Left;
            }
            Ok(ControlFlow::Continue(()))
        });
    }
    let mut list = ask(ui, &client, &Request::new(Action::Get, place.path(&[])))?.value;
    let events = in_order(&mut list);
    if events.is_empty() && args.format.format() == Format::Table {
        ui.status("there are none");
        return Ok(());
    }
    show(ui, args, events, Head::Shown)
}

fn show(
    ui: &mut Ui,
    args: &EventsArgs,
    events: Vec<Value>,
    head: Head,
) -> Result<(), CommandError> {
    match args.format.format() {
        Format::Table | Format::Wide => table(&events, args.namespaces.is_all()).print(ui, head),
        format if args.watch => events.into_iter().try_for_each(|event| {
            document_arguments::print(ui, &format, Together::OneAlone, vec![event])
        }),
        format => document_arguments::print(ui, &format, Together::List, events),
    }
}

/// Returns where the events about a document are.
pub(super) fn path_of(place: &Place) -> String {
    let name = place.name.as_deref().unwrap_or_default();
    let selector =
        format!("involvedObject.kind={},involvedObject.name={name}", place.resource.kind());
    // Those about what is in no namespace are in the one of everybody.
    let namespace = match place.resource.scope() {
        Scope::Namespaced => place.namespace.as_deref(),
        Scope::Cluster => Some(DEFAULT),
    };
    Place::of_all(Resource::Event, namespace).path(&[("fieldSelector", &selector)])
}

/// Returns the events of a list by their time.
pub(super) fn in_order(list: &mut Value) -> Vec<Value> {
    let mut events = documents_of(list.take());
    events.retain(|event| event["involvedObject"].is_object() || event["reason"].is_string());
    events.sort_by_key(time);
    events
}

/// Returns events as a table.
pub(super) fn table(events: &[Value], all_namespaces: bool) -> Table {
    let text = |value: &Value| value.as_str().unwrap_or_default().replace('\n', "\\n");
    let row = |event: &Value| {
        let about = &event["involvedObject"];
        let kind = text(&about["kind"]).to_ascii_lowercase();
        let mut row = vec![
            since(&time(event)),
            text(&event["type"]),
            text(&event["reason"]),
            format!("{kind}/{}", text(&about["name"])),
            text(&event["message"]),
        ];
        if all_namespaces {
            row.insert(0, text(&event["metadata"]["namespace"]));
        }
        row
    };
    let columns = ["NAMESPACE", "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
    let shown = if all_namespaces { &columns[..] } else { &columns[1..] };
    Table::new(shown, events.iter().map(row).collect())
}

/// Returns when an event happened last, as it is written: all of them in one form, so that they are in order.
fn time(event: &Value) -> String {
    let places =
        [&event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
    places.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
}

fn since(time: &str) -> String {
    let Ok(time) = humantime::parse_rfc3339_weak(time) else { return "unknown".to_owned() };
    let passed = SystemTime::now().duration_since(time).unwrap_or_default();
    format!("{} ago", times::span(passed.as_secs()))
}
