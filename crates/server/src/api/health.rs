//! How the server is.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Api, Why, blocking, json};
use crate::access::Caller;
use crate::metrics::Names;
use crate::room;

/// Says that the server answers.
pub(super) async fn ok() -> &'static str {
    "ok"
}

/// Says whether the server can keep anything: whether its catalog can be read, there is room, and it is not about
/// to end.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    if *api.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping").into_response();
    }
    let looked = blocking(move || {
        use strongroom::catalog::Kind;
        if api.context.volumes.catalog().list(Kind::Setting, None, 1).is_err() {
            return Ok(Some("the catalog cannot be read".to_owned()));
        }
        let data = api.context.data();
        Ok(match room::free(data) {
            Ok(free) if free >= room::LEAST => None,
            Ok(free) => Some(format!(
                "{} is nearly full: {free} bytes are free, and {} are needed",
                data.display(),
                room::LEAST
            )),
            Err(_) => Some(format!("{} cannot be looked at", data.display())),
        })
    });
    match looked.await {
        Ok(None) => "ok".into_response(),
        Ok(Some(why)) => {
            let mut response = (StatusCode::SERVICE_UNAVAILABLE, why.clone()).into_response();
            response.extensions_mut().insert(Why(why));
            response
        }
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Says which version of Kubernetes' API this is like.
pub(super) async fn version() -> Response {
    let version = json!({
        "major": "1",
        "minor": "32",
        "gitVersion": concat!("v1.32.0+strongroom.", env!("CARGO_PKG_VERSION")),
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    });
    json(StatusCode::OK, version.to_string())
}

/// Tells numbers in the text format of Prometheus.
pub(super) async fn metrics(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let names = if caller.reaches_everything() { Names::Shown } else { Names::Hidden };
    match blocking(move || Ok(api.metrics.text(&api.context, names))).await {
        Ok(text) => {
            let mut response = text.into_response();
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(failure) => failure.into_response(),
    }
}
