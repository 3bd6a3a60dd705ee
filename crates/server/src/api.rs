//! The HTTP API: documents in the shapes of Kubernetes' API, and what else a server is asked.

mod asked;
mod deleting;
mod discovery;
pub(crate) mod endpoint;
mod failure;
mod gate;
mod health;
mod house;
mod jobs;
pub(crate) mod libvirt;
mod openapi;
mod patch;
mod protobuf;
mod reading;
mod selector;
mod table;
mod target;
mod tokens;
mod watching;
mod writing;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use strongroom::audit::Act;
use tokio::sync::{Semaphore, watch};

pub(crate) use self::failure::Why;
use self::failure::{Answer, Failure};
pub(crate) use self::target::{Target, Verb};
use crate::access::{Access, Caller, Token};
use crate::metrics::Metrics;
use crate::{Context, Log, room};

/// What every request works with.
pub(crate) struct Api {
    context: Context,
    access: Access,
    log: Log,
    metrics: Metrics,
    /// Held from the admission of a document until it is kept, so that what one was admitted by is still
    /// there then.
    admitting: Mutex<()>,
    /// Becomes true when watches have to end.
    stopping: watch::Receiver<bool>,
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

impl Api {
    /// Returns what requests work with.
    ///
    /// # Errors
    ///
    /// When the tokens cannot be read.
    pub(crate) fn new(
        context: Context,
        access: Access,
        stopping: watch::Receiver<bool>,
        log: Log,
    ) -> Self {
        Self {
            context,
            access,
            log,
            metrics: Metrics::default(),
            admitting: Mutex::new(()),
            stopping,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            watches: Arc::new(Semaphore::new(WATCHES)),
        }
    }

    /// Records an act before it is done.
    ///
    /// # Errors
    ///
    /// When it could not be recorded: then it must not be done.
    fn record(&self, caller: &Caller, verb: &str, subject: &str, detail: &str) -> Answer<()> {
        let act = Act {
            actor: caller.actor(),
            verb: verb.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
        };
        self.context.audit.record(&act).map_err(|error| match room::is_lacking(&error) {
            true => Failure::no_room(
                "the audit log has no room, so nothing was done: the data directory is full",
            ),
            false => Failure::unavailable("the audit log cannot be written, so nothing was done"),
        })
    }

    /// Tells whether somebody who was let in would be let in now, with the same rights. The admin of the
    /// data directory always is.
    fn still_knows(&self, caller: &Caller) -> bool {
        let is_same = |token: &Token| {
            token.name == caller.name
                && token.role == caller.role
                && token.namespaces == caller.namespaces
        };
        caller.name == ADMIN || self.access.tokens().iter().any(is_same)
    }

    fn admitting(&self) -> MutexGuard<'_, ()> {
        self.admitting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the whole API, with what moves bytes beside it.
pub(crate) fn router(api: &Arc<Api>, transfer: Router) -> Router {
    let ours = endpoint::routes(house::endpoints())
        .fallback(asked::documents)
        .method_not_allowed_fallback(async || Failure::method())
        .with_state(Arc::clone(api));
    ours.merge(transfer).layer(from_fn_with_state(Arc::clone(api), gate::pass))
}

/// Returns a JSON answer.
fn json(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Runs what may block on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::internal()),
    }
}

/// Returns what the bytes of a body are.
///
/// # Errors
///
/// When they are too many, or do not come.
async fn body_of(body: Body) -> Answer<bytes::Bytes> {
    match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, LARGEST_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Failure::too_large(LARGEST_BODY)),
        Err(_) => Err(Failure::timeout()),
    }
}

/// What the token in the data directory is called; nobody else's may be.
const ADMIN: &str = "admin";

/// The largest document in bytes.
const LARGEST_BODY: usize = 1 << 20;

/// How long a document may take to come.
const BODY_TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// Requests that are answered at the same time.
const REQUESTS: usize = 256;

/// Watches that are open at the same time.
const WATCHES: usize = 512;
