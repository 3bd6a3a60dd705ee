//! What every request passes through: who asks is known, may do it, and is not one too many.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Api;
use super::failure::{Answer, Failure, Why};
use super::target::{Parameters, Target};
use crate::access::{Caller, TOKEN_MARK, Wish};
use crate::listening::Peer;
use crate::logging::{Line, Log, LogLevel};

/// Lets a request pass, and counts how it went. What panics is an error without words.
pub(super) async fn pass(
    State(api): State<Arc<Api>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let mut asked = Asked::of(&request);
    let (caller, admitted) = admitted(&api, &request);
    asked.by = caller.as_ref().map(|caller| caller.name.clone());
    let answer = match admitted {
        Ok(permit) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            // On a task of its own, so that what was begun is ended when the client goes away.
            let task = tokio::spawn(async move {
                let _permit = permit;
                next.run(request).await
            });
            task.await.unwrap_or_else(|_| Failure::internal().into_response())
        }
        Err(failure) => failure.into_response(),
    };
    api.metrics.answered(&asked.method, answer.status(), asked.begun.elapsed());
    asked.tell(&api.log, &answer);
    answer
}

/// What is said of a request.
struct Asked {
    method: Method,
    /// Without the query.
    path: String,
    from: Option<IpAddr>,
    /// Whose token it came with.
    by: Option<String>,
    begun: Instant,
}

impl Asked {
    fn of(request: &Request<Body>) -> Self {
        Self {
            method: request.method().clone(),
            path: without_tokens(request.uri().path()),
            from: request.extensions().get::<Peer>().map(|peer| peer.0),
            by: None,
            begun: Instant::now(),
        }
    }

    /// Tells how it went: what has changed something, or was refused, and all else to whoever wants to know
    /// everything.
    fn tell(self, log: &Log, answer: &Response) {
        let code = answer.status();
        let only_reads = matches!(self.method, Method::GET | Method::HEAD);
        let (level, words) = match code.as_u16() {
            500.. => (LogLevel::Error, "request failed"),
            401 => (LogLevel::Info, "login refused"),
            400.. => (LogLevel::Info, "request refused"),
            _ if only_reads => (LogLevel::Debug, "request"),
            _ => (LogLevel::Info, "request"),
        };
        if !log.says(level) {
            return;
        }
        let mut line = Line::new(words).with("method", &self.method).with("path", self.path);
        if let Some(by) = self.by {
            line = line.with("by", by);
        }
        if let Some(from) = self.from {
            line = line.with("from", from);
        }
        line = line.with("status", code.as_u16()).with("ms", self.begun.elapsed().as_millis());
        if let Some(Why(why)) = answer.extensions().get() {
            line = line.with("reason", why);
        }
        log.say(level, &line);
    }
}

type Permit = tokio::sync::OwnedSemaphorePermit;

/// Returns who asks, as far as that is known, and whether he is answered.
fn admitted(api: &Api, request: &Request<Body>) -> (Option<Caller>, Answer<Permit>) {
    let permit = || Arc::clone(&api.requests).try_acquire_owned().map_err(|_| Failure::too_many());
    let path = request.uri().path();
    if matches!(path, "/healthz" | "/livez" | "/readyz") {
        return (None, permit());
    }
    match token(request).and_then(|token| api.access.caller(&token)) {
        None => (None, Err(Failure::unauthorized())),
        Some(caller) => {
            let permit = allowed(&caller, request, path).and_then(|()| permit());
            (Some(caller), permit)
        }
    }
}

fn allowed(caller: &Caller, request: &Request<Body>, path: &str) -> Answer<()> {
    let parameters = Parameters::of(request.uri().query());
    let target = Target::of(path);
    let wish = match &target {
        Some(target) => Wish::Documents(target, target.verb(request.method(), &parameters)?),
        None => other(path, request.method(), &parameters),
    };
    wish.denied(caller).map_or(Ok(()), |why| Err(Failure::forbidden(why)))
}

/// Returns a path without the tokens that somebody may have put there for the name of one.
fn without_tokens(path: &str) -> String {
    let words = path.split('/');
    let shown = words.map(|word| if word.contains(TOKEN_MARK) { "TOKEN" } else { word });
    shown.collect::<Vec<_>>().join("/")
}

/// Returns what is wished by a path that names no documents. Of what nobody thought, admins alone may have
/// it.
fn other<'a>(path: &'a str, method: &Method, parameters: &Parameters) -> Wish<'a> {
    let mut segments = path.split('/').skip(1);
    match (segments.next(), segments.next(), segments.next()) {
        (Some("version" | "metrics" | "api" | "apis" | "openapi"), ..) => Wish::LookAround,
        (Some("v1"), Some("jobs"), _) if method == Method::GET => Wish::SeeJobs,
        (Some("v1"), Some("jobs"), _) => Wish::CancelJob,
        (Some("v1"), Some("images" | "volumes"), Some(namespace)) => Wish::Contents(namespace),
        (Some("v1"), Some("libvirt"), Some(kind)) => match (kind, method, path) {
            ("volumes", &Method::GET, _) => Wish::LookAround,
            ("secrets", &Method::GET, _) => Wish::SeeSecrets,
            (_, &Method::DELETE, _) => Wish::Destroy,
            (_, _, path) if path.ends_with("/wipe") => Wish::Destroy,
            _ if parameters.is_true("force") => Wish::Destroy,
            _ => Wish::Change,
        },
        _ => Wish::Tokens,
    }
}

/// Returns the token of a request. As a password it is taken, too: kubectl sends no other credentials where
/// there is no TLS.
fn token(request: &Request<Body>) -> Option<Zeroizing<String>> {
    let text = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(Zeroizing::new(rest.trim().to_owned())),
        "basic" => {
            let decoded = Zeroizing::new(STANDARD.decode(rest.trim()).ok()?);
            let (_, password) = str::from_utf8(&decoded).ok()?.split_once(':')?;
            Some(Zeroizing::new(password.to_owned()))
        }
        _ => None,
    }
}
