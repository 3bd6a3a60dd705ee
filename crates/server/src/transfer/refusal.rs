//! Why a request is not done, as Kubernetes' API says it.

use std::fmt::Display;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use strongroom::ErrorKind;

use crate::api::Why;
use crate::controllers::{Trouble, chain};
use crate::room;

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Refusal {
    pub(super) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), header: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "the server failed")
    }

    pub(super) fn too_many() -> Self {
        let message = "too many images are on their way: try again later";
        let code = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(code, "ServiceUnavailable", message).with(header::RETRY_AFTER, &RETRY_AFTER)
    }

    /// Returns one about a directory in which there is no room left.
    pub(super) fn no_room(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, NO_ROOM, message)
    }

    /// Tells whether the reason may be a lack of room: that it is, or that nobody knows it.
    pub(super) fn may_lack_room(&self) -> Lack {
        match self.code {
            StatusCode::INSUFFICIENT_STORAGE => Lack::Certain,
            code if code.is_server_error() => Lack::Possible,
            _ => Lack::None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: &dyn Display) -> Self {
        let value = HeaderValue::from_str(&value.to_string());
        self.header = value.ok().map(|value| Box::new((name, value)));
        self
    }
}

/// Whether something has failed for a lack of room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// It has.
    Certain,
    /// It may have: of what the catalog says, only the words are known.
    Possible,
    /// It has not.
    None,
}

impl From<strongroom::Error> for Refusal {
    fn from(error: strongroom::Error) -> Self {
        let (code, reason) = match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::Busy => (StatusCode::CONFLICT, "Conflict"),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "NotFound"),
            ErrorKind::Image | ErrorKind::Request | ErrorKind::WrongPassphrase => {
                (StatusCode::UNPROCESSABLE_ENTITY, "Invalid")
            }
            ErrorKind::Interrupted => (StatusCode::REQUEST_TIMEOUT, "Timeout"),
            _ if room::is_lacking(&error) => (StatusCode::INSUFFICIENT_STORAGE, NO_ROOM),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        Self::new(code, reason, chain(&error))
    }
}

impl From<crate::Error> for Refusal {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Strongroom(error) => error.into(),
            crate::Error::NotFound { .. } => Self::not_found(chain(&error)),
            error => Self::conflict(chain(&error)),
        }
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Waiting(obstacle) => Self::conflict(obstacle.message),
            Trouble::Failed(error) => error.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        let mut response = Response::new(Body::from(status.to_string()));
        *response.status_mut() = self.code;
        if self.code.is_server_error() {
            response.extensions_mut().insert(Why(self.message));
        }
        if let Some(header) = self.header {
            let (name, value) = *header;
            response.headers_mut().insert(name, value);
        }
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// The reason of a status about a full directory.
const NO_ROOM: &str = "InsufficientStorage";

/// After how many seconds somebody may try again.
const RETRY_AFTER: u32 = 5;
