//! `strongroom get`

pub(crate) mod table;

use std::ops::ControlFlow;

use clap::Args;
use serde_json::Value;
use strongroom_server::client::{Action, Client, Failure, Form, Place, Request};

use self::table::{Head, Table};
use super::document_arguments::{self, Format, FormatArgs, NamespacesArgs, Together, title};
use super::following::{Following, Seen};
use super::json_path::{self, Path};
use super::selection::{SelectArgs, listed};
use crate::command_error::CommandError;
use crate::server_arguments::{ServerArgs, ask};
use crate::ui::Ui;

/// List documents of a kind, or show some of them
///
/// Values of Secrets are never shown: a server does not give them out.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    selection: SelectArgs,

    #[command(flatten)]
    namespaces: NamespacesArgs,

    #[command(flatten)]
    format: FormatArgs,

    /// Show those of each kind in the order of what a path leads to: `.metadata.creationTimestamp`
    #[arg(long, value_name = "PATH", conflicts_with = "watch")]
    sort_by: Option<Path>,

    /// Go on and show each change, until interrupted
    #[arg(short, long)]
    watch: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// Shows documents.
///
/// # Errors
///
/// What the server says.
pub(crate) fn run(ui: &mut Ui, args: &GetArgs) -> Result<(), CommandError> {
    let places = args.selection.places(args.namespaces.namespace())?;
    let client = args.server.client()?;
    let format = args.format.format();
    if args.watch {
        let [place] = &places[..] else {
            return Err(CommandError::request("several documents cannot be watched at once")
                .hinted("name one, or one kind alone for all of them"));
        };
        return watch(ui, args, &client, place, &format);
    }
    match format {
        Format::Table | Format::Wide => tables(ui, args, &client, &places, &format),
        format => whole(ui, args, &client, &places, &format),
    }
}

fn whole(
    ui: &mut Ui,
    args: &GetArgs,
    client: &Client,
    places: &[Place],
    format: &Format,
) -> Result<(), CommandError> {
    let (mut documents, mut missing) = (Vec::new(), None);
    for place in places {
        let request = Request::new(Action::Get, listed(place, args.selection.selector()));
        match ask(ui, client, &request) {
            Ok(answer) => {
                let mut found = documents_of(answer.value);
                if let Some(path) = &args.sort_by {
                    sort(&mut found, path, |document| document);
                }
                documents.extend(found);
            }
            Err(failure) => {
                CommandError::keep_last(&mut missing, ui, args.selection.explained(failure));
            }
        }
    }
    if documents.is_empty()
        && let Some(missing) = missing
    {
        return Err(missing);
    }
    // A list stays one, however long it is.
    let is_list = places.iter().any(|place| place.name.is_none());
    let together = if is_list { Together::List } else { Together::OneAlone };
    document_arguments::print(ui, format, together, documents)?;
    missing.map_or(Ok(()), Err)
}

/// Puts documents, or what holds them, in the order of what a path leads to in each.
fn sort<T>(items: &mut [T], path: &Path, document: impl Fn(&T) -> &Value) {
    items.sort_by(|one, other| {
        let first = |item| path.find(document(item)).into_iter().next().unwrap_or(&Value::Null);
        json_path::compare(first(one), first(other))
    });
}

fn tables(
    ui: &mut Ui,
    args: &GetArgs,
    client: &Client,
    places: &[Place],
    format: &Format,
) -> Result<(), CommandError> {
    let (mut whole, mut missing): (Option<Table>, _) = (None, None);
    let several =
        places.iter().any(|place| Some(place.resource) != places.first().map(|at| at.resource));
    for place in places {
        let value = match rows(ui, args, client, place) {
            Ok(value) => value,
            Err(failure) => {
                CommandError::keep_last(&mut missing, ui, args.selection.explained(failure));
                continue;
            }
        };
        let mut table = Table::of(&value, format, args.namespaces.is_all());
        if several {
            table.name_with(|name| title(place.resource, name));
        }
        match &mut whole {
            Some(whole) if whole.has_same_columns(&table) => whole.append(table),
            // A kind of which there are none needs no columns of its own.
            Some(_) if table.is_empty() => {}
            Some(before) if before.is_empty() => whole = Some(table),
            Some(before) => {
                before.print(ui, Head::Shown)?;
                ui.data("")?;
                whole = Some(table);
            }
            None => whole = Some(table),
        }
    }
    match whole {
        Some(table) if !table.is_empty() => table.print(ui, Head::Shown)?,
        _ if missing.is_none() => ui.status("there are none"),
        _ => {}
    }
    missing.map_or(Ok(()), Err)
}

/// Returns the rows of documents, in the order that is wanted.
fn rows(ui: &mut Ui, args: &GetArgs, client: &Client, place: &Place) -> Result<Value, Failure> {
    let mut path = listed(place, args.selection.selector());
    if args.sort_by.is_some() {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str("includeObject=Object");
    }
    let request = Request { form: Form::Table, ..Request::new(Action::Get, path) };
    let mut value = ask(ui, client, &request)?.value;
    if let (Some(path), Some(rows)) = (&args.sort_by, value["rows"].as_array_mut()) {
        sort(rows, path, |row| &row["object"]);
    }
    Ok(value)
}

fn watch(
    ui: &mut Ui,
    args: &GetArgs,
    client: &Client,
    place: &Place,
    format: &Format,
) -> Result<(), CommandError> {
    let is_table = format.is_table();
    let form = if is_table { Form::Table } else { Form::Documents };
    let mut head = Head::Shown;
    let mut columns: Option<Table> = None;
    let selector = args.selection.selector();
    let following = Following { client, place, selector, form, until: None };
    following.run(&mut |seen| {
        let value = match seen {
            Seen::All(value) | Seen::Change(_, value) => value,
        };
        if !is_table {
            for document in documents_of(value) {
                match format {
                    // Each change is a line, whether the template ends it or not.
                    Format::JsonPath(template) => {
                        ui.data(template.render(&document).trim_end_matches('\n'))?;
                    }
                    format => {
                        document_arguments::print(ui, format, Together::OneAlone, vec![document])?;
                    }
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        let mut table = Table::of(&value, format, args.namespaces.is_all());
        // Only the first tables of a stream need to say what their columns are.
        table.take_columns(columns.as_ref());
        if !table.is_empty() {
            table.print(ui, head)?;
            head = Head::Left;
        }
        columns = Some(table);
        Ok(ControlFlow::Continue(()))
    })
}

/// Returns the documents of a list, or the one that it is.
pub(super) fn documents_of(mut value: Value) -> Vec<Value> {
    let api_version = value["apiVersion"].clone();
    let listed =
        value["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).map(str::to_owned);
    let (Some(kind), Some(Value::Array(items))) = (listed, value.get_mut("items").map(Value::take))
    else {
        return vec![value];
    };
    // What is in a list of one kind need not say its kind.
    items
        .into_iter()
        .map(|mut item| {
            if item.get("kind").is_none()
                && let Value::Object(fields) = item
            {
                let mut whole = serde_json::Map::new();
                whole.insert("apiVersion".to_owned(), api_version.clone());
                whole.insert("kind".to_owned(), kind.clone().into());
                whole.extend(fields);
                item = Value::Object(whole);
            }
            item
        })
        .collect()
}
