//! Which documents a command is about, and how they are printed.

use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};
use strongroom_model::dialect::resource::{Resource, Scope};
use strongroom_server::client::{Client, Place};

use super::json_path::Template;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::server_arguments::ServerArgs;
use crate::ui::{Output, Ui};
use crate::yaml::yaml;

/// In which namespace
#[derive(Debug, Args)]
pub(crate) struct NamespaceArgs {
    /// The namespace [default: that of the document, or default]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

/// In which namespace, which server is asked, and how the answer is printed
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    server: ServerArgs,
}

/// In which namespaces
#[derive(Debug, Args)]
pub(crate) struct NamespacesArgs {
    /// The namespace [default: default]
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    namespace: Option<String>,

    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// How documents are printed
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Print them in this form: table, wide (a table with all columns), yaml, json, name, or
    /// jsonpath=TEMPLATE, such as `jsonpath={.status.phase}`
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,

    /// Print JSON, as --output json does
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// In which form documents are printed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// A table, with the columns that matter most.
    Table,
    /// A table with all columns.
    Wide,
    /// Whole documents, as YAML.
    Yaml,
    /// Whole documents, as JSON.
    Json,
    /// Their names.
    Name,
    /// What a template finds in them.
    JsonPath(Template),
}

impl CallArgs {
    /// Returns how the answer is printed.
    pub(crate) fn output(&self) -> Output {
        self.output.output()
    }

    /// Returns a way to the server.
    ///
    /// # Errors
    ///
    /// As [`ServerArgs::client`].
    pub(crate) fn client(&self) -> Result<Client, CommandError> {
        self.server.client()
    }
}

impl NamespaceArgs {
    /// Returns the namespace that somebody named.
    pub(crate) fn named(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Returns the namespace to look into.
    pub(crate) fn or_default(&self) -> &str {
        self.named().unwrap_or(DEFAULT)
    }
}

impl NamespacesArgs {
    /// Returns the namespace to look into, `None` for all of them.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self.all_namespaces {
            true => None,
            false => Some(self.namespace.as_deref().unwrap_or(DEFAULT)),
        }
    }

    /// Returns whether documents of several namespaces may be printed.
    pub(crate) fn is_all(&self) -> bool {
        self.all_namespaces
    }
}

impl FormatArgs {
    /// Returns in which form documents are printed.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output.clone() }
    }
}

impl Format {
    /// Returns whether it is a table.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "table" => Self::Table,
            "wide" => Self::Wide,
            "yaml" => Self::Yaml,
            "json" => Self::Json,
            "name" => Self::Name,
            other => match other.strip_prefix("jsonpath=") {
                Some(template) => Self::JsonPath(template.parse()?),
                None => {
                    return Err(
                        "there are table, wide, yaml, json, name and jsonpath=TEMPLATE".to_owned()
                    );
                }
            },
        })
    }
}

/// Returns the places that words name: `RESOURCE`, `RESOURCE NAME…` or `RESOURCE/NAME…`, with several kinds as
/// `RESOURCE,RESOURCE`.
///
/// # Errors
///
/// When there is no such kind, or both ways are mixed.
pub(crate) fn places(
    words: &[String],
    namespace: Option<&str>,
) -> Result<Vec<Place>, CommandError> {
    let (first, rest) = words.split_first().ok_or_else(|| {
        CommandError::request("no kind of document is named")
            .hinted(format!("there are {}", known_kinds()))
    })?;
    let place = |resource: Resource, name: &str| -> Result<Place, CommandError> {
        if namespace.is_none() && resource.scope() == Scope::Namespaced {
            let problem = format!("{name} is a name in one namespace, and not in all of them");
            return Err(CommandError::request(problem).hinted("name it with -n NAMESPACE"));
        }
        Ok(Place::of_one(resource, namespace, name))
    };
    if !first.contains('/') {
        let kinds = first.split(',').map(resource).collect::<Result<Vec<_>, _>>()?;
        if let Some(other) = rest.iter().find(|word| word.contains('/')) {
            let problem = format!("{other} is no name: names stand behind {first} without a kind");
            return Err(CommandError::request(problem)
                .hinted(format!("name each document with its kind: {first}/NAME {other}")));
        }
        return match rest {
            [] => Ok(kinds.into_iter().map(|kind| Place::of_all(kind, namespace)).collect()),
            names => kinds
                .into_iter()
                .flat_map(|kind| names.iter().map(move |name| (kind, name)))
                .map(|(kind, name)| place(kind, name))
                .collect(),
        };
    }
    words
        .iter()
        .map(|word| {
            let (kind, name) = word.split_once('/').ok_or_else(|| {
                CommandError::request(format!("{word} is not of the form RESOURCE/NAME"))
            })?;
            place(resource(kind)?, name)
        })
        .collect()
}

/// Returns the kind that a word names.
///
/// # Errors
///
/// When there is none.
pub(crate) fn resource(word: &str) -> Result<Resource, CommandError> {
    Resource::of_word(word).ok_or_else(|| {
        CommandError::request(format!("there is no kind of document that is called {word:?}"))
            .hinted(format!("there are {}", known_kinds()))
    })
}

fn known_kinds() -> String {
    let known: Vec<&str> = Resource::ALL.iter().map(|found| found.plural()).collect();
    known.join(", ")
}

/// Returns what a document is called: `backingimage.longhorn.io/ubuntu`, `secret/key`.
pub(crate) fn title(resource: Resource, name: &str) -> String {
    let kind = resource.kind().to_ascii_lowercase();
    match resource.group() {
        "" => format!("{kind}/{name}"),
        group => format!("{kind}.{group}/{name}"),
    }
}

/// Returns what a document at a place is called.
pub(crate) fn title_at(place: &Place) -> String {
    title(place.resource, place.name.as_deref().unwrap_or_default())
}

/// Returns what a document as the API sends it is called.
pub(crate) fn title_of(document: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&document["metadata"]["name"]);
    match Resource::of_document(&text(&document["apiVersion"]), &text(&document["kind"])) {
        Some(resource) => title(resource, &name),
        None => name,
    }
}

/// How several documents are held together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Together {
    /// As a list, however many they are.
    List,
    /// As a list if they are not one.
    OneAlone,
}

/// Prints whole documents, or their names.
///
/// # Errors
///
/// When standard output cannot be written.
pub(crate) fn print(
    ui: &mut Ui,
    format: &Format,
    together: Together,
    mut documents: Vec<Value>,
) -> Result<(), CommandError> {
    if *format == Format::Name {
        return documents.iter().try_for_each(|document| ui.data(&title_of(document)));
    }
    let value = match (together, documents.pop()) {
        (Together::OneAlone, Some(document)) if documents.is_empty() => document,
        (_, last) => {
            documents.extend(last);
            json!({ "apiVersion": "v1", "kind": "List", "items": documents })
        }
    };
    match format {
        Format::Json => ui.json(&value),
        // A template says itself where lines end.
        Format::JsonPath(template) => ui.text(&template.render(&value)),
        _ => ui.data(yaml(&value).trim_end_matches('\n')),
    }
}

/// The namespace of what says nothing about it.
pub(crate) const DEFAULT: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn forms_are_read_and_what_is_none_is_told_what_there_is() {
        assert_eq!("wide".parse(), Ok(Format::Wide));
        assert!(matches!("jsonpath={.a}".parse(), Ok(Format::JsonPath(_))));
        assert!("jsonpath={.a".parse::<Format>().unwrap_err().contains("brace"));
        assert!("xml".parse::<Format>().unwrap_err().contains("table, wide, yaml"));
    }

    #[test]
    fn documents_are_named_in_both_ways() {
        let of = |text: &str| places(&words(text), Some("lab"));
        let image = Place::of_one(Resource::BackingImage, Some("lab"), "a");
        for text in ["backingimage a", "lhbi/a", "backingimages.longhorn.io/a"] {
            assert_eq!(of(text).unwrap(), std::slice::from_ref(&image), "{text}");
        }
        assert_eq!(of("pvc a sc/b").unwrap_err().kind(), strongroom::ErrorKind::Request);
        assert_eq!(of("pvc/a b").unwrap_err().kind(), strongroom::ErrorKind::Request);
        assert_eq!(of("pvc/a sc/b").unwrap().len(), 2);
        assert_eq!(of("sc b").unwrap()[0].namespace, None);
        let both = [Resource::PersistentVolumeClaim, Resource::PersistentVolume];
        let kinds = |text: &str| of(text).unwrap().iter().map(|at| at.resource).collect::<Vec<_>>();
        assert_eq!(kinds("pvc,pv"), both);
        assert_eq!(kinds("pvc,pv a"), both);
        assert_eq!(of("pvc,pv a b").unwrap().len(), 4);
        assert!(of("pvc,").is_err());
        assert!(of("nothing").is_err());
        assert!(of("").is_err());
        assert!(places(&words("pvc a"), None).is_err());
        assert!(places(&words("pvc"), None).is_ok());
        assert_eq!(title(Resource::Secret, "key"), "secret/key");
        assert_eq!(title(Resource::BackingImage, "a"), "backingimage.longhorn.io/a");
    }
}
