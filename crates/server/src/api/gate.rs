//! What every request passes through: who asks is known, may do it, and is not one too many.

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
use super::failure::{Answer, Failure};
use super::target::{Parameters, Target};
use crate::access::{Caller, Wish};

/// Lets a request pass, and counts how it went. What panics is an error without words.
pub(super) async fn pass(
    State(api): State<Arc<Api>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let answer = match admitted(&api, &request) {
        Ok((caller, permit)) => {
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
    api.metrics.answered(&method, answer.status(), begun.elapsed());
    answer
}

type Permit = tokio::sync::OwnedSemaphorePermit;

fn admitted(api: &Api, request: &Request<Body>) -> Answer<(Option<Caller>, Permit)> {
    let permit = || Arc::clone(&api.requests).try_acquire_owned().map_err(|_| Failure::too_many());
    let path = request.uri().path();
    if matches!(path, "/healthz" | "/livez" | "/readyz") {
        return Ok((None, permit()?));
    }
    let caller = token(request)
        .and_then(|token| api.access.caller(&token))
        .ok_or_else(Failure::unauthorized)?;
    let parameters = Parameters::of(request.uri().query());
    let target = Target::of(path);
    let wish = match &target {
        Some(target) => Wish::Documents(target, target.verb(request.method(), &parameters)?),
        None => other(path, request.method()),
    };
    match wish.denied(&caller) {
        Some(why) => Err(Failure::forbidden(why)),
        None => Ok((Some(caller), permit()?)),
    }
}

/// Returns what is wished by a path that names no documents. Of what nobody thought, admins alone may have
/// it.
fn other<'a>(path: &'a str, method: &Method) -> Wish<'a> {
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
