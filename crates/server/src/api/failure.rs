//! Errors as Kubernetes' API tells them: a document of the kind `Status`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use strongroom_model::dialect::admission::{Cause, Reason, Refused};
use strongroom_model::dialect::resource::Resource;

use crate::controllers::chain;
use crate::{Error, room};

/// An error of a request.
#[derive(Debug)]
pub(crate) struct Failure {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Option<Box<Value>>,
    cause: Option<String>,
}

/// Why something failed, for the log: it is among the extensions of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Why(pub(crate) String);

/// The result of a request.
pub(crate) type Answer<T> = Result<T, Failure>;

impl Failure {
    /// Returns one about a request that is not understood.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// Returns one of somebody who has no token that is known.
    pub(crate) fn unauthorized() -> Self {
        let message =
            "no known token came with the request: send it as Authorization: Bearer TOKEN";
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    /// Returns one of somebody who may not do that.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// Returns one about a path that nothing is behind.
    pub(crate) fn no_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// Returns one about a thing that is no document.
    pub(crate) fn nothing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// Returns one about something that is there already.
    pub(crate) fn there(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message)
    }

    /// Returns one about something that somebody else is at work on, or needs.
    pub(crate) fn conflicting(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    /// Returns one about something that has ended, and does not change any more.
    pub(crate) fn over(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    /// Returns one about a document that is not there.
    pub(crate) fn not_found(resource: Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(resource));
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(resource, name, &[])
    }

    /// Returns one about a document that is there already.
    pub(crate) fn already_exists(resource: Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(resource));
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(resource, name, &[])
    }

    /// Returns one about a document that is another than the one that was meant.
    pub(crate) fn conflict(resource: Resource, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: the object has been modified; please \
             apply your changes to the latest version and try again",
            qualified(resource)
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(resource, name, &[])
    }

    /// Returns one about a document that may not be kept, or may not go.
    pub(crate) fn refused(resource: Resource, name: &str, refused: &Refused) -> Self {
        let in_use = refused.causes.iter().any(|cause| cause.reason == Reason::InUse);
        let kind = resource.kind();
        let (code, reason, message) = if in_use {
            let message = format!("{} {name:?} is in use: {refused}", qualified(resource));
            (StatusCode::CONFLICT, "Conflict", message)
        } else {
            let group = resource.group();
            let dot = if group.is_empty() { "" } else { "." };
            let message = format!("{kind}{dot}{group} {name:?} is invalid: {refused}");
            (StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
        };
        Self::new(code, reason, message).about(resource, name, &refused.causes)
    }

    /// Returns one about a parameter or part of a request that nothing here does.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// Returns one about a body of a sort that is not taken.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// Returns one about a method that a path does not have.
    pub(crate) fn method() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// Returns one about a body that is too large.
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("the body has more than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// Returns one about a body that does not come.
    pub(crate) fn timeout() -> Self {
        let message = "the request did not come in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
    }

    /// Returns one about changes that are forgotten.
    pub(crate) fn expired(version: u64) -> Self {
        let message = format!("too old resource version: {version}; list again");
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// Returns one of a server that has too much to do.
    pub(crate) fn too_many() -> Self {
        let message = "too many requests at once, please try again later";
        let mut failure = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        failure.details = Some(Box::new(json!({ "retryAfterSeconds": 1 })));
        failure
    }

    /// Returns one of a server that cannot do that now.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// Returns one of a server that has no room for what it was to make.
    pub(crate) fn no_room(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", message)
    }

    /// Returns one of a server that has failed; what went wrong is not for who asks.
    pub(crate) fn internal() -> Self {
        let message = "the server has failed; the request may or may not have been carried out";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// Returns what an error of the store or of a use case means for a document.
    pub(crate) fn of(error: Error, resource: Resource, name: &str) -> Self {
        match error {
            Error::Exists { .. } => Self::already_exists(resource, name),
            Error::NotFound { .. } => Self::not_found(resource, name),
            Error::Conflict { .. } => Self::conflict(resource, name),
            Error::Expired { version } => Self::expired(version),
            Error::Refused { refused, .. } => Self::refused(resource, name, &refused),
            error if room::is_lacking(&error) => {
                Self::no_room("the server has no room for more: its data directory is full")
            }
            error => Self { cause: Some(chain(&error)), ..Self::internal() },
        }
    }

    /// Tells whether somebody else was faster.
    pub(crate) fn is_conflict(&self) -> bool {
        self.reason == "Conflict" && self.code == StatusCode::CONFLICT
    }

    /// Returns the document.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if let (Some(details), Value::Object(fields)) = (&self.details, &mut status) {
            fields.insert("details".to_owned(), (**details).clone());
        }
        status
    }

    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, cause: None }
    }

    fn about(mut self, resource: Resource, name: &str, causes: &[Cause]) -> Self {
        let mut details = json!({ "name": name, "kind": resource.plural() });
        if !resource.group().is_empty() {
            details["group"] = resource.group().into();
        }
        if !causes.is_empty() {
            details["causes"] = causes.iter().map(cause_of).collect();
        }
        self.details = Some(Box::new(details));
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.status().to_string()));
        *response.status_mut() = self.code;
        if self.code.is_server_error() {
            let why = self.cause.unwrap_or(self.message);
            response.extensions_mut().insert(Why(why));
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.code == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.code == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn qualified(resource: Resource) -> String {
    match resource.group() {
        "" => resource.plural().to_owned(),
        group => format!("{}.{group}", resource.plural()),
    }
}

fn cause_of(cause: &Cause) -> Value {
    let reason = match cause.reason {
        Reason::Invalid => "FieldValueInvalid",
        Reason::Required => "FieldValueRequired",
        Reason::NotFound => "FieldValueNotFound",
        Reason::Immutable => "FieldValueForbidden",
        Reason::InUse => "InUse",
        Reason::NotSupported => "FieldValueNotSupported",
    };
    json!({ "reason": reason, "message": cause.message, "field": cause.field })
}
