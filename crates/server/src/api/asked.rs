//! A request about documents: read as a whole, and carried out by its verb.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::failure::{Answer, Failure};
use super::target::{Parameters, Target, Verb};
use super::{Api, blocking, body_of, deleting, reading, watching, writing};
use crate::access::Caller;

/// A request about documents.
pub(super) struct Asked {
    /// Who asks.
    pub(super) caller: Caller,
    /// About which.
    pub(super) target: Target,
    /// What is wanted.
    pub(super) verb: Verb,
    /// How.
    pub(super) parameters: Parameters,
    /// In which shape the answer is wanted.
    pub(super) shape: Shape,
    /// What sort of body came, in lower case and without parameters.
    pub(super) content_type: String,
    /// The body.
    pub(super) body: Bytes,
}

/// In which shape documents are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As they are.
    Documents,
    /// As a table for people.
    Table,
}

/// Answers a request about documents.
pub(super) async fn documents(State(api): State<Arc<Api>>, request: Request<Body>) -> Response {
    answer(api, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(api: Arc<Api>, request: Request<Body>) -> Answer<Response> {
    let (head, body) = request.into_parts();
    let target = Target::of(head.uri.path()).ok_or_else(Failure::no_path)?;
    let parameters = Parameters::of(head.uri.query());
    let verb = target.verb(&head.method, &parameters)?;
    let caller = head.extensions.get::<Caller>().cloned().ok_or_else(Failure::unauthorized)?;
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let shape = Shape::of(text(header::ACCEPT).unwrap_or("*/*"))
        .ok_or_else(|| Failure::unsupported("only application/json is spoken here"))?;
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    let content_type = content_type.to_ascii_lowercase();
    let body = if verb.only_reads() { Bytes::new() } else { body_of(body).await? };
    let asked = Asked { caller, target, verb, parameters, shape, content_type, body };
    if verb == Verb::Watch {
        return watching::watch(&api, &asked);
    }
    blocking(move || match asked.verb {
        Verb::Get => reading::get(&api, &asked),
        Verb::List | Verb::Watch => reading::list(&api, &asked),
        Verb::Create => writing::create(&api, &asked),
        Verb::Update => writing::update(&api, &asked),
        Verb::Patch => writing::patch(&api, &asked),
        Verb::Delete => deleting::delete(&api, &asked),
        Verb::DeleteCollection => deleting::delete_all(&api, &asked),
    })
    .await
}

impl Shape {
    /// Returns the first one of those that are accepted, `None` when there is none.
    fn of(accept: &str) -> Option<Self> {
        accept.split(',').find_map(|one| {
            let mut parts = one.split(';').map(str::trim);
            let media = parts.next()?;
            if !matches!(media, "application/json" | "*/*" | "application/*") {
                return None;
            }
            let shape = parts.filter_map(|part| part.strip_prefix("as=")).next();
            match shape {
                None => Some(Self::Documents),
                Some("Table") if one.contains("v=v1") => Some(Self::Table),
                Some(_) => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_shape_that_is_accepted_and_known_is_taken() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(Shape::of(kubectl), Some(Shape::Table));
        assert_eq!(Shape::of("application/json, */*"), Some(Shape::Documents));
        let other = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(Shape::of(other), Some(Shape::Documents));
        assert_eq!(Shape::of("application/json;as=PartialObjectMetadata;v=v1"), None);
        assert_eq!(Shape::of("text/html"), None);
    }
}
