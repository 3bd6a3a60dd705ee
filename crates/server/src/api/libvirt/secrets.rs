//! Secrets.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use strongroom::libvirt::{Force, SecretEntry};
use strongroom_crypto::Passphrase;
use strongroom_model::dialect::libvirt::{Secret, SecretName, canonical_uuid};
use zeroize::Zeroizing;

use super::super::failure::{Answer, Failure};
use super::super::target::Parameters;
use super::super::{blocking, body_of};
use super::Asked;
use super::answers::{done, failed, json as answer, unread, xml};
use crate::access::Caller;

/// Lists the secrets.
pub(super) async fn list(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
) -> Answer<Response> {
    let found = blocking(move || asked.libvirt(&caller).secrets().map_err(failed)).await?;
    let items: Vec<Value> = found.iter().map(shown).collect();
    Ok(answer(StatusCode::OK, &json!({ "items": items })))
}

/// Defines a secret. One that is ephemeral is kept until the server ends.
pub(super) async fn define(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer<Response> {
    let body = body_of(body).await?;
    let (secret, warnings) = Secret::read_with_notes(&body).map_err(|error| unread(&error))?;
    let force = force(query.as_deref());
    let define = move || asked.libvirt(&caller).define_secret(&secret, force).map_err(failed);
    let uuid = blocking(define);
    let made = json!({ "uuid": uuid.await?, "warnings": warnings });
    Ok(answer(StatusCode::CREATED, &made))
}

/// Returns the document of a secret.
pub(super) async fn read(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    Path(uuid): Path<String>,
) -> Answer<Response> {
    let name = named(&uuid)?;
    let found = blocking(move || asked.libvirt(&caller).secret(&name).map_err(failed)).await?;
    Ok(xml(StatusCode::OK, found.secret.write()))
}

/// Gives a secret the value that the body is.
pub(super) async fn set_value(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    Path(uuid): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer<Response> {
    let name = named(&uuid)?;
    let force = force(query.as_deref());
    // What the connection has of it is wiped when it is freed.
    let body = Zeroizing::new(body_of(body).await?.to_vec());
    let set = blocking(move || {
        let value = Passphrase::new(body.to_vec());
        asked.libvirt(&caller).set_secret_value(&name, &value, force).map_err(failed)
    });
    set.await?;
    Ok(done())
}

/// Takes a secret away.
pub(super) async fn undefine(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    Path(uuid): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let name = named(&uuid)?;
    let force = force(query.as_deref());
    blocking(move || asked.libvirt(&caller).undefine_secret(&name, force).map_err(failed)).await?;
    Ok(done())
}

fn force(query: Option<&str>) -> Force {
    match Parameters::of(query).is_true("force") {
        true => Force::Yes,
        false => Force::No,
    }
}

fn named(uuid: &str) -> Answer<SecretName> {
    let wrong = || Failure::bad_request(format!("{uuid:?} is no UUID"));
    canonical_uuid(uuid).map(SecretName::Uuid).ok_or_else(wrong)
}

fn shown(entry: &SecretEntry) -> Value {
    let usage = entry.secret.usage.as_ref();
    json!({
        "uuid": entry.uuid,
        "usageType": usage.map_or("none", |usage| usage.kind()),
        "usage": usage.map(|usage| usage.id()),
        "ephemeral": entry.secret.ephemeral,
        "private": entry.secret.private,
        "hasValue": entry.has_value,
        "generated": entry.generated_for.is_some(),
    })
}
