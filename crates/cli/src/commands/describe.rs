//! `strongroom describe`

mod encryption;

use clap::Args;
use serde_json::{Map, Value, json};
use strongroom_model::dialect::resource::{Resource, Scope};
use strongroom_server::client::{Action, Client, Place, Request};

use super::document_arguments::CallArgs;
use super::events;
use super::get::table::{Head, Table};
use super::selection::{SelectArgs, Unnamed};
use crate::command_error::CommandError;
use crate::server_arguments::ask;
use crate::ui::{Output, Ui};
use crate::yaml::yaml;

/// Show all that is known of documents: their fields, conditions and events
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    selection: SelectArgs,

    #[command(flatten)]
    call: CallArgs,
}

/// Shows documents.
///
/// # Errors
///
/// What the server says.
pub(crate) fn run(ui: &mut Ui, args: &DescribeArgs) -> Result<(), CommandError> {
    let client = args.call.client()?;
    let places =
        args.selection.each(ui, &client, args.call.namespace.or_default(), Unnamed::All)?;
    if places.is_empty() {
        ui.status("there are none");
    }
    let mut values = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let request = Request::new(Action::Get, place.path(&[]));
        let document = ask(ui, &client, &request)?.value;
        let events = events_of(ui, &client, place)?;
        match args.call.output() {
            Output::Json => values.push(json!({ "object": document, "events": events })),
            Output::Text => {
                if number > 0 {
                    ui.data("")?;
                }
                let read = &mut |place: &Place| {
                    // Who may not read it is told what the document itself says.
                    let request = Request::new(Action::Get, place.path(&[]));
                    client.ask(&request).ok().map(|answer| answer.value)
                };
                let encryption = encryption::words(place.resource, &document, read);
                head(ui, place.resource, &document, encryption.as_deref())?;
                body(ui, place.resource, &document)?;
                show_events(ui, &events)?;
            }
        }
    }
    match args.call.output() {
        Output::Json if values.len() == 1 => ui.json(&values.remove(0)),
        Output::Json => ui.json(&json!({ "items": values })),
        Output::Text => Ok(()),
    }
}

fn events_of(ui: &mut Ui, client: &Client, place: &Place) -> Result<Vec<Value>, CommandError> {
    let mut list = ask(ui, client, &Request::new(Action::Get, events::path_of(place)))?.value;
    Ok(events::in_order(&mut list))
}

fn head(
    ui: &mut Ui,
    resource: Resource,
    document: &Value,
    encryption: Option<&str>,
) -> Result<(), CommandError> {
    let metadata = &document["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    row(ui, "Name", &text(&metadata["name"]))?;
    if resource.scope() == Scope::Namespaced {
        row(ui, "Namespace", &text(&metadata["namespace"]))?;
    }
    row(ui, "Kind", &format!("{} ({})", resource.kind(), resource.api_version()))?;
    row(ui, "Created", &text(&metadata["creationTimestamp"]))?;
    if metadata.get("deletionTimestamp").is_some() {
        row(ui, "Being deleted", &text(&metadata["deletionTimestamp"]))?;
    }
    if let Some(encryption) = encryption {
        row(ui, "Encryption", encryption)?;
    }
    for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
        section(ui, key, &without_bookkeeping(&metadata[key]))?;
    }
    Ok(())
}

fn body(ui: &mut Ui, resource: Resource, document: &Value) -> Result<(), CommandError> {
    for (key, value) in document.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" | "metadata" | "status" => {}
            "data" if resource == Resource::Secret => {
                let keys: Vec<&String> =
                    value.as_object().into_iter().flat_map(Map::keys).collect();
                section(ui, "keys (their values are not given out)", &json!(keys))?;
            }
            key => section(ui, key, value)?,
        }
    }
    let mut status = document["status"].clone();
    let conditions = status.as_object_mut().and_then(|status| status.shift_remove("conditions"));
    drop_empty(&mut status);
    section(ui, "status", &status)?;
    show_conditions(ui, &conditions.unwrap_or_default())
}

fn show_events(ui: &mut Ui, events: &[Value]) -> Result<(), CommandError> {
    if events.is_empty() {
        return row(ui, "Events", "none");
    }
    ui.data("Events:")?;
    events::table(events, false).print(ui, Head::Shown)
}

fn show_conditions(ui: &mut Ui, conditions: &Value) -> Result<(), CommandError> {
    let Some(conditions) = conditions.as_array().filter(|found| !found.is_empty()) else {
        return Ok(());
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().replace('\n', "\\n");
    let keys = ["type", "status", "lastTransitionTime", "reason", "message"];
    let rows = conditions.iter().map(|found| keys.iter().map(|key| text(&found[*key])).collect());
    ui.data("Conditions:")?;
    Table::new(&["TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"], rows.collect())
        .print(ui, Head::Shown)
}

fn row(ui: &mut Ui, name: &str, value: &str) -> Result<(), CommandError> {
    ui.data(&format!("{:<15} {}", format!("{name}:"), value.replace('\n', "\\n")))
}

/// Shows a part of a document, unless there is nothing in it.
fn section(ui: &mut Ui, name: &str, value: &Value) -> Result<(), CommandError> {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let name: String = first.into_iter().chain(letters).collect();
    match value {
        Value::Null => Ok(()),
        Value::Object(fields) if fields.is_empty() => Ok(()),
        Value::Array(items) if items.is_empty() => Ok(()),
        Value::Object(_) | Value::Array(_) => {
            ui.data(&format!("{name}:"))?;
            yaml(value).lines().try_for_each(|line| ui.data(&format!("  {line}")))
        }
        other => row(ui, &name, yaml(other).trim_end()),
    }
}

/// Returns annotations without what `apply` keeps in them, which says everything twice.
fn without_bookkeeping(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove(super::apply::LAST_APPLIED);
    }
    value
}

/// Takes texts out that are empty: they say nothing.
fn drop_empty(value: &mut Value) {
    let Some(fields) = value.as_object_mut() else { return };
    fields.retain(|_, value| *value != "");
    fields.values_mut().for_each(drop_empty);
}
