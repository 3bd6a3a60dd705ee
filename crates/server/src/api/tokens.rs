//! Tokens: made, listed and taken away, by admins alone.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::{Answer, Failure};
use super::{Api, blocking, body_of, json};
use crate::Error;
use crate::access::{Caller, NewToken, Role, Token};

/// A token as somebody asks for it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    name: String,
    role: Role,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default)]
    all_namespaces: bool,
}

impl Wanted {
    /// Returns the token that is meant. One for everything is never made because a word was forgotten.
    fn token(self) -> Answer<NewToken> {
        let Self { name, role, namespaces, all_namespaces } = self;
        if role == Role::Admin && !namespaces.is_empty() {
            return Err(Failure::bad_request(
                "an admin is one everywhere: say \"allNamespaces\": true, or make an operator",
            ));
        }
        match (namespaces.is_empty(), all_namespaces) {
            (true, true) | (false, false) => Ok(NewToken { name, role, namespaces }),
            (true, false) => Err(Failure::bad_request(
                "say for which namespaces the token is, or \"allNamespaces\": true for all of them",
            )),
            (false, true) => Err(Failure::bad_request(
                "a token is for namespaces or for allNamespaces, not for both",
            )),
        }
    }
}

/// Lists what is known of the tokens.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Response {
    let items: Vec<Value> = api.access.tokens().iter().map(shown).collect();
    json(StatusCode::OK, json!({ "items": items }).to_string())
}

/// Makes a token and returns it, this once.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer<Response> {
    let body = body_of(body).await?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| {
        let wanted = "name, role (admin, operator or viewer) and namespaces or allNamespaces";
        Failure::bad_request(format!("a token is asked for by {wanted}"))
    })?;
    let new = wanted.token()?;
    if !is_name(&new.name) || !new.namespaces.iter().all(|namespace| is_name(namespace)) {
        let problem = "names have 1 to 63 lower-case letters, digits and hyphens";
        return Err(Failure::bad_request(problem));
    }
    let made = blocking(move || {
        if api.access.has(&new.name) {
            return Err(Failure::there(format!("there is a token {:?} already", new.name)));
        }
        let subject = format!("tokens {}", new.name);
        let detail = format!("role {:?} in {:?}", new.role, new.namespaces).to_lowercase();
        api.record(&caller, "create", &subject, &detail)?;
        let token = api.access.create(&new).map_err(|error| failed(&error, &new.name))?;
        let made = json!({
            "name": new.name,
            "role": new.role,
            "namespaces": new.namespaces,
            "token": token.as_str(),
        });
        Ok(made.to_string())
    });
    Ok(json(StatusCode::CREATED, made.await?))
}

/// Takes a token away.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<Response> {
    let gone = blocking(move || {
        if !api.access.tokens().iter().any(|token| token.name == name) {
            return Err(Failure::nothing(format!("there is no token {name:?}")));
        }
        api.record(&caller, "delete", &format!("tokens {name}"), "")?;
        api.access.delete(&name).map_err(|error| failed(&error, &name))?;
        Ok(json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }).to_string())
    });
    Ok(json(StatusCode::OK, gone.await?))
}

fn shown(token: &Token) -> Value {
    json!({
        "name": token.name,
        "role": token.role,
        "namespaces": token.namespaces,
        "created": token.created,
    })
}

fn failed(error: &Error, name: &str) -> Failure {
    match error {
        Error::Exists { .. } => Failure::there(format!("there is a token {name:?} already")),
        Error::NotFound { .. } => Failure::nothing(format!("there is no token {name:?}")),
        _ => Failure::internal(),
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(fits)
}
