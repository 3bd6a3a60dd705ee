//! Which documents somebody means: by their names, by their labels, or all of a kind.

use clap::Args;
use serde_json::Value;
use strongroom_server::client::{Action, Client, Failure, FailureKind, Place, Request};

use super::document_arguments::places;
use super::get::documents_of;
use crate::command_error::CommandError;
use crate::server_arguments::ask;
use crate::ui::Ui;

/// Which documents
#[derive(Debug, Args)]
pub(crate) struct SelectArgs {
    /// The kind, or several of them, and names: `backingimages`, `pvc,pv`, `pvc data`, `secret/key volume/data`
    #[arg(value_name = "RESOURCE [NAME]")]
    words: Vec<String>,

    /// Those alone whose labels are so: `app=db,tier!=test`, `tier in (a,b)`, `tier notin (a,b)`, `app`, `!app`
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
}

/// Which documents, one by one
#[derive(Debug, Args)]
pub(crate) struct EachArgs {
    #[command(flatten)]
    selection: SelectArgs,

    /// All of the kind in the namespace
    #[arg(long, conflicts_with = "selector")]
    all: bool,
}

/// What a kind without names means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unnamed {
    /// All of its documents.
    All,
    /// Nothing: somebody has forgotten a name.
    Refused,
}

impl SelectArgs {
    /// Returns whether anything is said.
    pub(crate) fn is_given(&self) -> bool {
        !self.words.is_empty() || self.selector.is_some()
    }

    /// Returns the places that are named.
    ///
    /// # Errors
    ///
    /// When there is no such kind, or names come with labels.
    pub(crate) fn places(&self, namespace: Option<&str>) -> Result<Vec<Place>, CommandError> {
        let places = places(&self.words, namespace)?;
        if let (Some(selector), Some(name)) =
            (&self.selector, places.iter().find_map(|place| place.name.as_ref()))
        {
            let problem = format!("{name} is named, and its labels are not asked: {selector}");
            return Err(CommandError::request(problem).hinted("leave out the name, or -l"));
        }
        Ok(places)
    }

    /// Returns what the labels have to be.
    pub(crate) fn selector(&self) -> Option<&str> {
        self.selector.as_deref()
    }

    /// Returns a failure with what labels are asked for by, where that may be what is wrong.
    pub(crate) fn explained(&self, failure: Failure) -> CommandError {
        let is_about_labels = failure.kind == FailureKind::Request && self.selector.is_some();
        let error = CommandError::from(failure);
        match is_about_labels {
            true => error.hinted(
                "labels are asked for as KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or \
                 !KEY, with commas between",
            ),
            false => error,
        }
    }

    /// Returns a place for each document.
    ///
    /// # Errors
    ///
    /// As [`places`](Self::places); what the server says; and when no name is given and that means nothing.
    pub(crate) fn each(
        &self,
        ui: &mut Ui,
        client: &Client,
        namespace: &str,
        unnamed: Unnamed,
    ) -> Result<Vec<Place>, CommandError> {
        let mut each = Vec::new();
        for place in self.places(Some(namespace))? {
            if place.name.is_some() {
                each.push(place);
                continue;
            }
            if unnamed == Unnamed::Refused && self.selector.is_none() {
                let problem = format!("no {} is named", place.resource.kind());
                return Err(CommandError::request(problem).hinted(format!(
                    "`strongroom get {}` lists them; --all means all of them",
                    place.resource.plural()
                )));
            }
            let request = Request::new(Action::Get, listed(&place, self.selector()));
            let list = ask(ui, client, &request).map_err(|failure| self.explained(failure))?;
            each.extend(documents_of(list.value).iter().filter_map(|found| one(&place, found)));
        }
        Ok(each)
    }
}

impl EachArgs {
    /// Returns whether anything is said.
    pub(crate) fn is_given(&self) -> bool {
        self.selection.is_given() || self.all
    }

    /// Returns a place for each document.
    ///
    /// # Errors
    ///
    /// As [`SelectArgs::each`].
    pub(crate) fn each(
        &self,
        ui: &mut Ui,
        client: &Client,
        namespace: &str,
    ) -> Result<Vec<Place>, CommandError> {
        let unnamed = if self.all { Unnamed::All } else { Unnamed::Refused };
        if self.all {
            let named = self.selection.places(Some(namespace))?.into_iter();
            if let Some(name) = named.filter_map(|place| place.name).next() {
                let problem = format!("{name} is named, and --all means every one of its kind");
                return Err(CommandError::request(problem).hinted("leave out the name, or --all"));
            }
        }
        self.selection.each(ui, client, namespace, unnamed)
    }
}

/// Returns the path of documents, with what their labels have to be.
pub(crate) fn listed(place: &Place, selector: Option<&str>) -> String {
    let query: Vec<(&str, &str)> =
        selector.map(|selector| ("labelSelector", selector)).into_iter().collect();
    place.path(&query)
}

/// Returns the place of a document of a list.
fn one(all: &Place, found: &Value) -> Option<Place> {
    let text = |key: &str| found["metadata"][key].as_str();
    Some(Place::of_one(all.resource, text("namespace"), text("name")?))
}
