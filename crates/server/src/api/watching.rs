//! Changes, as a stream of JSON documents.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use strongroom_model::dialect::object::Object;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::asked::{Asked, Shape};
use super::failure::{Answer, Failure};
use super::selector::Selector;
use super::table::Table;
use super::target::Target;
use super::{Api, json};
use crate::store::{Event, Happened, Store};

/// Begins a watch.
///
/// # Errors
///
/// When what it wants to hear of is forgotten, or there are too many.
pub(super) fn watch(api: &Api, asked: &Asked) -> Answer<Response> {
    let permit = Arc::clone(&api.watches).try_acquire_owned().map_err(|_| Failure::too_many())?;
    let store = &api.context.store;
    let target = asked.target.clone();
    let selector = Selector::of(&target, &asked.parameters)?.seen_by(&asked.caller);
    let all = asked.parameters.is_true("sendInitialEvents");
    let after = match asked.parameters.number("resourceVersion")? {
        Some(version) if version > 0 && !all => Some(version),
        _ => None,
    };
    let mut waiting = VecDeque::new();
    let table = (asked.shape == Shape::Table).then(|| Table::of(&target, &asked.parameters));
    let form = Form { target, table };
    let after = match after {
        Some(version) => {
            // What is forgotten is told at once, and not in a stream.
            store.changes(version, Duration::ZERO).map_err(|_| Failure::expired(version))?;
            version
        }
        None => {
            let (resource, namespace) = (form.target.resource, form.target.namespace.as_deref());
            let (found, version) = store.list(resource, namespace);
            let found = found.into_iter().filter(|object| selector.takes(object));
            waiting.extend(found.map(|object| form.line("ADDED", &object)));
            if all {
                waiting.push_back(form.bookmark(version, Initial::Ends));
            }
            version
        }
    };
    let seconds = asked.parameters.number("timeoutSeconds")?.unwrap_or(LONGEST).clamp(1, LONGEST);
    let (lines, stream) = mpsc::channel(LINES);
    let watching = Watching {
        store: store.clone(),
        newest: store.newest(),
        stopping: api.stopping.clone(),
        selector,
        form,
        bookmarks: asked.parameters.is_true("allowWatchBookmarks"),
        after,
        until: Instant::now() + Duration::from_secs(seconds),
        lines,
        _permit: permit,
    };
    tokio::spawn(watching.run(waiting));
    Ok(json(StatusCode::OK, Body::from_stream(ReceiverStream::new(stream))))
}

type Line = Result<Bytes, Infallible>;

/// A watch that goes on.
struct Watching {
    store: Store,
    newest: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    selector: Selector,
    form: Form,
    bookmarks: bool,
    after: u64,
    until: Instant,
    lines: mpsc::Sender<Line>,
    _permit: OwnedSemaphorePermit,
}

/// In which form changes are told.
struct Form {
    target: Target,
    table: Option<Table>,
}

/// Whether a bookmark says that everything that was there has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Initial {
    Ends,
    Ended,
}

impl Watching {
    /// Tells of changes until time is over, the server stops, or nobody listens.
    async fn run(mut self, mut waiting: VecDeque<Bytes>) {
        let mut bookmark = Instant::now() + BOOKMARKS;
        let mut stopping = self.stopping.clone();
        loop {
            self.newest.mark_unchanged();
            match self.store.changes(self.after, Duration::ZERO) {
                Ok(events) => {
                    for event in events {
                        self.after = event.version;
                        waiting.extend(self.line(&event));
                    }
                }
                Err(_) => {
                    let status = Failure::expired(self.after).status();
                    waiting.push_back(line(&json!({ "type": "ERROR", "object": status })));
                    self.send(waiting).await;
                    return;
                }
            }
            if !self.send(std::mem::take(&mut waiting)).await {
                return;
            }
            // Nothing is told of changes between the two looks at the store: the second is at the newest.
            if self.after < *self.newest.borrow() {
                continue;
            }
            tokio::select! {
                changed = self.newest.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(bookmark), if self.bookmarks => {
                    bookmark = Instant::now() + BOOKMARKS;
                    waiting.push_back(self.form.bookmark(self.after, Initial::Ended));
                }
                () = tokio::time::sleep_until(self.until) => {
                    if self.bookmarks {
                        let last = self.form.bookmark(self.after, Initial::Ended);
                        self.send(VecDeque::from([last])).await;
                    }
                    return;
                }
                () = self.lines.closed() => return,
                () = stop(&mut stopping) => return,
            }
        }
    }

    /// Sends lines; tells whether somebody still listens.
    async fn send(&mut self, waiting: VecDeque<Bytes>) -> bool {
        for line in waiting {
            tokio::select! {
                sent = self.lines.send(Ok(line)) => if sent.is_err() { return false },
                () = tokio::time::sleep(PATIENCE) => return false,
                () = stop(&mut self.stopping) => return false,
            }
        }
        true
    }

    /// Returns how a change looks to this watch, `None` when it is none of its business.
    fn line(&self, event: &Event) -> Option<Bytes> {
        if event.resource != self.form.target.resource {
            return None;
        }
        let was = event.before.as_ref().is_some_and(|before| self.selector.takes(before));
        let is = event.happened != Happened::Deleted && self.selector.takes(&event.object);
        let word = match (was, is) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        Some(self.form.line(word, &event.object))
    }
}

impl Form {
    fn line(&self, word: &str, object: &Object) -> Bytes {
        let Some(table) = &self.table else {
            let mut text = format!("{{\"type\":\"{word}\",\"object\":").into_bytes();
            serde_json::to_writer(&mut text, object).expect("a JSON value can always be written");
            text.extend_from_slice(b"}\n");
            return text.into();
        };
        let metadata = json!({ "resourceVersion": object.resource_version() });
        let table = table.whole(std::iter::once(object), &metadata);
        line(&json!({ "type": word, "object": table }))
    }

    fn bookmark(&self, version: u64, initial: Initial) -> Bytes {
        let mut metadata = json!({ "resourceVersion": version.to_string() });
        if initial == Initial::Ends {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = match &self.table {
            Some(table) => table.whole(std::iter::empty(), &metadata),
            None => json!({
                "kind": self.target.resource.kind(),
                "apiVersion": self.target.resource.api_version(),
                "metadata": metadata,
            }),
        };
        line(&json!({ "type": "BOOKMARK", "object": object }))
    }
}

/// Returns when the server stops.
pub(super) async fn stop(stopping: &mut watch::Receiver<bool>) {
    // Without anybody who could say so, it has.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

/// The longest watch in seconds.
const LONGEST: u64 = 3600;

/// Lines that wait for somebody who reads slowly.
const LINES: usize = 256;

/// How long somebody may read nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often somebody is told how far the store is.
const BOOKMARKS: Duration = Duration::from_secs(60);
