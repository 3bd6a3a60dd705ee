//! Answers about secrets and volumes.

use std::error::Error;
use std::io;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use strongroom::ErrorKind;

use super::super::failure::Failure;
use crate::controllers::chain;
use crate::room;

/// Returns a document in XML.
pub(super) fn xml(code: StatusCode, document: String) -> Response {
    let mut response = Response::new(document.into());
    *response.status_mut() = code;
    let xml = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(header::CONTENT_TYPE, xml);
    response
}

/// Returns JSON.
pub(super) fn json(code: StatusCode, value: &Value) -> Response {
    super::super::json(code, value.to_string())
}

/// Returns the answer when there is nothing to say.
pub(super) fn done() -> Response {
    json(StatusCode::OK, &json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }))
}

/// Returns why a use case has not done what somebody asked for.
pub(super) fn failed(error: strongroom::Error) -> Failure {
    let kind = error.kind();
    let error = crate::Error::Strongroom(error);
    let (message, cause): (_, &(dyn Error + 'static)) = (chain(&error), &error);
    match kind {
        ErrorKind::NotFound => Failure::nothing(message),
        ErrorKind::AlreadyExists => Failure::there(message),
        ErrorKind::Busy => Failure::conflicting(message),
        ErrorKind::Request | ErrorKind::Image | ErrorKind::WrongPassphrase => {
            Failure::invalid(message)
        }
        _ if room::is_lacking(cause) => Failure::no_room(message),
        _ if is_beyond_limits(cause) => Failure::invalid(message),
        _ => Failure::internal(),
    }
}

/// Tells whether a file system has said that no name and no file is that long: that is about what was asked
/// for.
fn is_beyond_limits(error: &(dyn Error + 'static)) -> bool {
    let errors = std::iter::successors(Some(error), |&error| error.source());
    let mut kinds =
        errors.filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.any(|kind| matches!(kind, io::ErrorKind::InvalidFilename | io::ErrorKind::FileTooLarge))
}

/// Returns why a document is not taken.
pub(super) fn unread(error: &strongroom_model::Error) -> Failure {
    Failure::invalid(error.to_string())
}
