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
use axum::extract::{FromRef, Path, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::attachment::Asked;
use self::place::Place;
use self::refusal::Refusal;
use crate::Context;
use crate::access::Caller;
use crate::api::endpoint::{Content, Endpoint, routes as routes_of};

/// Returns the paths of images' bytes. Whoever asks was let in before.
pub(crate) fn routes(context: Context) -> Router {
    routes_for(context, AT_ONCE)
}

/// Returns the same, for so many who bring or fetch bytes at the same time.
fn routes_for(context: Context, at_once: usize) -> Router {
    let slots = Arc::new(Semaphore::new(at_once));
    let transfers = Transfers { context: Arc::new(context), slots };
    routes_of(endpoints()).with_state(transfers)
}

/// Returns the paths, with what is done there.
pub(crate) fn endpoints() -> Vec<Endpoint<Transfers>> {
    images().into_iter().chain(volumes()).collect()
}

fn images() -> [Endpoint<Transfers>; 5] {
    const PATH: &str = "/v1/images/{namespace}/{name}/data";
    let offset = "From which byte on what comes belongs.";
    let length = "How many bytes the image will have in all.";
    let range = "bytes FIRST-LAST/TOTAL: which part of the image comes.";
    let checksum = "SHA-512 of the whole image, in hexadecimal.";
    let brings = |method, summary| {
        Endpoint::new(method, PATH, summary, |on, path| path.on(on, take))
            .header("Content-Range", range)
            .header("Upload-Offset", offset)
            .header("Upload-Length", length)
            .header("X-Checksum-SHA512", checksum)
            .answers(200, "all of it has come, and is an image", Content::Nothing)
    };
    let goes_on = "this part of it has come, and Upload-Offset is where to go on";
    [
        Endpoint::new(Method::GET, PATH, "Fetch an image as it is stored", |on, path| {
            path.on(on, read)
        })
        .header("Range", "bytes=FIRST-LAST: which part of it is wanted.")
        .header("If-Range", "The ETag of which a part is wanted.")
        .header("If-None-Match", "The ETag of what is there already.")
        .answers(200, "all of it", Content::Bytes)
        .answers(206, "the part of it", Content::Bytes)
        .answers(304, "it is what is there already", Content::Nothing),
        Endpoint::new(
            Method::HEAD,
            PATH,
            "Ask how long an image is, or how much of it has come (Upload-Offset)",
            |on, path| path.on(on, stand),
        )
        .answers(200, "the length and the checksum, or where to go on", Content::Nothing),
        brings(Method::PUT, "Bring an image as a whole, or a part of it")
            .takes(Content::Bytes)
            .answers(204, goes_on, Content::Nothing),
        brings(Method::PATCH, "Bring another part of an image").takes(Content::Bytes).answers(
            204,
            goes_on,
            Content::Nothing,
        ),
        brings(Method::POST, "Begin an upload (Upload-Length), or bring an image as a whole")
            .takes(Content::Bytes)
            .answers(201, "the upload has begun", Content::Nothing)
            .answers(204, goes_on, Content::Nothing),
    ]
}

fn volumes() -> [Endpoint<Transfers>; 3] {
    const PATH: &str = "/v1/volumes/{namespace}/{name}/attachment";
    let shape = Content::Json("Attachment");
    [
        Endpoint::new(Method::GET, PATH, "Ask how the volume of a claim appears", |on, path| {
            path.on(on, attachment)
        })
        .answers(200, "how it appears", shape),
        Endpoint::new(
            Method::PUT,
            PATH,
            "Make the volume of a claim appear on the machine of the server",
            |on, path| path.on(on, attach),
        )
        .takes(Content::Json("WantedAttachment"))
        .answers(200, "how it appears", shape),
        Endpoint::new(
            Method::DELETE,
            PATH,
            "Make the volume of a claim disappear from the machine of the server",
            |on, path| path.on(on, detach),
        )
        .answers(200, "it does not appear any more", shape),
    ]
}

/// What the bytes of images are moved with.
#[derive(Clone)]
pub(crate) struct Transfers {
    context: Arc<Context>,
    /// Each of them takes a thread that may block, of which other requests need some, too.
    slots: Arc<Semaphore>,
}

impl Transfers {
    fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| Refusal::too_many())
    }
}

impl FromRef<Transfers> for Arc<Context> {
    fn from_ref(transfers: &Transfers) -> Self {
        Self::clone(&transfers.context)
    }
}

type Named = Path<(String, String)>;

async fn read(
    State(transfers): State<Transfers>,
    Path((namespace, name)): Named,
    request: axum::extract::Request,
) -> Response {
    let slot = match transfers.slot() {
        Ok(slot) => slot,
        Err(refusal) => return refusal.into_response(),
    };
    let context = transfers.context;
    let actor = actor(&request);
    let headers = request.headers().clone();
    let found = blocking(move || {
        let place = Place::find(&context, &namespace, &name)?;
        download::Download::open(&context, &place, &headers, &actor)
    });
    match found.await {
        Ok(download) => download.answer(slot),
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
    State(transfers): State<Transfers>,
    Path((namespace, name)): Named,
    request: axum::extract::Request,
) -> Response {
    let actor = actor(&request);
    let awaits = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let context = Arc::clone(&transfers.context);
    let admitted = async {
        let slot = transfers.slot()?;
        let context = Arc::clone(&context);
        let upload = blocking(move || {
            let part = upload::Part::read(&head.headers, head.method == Method::POST)?;
            upload::admit(&context, Place::find(&context, &namespace, &name)?, part)
        });
        Ok::<_, Refusal>((slot, upload.await?))
    };
    let (slot, upload) = match admitted.await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            // Nobody has told a client that waits for it to go on.
            if !awaits {
                tokio::spawn(body::discard(body));
            }
            return refusal.into_response();
        }
    };
    let (reader, pump) = body::pump(body);
    // The answer does not wait for what still comes and nobody wants: a connection that is closed on it would
    // take the answer along.
    tokio::spawn(async move {
        pump.await;
        drop(slot);
    });
    let taken = blocking(move || upload.take(&context, reader, &actor));
    taken.await.unwrap_or_else(Refusal::into_response)
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

/// Who bring or fetch bytes at the same time.
const AT_ONCE: usize = 32;

/// The longest body that says how a volume shall appear, in bytes.
const MOST_WORDS: usize = 64 << 10;

#[cfg(test)]
mod tests;
