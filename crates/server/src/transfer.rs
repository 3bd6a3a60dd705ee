//! The bytes of images over HTTP, in both directions, without a copy in between; and volumes on the machine
//! of the server (`/v1/volumes/NAMESPACE/CLAIM/attachment`).
//!
//! Images are at `/v1/images/NAMESPACE/NAME/data`, where the name is that of a BackingImage or of a
//! VirtualMachineImage:
//!
//! - `GET` returns the stored bytes, whole or a `Range` of them; `HEAD` how many there are, and of an upload
//!   that goes on how many have come (`Upload-Offset`).
//! - `PUT` with the whole file (`curl -T disk.qcow2 URL`) begins anew and ends the upload.
//! - `PUT` or `PATCH` of a part, with `Content-Range: bytes A-B/TOTAL`, or with `Upload-Offset` after a `POST`
//!   with `Upload-Length`, goes on with it; the last part ends it.
//!
//! What has come is durable when it is answered, also when the connection breaks: `HEAD` tells where to go on.

mod attachment;
mod body;
mod download;
mod place;
mod refusal;
mod upload;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use self::attachment::Asked;
use self::place::Place;
use self::refusal::Refusal;
use crate::Context;
use crate::access::Caller;

/// Returns the paths of images' bytes. Whoever asks was let in before.
pub(crate) fn routes(context: Context) -> Router {
    let images = get(read).head(stand).put(take).patch(take).post(take);
    Router::new()
        .route("/v1/images/{namespace}/{name}/data", images)
        .route(
            "/v1/volumes/{namespace}/{name}/attachment",
            get(attachment).put(attach).delete(detach),
        )
        .with_state(Arc::new(context))
}

type Named = Path<(String, String)>;

async fn read(
    State(context): State<Arc<Context>>,
    Path((namespace, name)): Named,
    request: axum::extract::Request,
) -> Response {
    let actor = actor(&request);
    let headers = request.headers().clone();
    let found = blocking(move || {
        let place = Place::find(&context, &namespace, &name)?;
        download::Download::open(&context, &place, &headers, &actor)
    });
    match found.await {
        Ok(download) => download.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn stand(State(context): State<Arc<Context>>, Path((namespace, name)): Named) -> Response {
    let found = blocking(move || {
        let place = Place::find(&context, &namespace, &name)?;
        download::stand(&context, &place)
    });
    found.await.unwrap_or_else(Refusal::into_response)
}

async fn take(
    State(context): State<Arc<Context>>,
    Path((namespace, name)): Named,
    request: axum::extract::Request,
) -> Response {
    let actor = actor(&request);
    let awaits = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let shared = Arc::clone(&context);
    let admitted = blocking(move || {
        let part = upload::Part::read(&head.headers, head.method == Method::POST)?;
        upload::admit(&shared, Place::find(&shared, &namespace, &name)?, part)
    });
    let upload = match admitted.await {
        Ok(upload) => upload,
        Err(refusal) => {
            // Nobody has told a client that waits for it to go on.
            if !awaits {
                body::discard(body).await;
            }
            return refusal.into_response();
        }
    };
    let (reader, pump) = body::pump(body);
    let taken = blocking(move || upload.take(&context, reader, &actor));
    let (taken, ()) = tokio::join!(taken, pump);
    taken.unwrap_or_else(Refusal::into_response)
}

async fn attachment(
    State(context): State<Arc<Context>>,
    Path(named): Named,
    request: axum::extract::Request,
) -> Response {
    let asked = asked(named, &request);
    blocking(move || asked.look(&context)).await.unwrap_or_else(Refusal::into_response)
}

async fn attach(
    State(context): State<Arc<Context>>,
    Path(named): Named,
    request: axum::extract::Request,
) -> Response {
    let asked = asked(named, &request);
    let Ok(body) = axum::body::to_bytes(request.into_body(), MOST_WORDS).await else {
        return Refusal::bad_request("the body does not come, or is too large").into_response();
    };
    blocking(move || asked.attach(&context, &body)).await.unwrap_or_else(Refusal::into_response)
}

async fn detach(
    State(context): State<Arc<Context>>,
    Path(named): Named,
    request: axum::extract::Request,
) -> Response {
    let asked = asked(named, &request);
    blocking(move || asked.detach(&context)).await.unwrap_or_else(Refusal::into_response)
}

fn asked((namespace, claim): (String, String), request: &axum::extract::Request) -> Asked {
    Asked { namespace, claim, caller: request.extensions().get::<Caller>().cloned() }
}

/// Returns who asks, for the audit log.
fn actor(request: &axum::extract::Request) -> String {
    let caller = request.extensions().get::<Caller>();
    caller.map_or_else(|| "somebody".to_owned(), Caller::actor)
}

/// Runs what may block on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Refusal::internal()),
    }
}

/// The longest body that says how a volume shall appear, in bytes.
const MOST_WORDS: usize = 64 << 10;

#[cfg(test)]
mod tests;
