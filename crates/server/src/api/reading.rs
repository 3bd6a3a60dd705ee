//! One document, or many of them.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use strongroom_model::dialect::object::Object;

use super::asked::{Asked, Shape};
use super::failure::{Answer, Failure};
use super::selector::{Selector, sees};
use super::table::Table;
use super::{Api, json};

/// Returns one.
pub(super) fn get(api: &Api, asked: &Asked) -> Answer<Response> {
    let object = read(api, asked)?;
    shown(asked, StatusCode::OK, &object)
}

/// Returns those that are asked for.
pub(super) fn list(api: &Api, asked: &Asked) -> Answer<Response> {
    let target = &asked.target;
    let selector = Selector::of(target, &asked.parameters)?.seen_by(&asked.caller);
    let (mut found, newest) = api.context.store.list(target.resource, target.namespace.as_deref());
    found.retain(|object| selector.takes(object));
    let page = Page::of(asked, newest)?;
    let rest = page.cut(&mut found);
    let mut metadata = json!({ "resourceVersion": page.version.to_string() });
    if let (Some(left), Some(last)) = (rest, found.last()) {
        metadata["continue"] = page.token(last).into();
        metadata["remainingItemCount"] = left.into();
    }
    Ok(json(StatusCode::OK, body(asked, &found, &metadata)))
}

/// Returns the document that a request names.
///
/// # Errors
///
/// When there is none.
pub(super) fn read(api: &Api, asked: &Asked) -> Answer<Arc<Object>> {
    let target = &asked.target;
    let namespace = target.namespace.as_deref();
    let found = api.context.store.read(target.resource, namespace, target.name());
    let found = found.filter(|object| sees(&asked.caller, object));
    found.ok_or_else(|| Failure::not_found(target.resource, target.name()))
}

/// Returns a document in the shape that is wanted.
pub(super) fn shown(asked: &Asked, code: StatusCode, object: &Object) -> Answer<Response> {
    let body = match asked.shape {
        Shape::Documents => serde_json::to_vec(object).map_err(|_| Failure::internal())?,
        Shape::Table => {
            let metadata = json!({ "resourceVersion": object.resource_version() });
            let table = Table::of(&asked.target, &asked.parameters);
            table.whole(std::iter::once(object), &metadata).to_string().into_bytes()
        }
    };
    Ok(json(code, body))
}

fn body(asked: &Asked, found: &[Arc<Object>], metadata: &Value) -> Vec<u8> {
    if asked.shape == Shape::Table {
        let table = Table::of(&asked.target, &asked.parameters);
        let table = table.whole(found.iter().map(|object| &**object), metadata);
        return table.to_string().into_bytes();
    }
    let resource = asked.target.resource;
    // Written piece by piece: a tree of thousands of documents would only be built to be written.
    let mut body = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        resource.kind(),
        resource.api_version()
    )
    .into_bytes();
    for (number, object) in found.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        serde_json::to_writer(&mut body, &**object).expect("a JSON value can always be written");
    }
    body.extend_from_slice(b"]}");
    body
}

/// Which part of a list is asked for.
struct Page {
    limit: usize,
    /// The namespace and name of the last one that was seen.
    after: Option<(String, String)>,
    /// The version of the store when the first part was read. Whoever watches from there on misses
    /// nothing, in whichever part a change was.
    version: u64,
}

impl Page {
    fn of(asked: &Asked, newest: u64) -> Answer<Self> {
        let limit = asked.parameters.number("limit")?.filter(|limit| *limit > 0);
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let Some(token) = asked.parameters.text("continue") else {
            return Ok(Self { limit, after: None, version: newest });
        };
        let problem = || Failure::bad_request("the continue token is none of this server");
        let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| problem())?;
        let token = String::from_utf8(token).map_err(|_| problem())?;
        let mut parts = token.splitn(3, '/');
        let mut part = || parts.next().map(str::to_owned).ok_or_else(problem);
        let version = part()?.parse().map_err(|_| problem())?;
        Ok(Self { limit, after: Some((part()?, part()?)), version })
    }

    /// Leaves what belongs to the page, and returns how many come after it.
    fn cut(&self, found: &mut Vec<Arc<Object>>) -> Option<usize> {
        if let Some((namespace, name)) = &self.after {
            let key = |object: &Arc<Object>| {
                (object.namespace().unwrap_or_default(), object.name())
                    <= (namespace.as_str(), name.as_str())
            };
            found.drain(..found.partition_point(key));
        }
        let left = found.len().checked_sub(self.limit).filter(|left| *left > 0)?;
        found.truncate(self.limit);
        Some(left)
    }

    fn token(&self, last: &Object) -> String {
        let namespace = last.namespace().unwrap_or_default();
        URL_SAFE_NO_PAD.encode(format!("{}/{namespace}/{}", self.version, last.name()))
    }
}
