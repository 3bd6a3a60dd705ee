//! Documents as they change.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use strongroom_server::client::{Action, Client, Failure, FailureKind, Form, Place, Request};

use crate::command_error::CommandError;

/// What is seen of documents.
#[derive(Debug)]
pub(crate) enum Seen {
    /// All that there are: a list, or a table. It comes first, and again when changes were missed.
    All(Value),
    /// What happened to one (`ADDED`, `MODIFIED`, `DELETED`), and the document or its table.
    Change(String, Value),
}

/// Whose changes are followed, and for how long.
#[derive(Debug)]
pub(crate) struct Following<'a> {
    pub(crate) client: &'a Client,
    pub(crate) place: &'a Place,
    /// What their labels have to be.
    pub(crate) selector: Option<&'a str>,
    pub(crate) form: Form,
    /// Until when; `None` for ever.
    pub(crate) until: Option<Instant>,
}

impl Following<'_> {
    /// Lists what there is, and tells of each change after it, until `see` has seen enough or time is over.
    /// A server that is away for a while is waited for.
    ///
    /// # Errors
    ///
    /// What the server says, and what `see` does.
    pub(crate) fn run(
        &self,
        see: &mut dyn FnMut(Seen) -> Result<ControlFlow<()>, CommandError>,
    ) -> Result<(), CommandError> {
        loop {
            let all = self.client.ask(&self.request(self.path(&[])))?.value;
            let mut version = version(&all).unwrap_or_default();
            if see(Seen::All(all))?.is_break() {
                return Ok(());
            }
            let mut broken: Option<Instant> = None;
            loop {
                if self.left().is_some_and(|left| left.is_zero()) {
                    return Ok(());
                }
                match self.changes(&mut version, see) {
                    Ok(ControlFlow::Break(())) => return Ok(()),
                    Ok(ControlFlow::Continue(())) => broken = None,
                    Err(Trouble::Failure(failure)) if failure.kind == FailureKind::Expired => break,
                    Err(Trouble::Failure(failure))
                        if failure.kind == FailureKind::Unreachable
                            && broken.get_or_insert_with(Instant::now).elapsed() < PATIENCE =>
                    {
                        thread::sleep(BETWEEN_TRIES);
                    }
                    Err(Trouble::Failure(failure)) => return Err(failure.into()),
                    Err(Trouble::Command(error)) => return Err(error),
                }
            }
        }
    }

    /// Tells of changes until the server ends the stream.
    fn changes(
        &self,
        version: &mut String,
        see: &mut dyn FnMut(Seen) -> Result<ControlFlow<()>, CommandError>,
    ) -> Result<ControlFlow<()>, Trouble> {
        let seconds =
            self.left().map_or(LONGEST, |left| left.as_secs().clamp(1, LONGEST)).to_string();
        let since = version.clone();
        let path = self.path(&[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", &since),
            ("timeoutSeconds", &seconds),
        ]);
        let stream = self.client.watch(&self.request(path));
        for change in stream.map_err(Trouble::Failure)? {
            let (happened, object) = change.map_err(Trouble::Failure)?;
            if let Some(newer) = self::version(&object) {
                *version = newer;
            }
            if happened == "BOOKMARK" {
                continue;
            }
            if see(Seen::Change(happened, object)).map_err(Trouble::Command)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Returns the path of all documents, with a query that lets only the wanted ones through.
    fn path(&self, query: &[(&str, &str)]) -> String {
        let mut query = query.to_vec();
        let selector = self.place.name.as_ref().map(|name| format!("metadata.name={name}"));
        if let Some(selector) = &selector {
            query.push(("fieldSelector", selector));
        }
        if let Some(selector) = self.selector {
            query.push(("labelSelector", selector));
        }
        Place { name: None, ..self.place.clone() }.path(&query)
    }

    fn request(&self, path: String) -> Request {
        Request { form: self.form, ..Request::new(Action::Get, path) }
    }

    fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

enum Trouble {
    Failure(Failure),
    Command(CommandError),
}

/// Returns the version of the server's documents that an object is of.
fn version(object: &Value) -> Option<String> {
    let own = &object["metadata"]["resourceVersion"];
    let row = &object["rows"][0]["object"]["metadata"]["resourceVersion"];
    [own, row]
        .into_iter()
        .filter_map(Value::as_str)
        .find(|text| !text.is_empty())
        .map(str::to_owned)
}

/// How long a server may be away.
const PATIENCE: Duration = Duration::from_secs(30);

const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// How many seconds one stream lasts at most.
const LONGEST: u64 = 300;
