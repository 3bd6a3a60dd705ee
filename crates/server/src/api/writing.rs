//! Documents that are put in, replaced and changed.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use strongroom_model::dialect::admission::{self, Change, Known};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::{Resource, Scope};

use super::Api;
use super::asked::Asked;
use super::failure::{Answer, Failure};
use super::patch::Kind;
use super::protobuf;
use super::reading::{read, shown};
use super::target::Verb;
use crate::access::denied_reference;
use crate::store::{self, Author, Part, Store};

/// Puts a document in.
pub(super) fn create(api: &Api, asked: &Asked) -> Answer<Response> {
    let mut object = document(asked)?;
    let resource = asked.target.resource;
    let dry = asked.parameters.dry_run()?;
    object.take(&["status"]);
    object.take(&["metadata", "resourceVersion"]);
    store::keep_hold(None, &mut object);
    store::name(&mut object).map_err(|error| Failure::of(error, resource, ""))?;
    let name = object.name().to_owned();
    let mut warnings = strange_fields(asked, &object, None)?;
    let _admitting = api.admitting();
    let store = &api.context.store;
    if store.read(resource, object.namespace(), &name).is_some() {
        return Err(Failure::already_exists(resource, &name));
    }
    // Before anything of what it leads to is told.
    check_references(api, asked, &object, None)?;
    let admitted = admission::admit(object, Change::Create, store)
        .map_err(|refused| Failure::refused(resource, &name, &refused))?;
    warnings.extend(admitted.warnings);
    let object = admitted.object;
    check_references(api, asked, &object, None)?;
    if dry {
        return warned(shown(asked, StatusCode::CREATED, &store::redacted(object))?, &warnings);
    }
    record(api, asked, &name)?;
    let kept = store.create(object).map_err(|error| Failure::of(error, resource, &name))?;
    warned(shown(asked, StatusCode::CREATED, &kept)?, &warnings)
}

/// Puts a document in the place of another.
pub(super) fn update(api: &Api, asked: &Asked) -> Answer<Response> {
    let object = document(asked)?;
    if object.name() != asked.target.name() {
        let problem = format!(
            "the name of the document ({:?}) is not the one of the path ({:?})",
            object.name(),
            asked.target.name()
        );
        return Err(Failure::bad_request(problem));
    }
    let _admitting = api.admitting();
    let old = read(api, asked)?;
    keep(api, asked, object, &old)
}

/// Changes a document.
pub(super) fn patch(api: &Api, asked: &Asked) -> Answer<Response> {
    let kind = Kind::of(&asked.content_type, asked.target.resource)?;
    let _admitting = api.admitting();
    let mut attempts = 0;
    loop {
        let old = read(api, asked)?;
        let object = kind.apply(&asked.body, &old)?;
        let same = |what: fn(&Object) -> Option<&str>| what(&object) == what(&old);
        if !same(|object| object.text(&["apiVersion"]))
            || !same(|object| object.text(&["kind"]))
            || !same(|object| Some(object.name()))
            || !same(Object::namespace)
        {
            let problem = "a patch cannot change apiVersion, kind, name or namespace";
            return Err(Failure::bad_request(problem));
        }
        let told = object.resource_version() != old.resource_version();
        let kept = keep(api, asked, object, &old);
        attempts += 1;
        let moved = |failure: &Failure| failure.is_conflict();
        // Somebody who does not come through here may have changed it meanwhile.
        if told || attempts > ATTEMPTS || !kept.as_ref().is_err_and(moved) {
            return kept;
        }
    }
}

/// Keeps what a document becomes.
fn keep(api: &Api, asked: &Asked, mut object: Object, old: &Object) -> Answer<Response> {
    let (resource, name) = (asked.target.resource, asked.target.name());
    let store = &api.context.store;
    let failed = |error| Failure::of(error, resource, name);
    let dry = asked.parameters.dry_run()?;
    if asked.target.part == Part::Status {
        let kept = if dry { None } else { Some(store.replace(object.clone(), Part::Status)) };
        let kept = kept.transpose().map_err(failed)?;
        return shown(asked, StatusCode::OK, kept.as_deref().unwrap_or(&object));
    }
    store::name(&mut object).map_err(failed)?;
    let mut warnings = strange_fields(asked, &object, Some(old))?;
    store::keep_hold(Some(old), &mut object);
    fill_in(&mut object, store);
    check_references(api, asked, &object, Some(old))?;
    let admitted = admission::admit(object, Change::Update(old), store)
        .map_err(|refused| Failure::refused(resource, name, &refused))?;
    warnings.extend(admitted.warnings);
    check_references(api, asked, &admitted.object, Some(old))?;
    if dry {
        let object = store::redacted(admitted.object);
        return warned(shown(asked, StatusCode::OK, &object)?, &warnings);
    }
    record(api, asked, name)?;
    let kept = store.replace_by(admitted.object, Part::Document, Author::Client);
    let kept = kept.map_err(failed)?;
    warned(shown(asked, StatusCode::OK, &kept)?, &warnings)
}

/// Reads the document of a body, which must be what the path says.
fn document(asked: &Asked) -> Answer<Object> {
    let target = &asked.target;
    let mut object = decoded(asked)?;
    if object.resource() != Some(target.resource) {
        let (version, kind) = (target.resource.api_version(), target.resource.kind());
        return Err(Failure::bad_request(format!(
            "the document is none of apiVersion {version} and kind {kind}, as the path says"
        )));
    }
    match (target.resource.scope(), &target.namespace) {
        (Scope::Namespaced, Some(namespace)) => match object.namespace() {
            None => object.set(&["metadata", "namespace"], namespace.as_str()),
            Some(other) if other == namespace => {}
            Some(_) => {
                let problem = "the namespace of the document is not the one of the path";
                return Err(Failure::bad_request(problem));
            }
        },
        (Scope::Namespaced, None) => {
            return Err(Failure::bad_request("the path names no namespace"));
        }
        (Scope::Cluster, _) => {}
    }
    Ok(object)
}

fn decoded(asked: &Asked) -> Answer<Object> {
    let kind = asked.target.resource.kind();
    match asked.content_type.as_str() {
        "" | "application/json" => serde_json::from_slice(&asked.body).map_err(|error| {
            // What serde says otherwise may quote what it has read.
            let (line, column) = (error.line(), error.column());
            let problem = format!("the body is no JSON object: line {line}, column {column}");
            Failure::bad_request(problem)
        }),
        protobuf::CONTENT_TYPE => protobuf::document(&asked.body).ok_or_else(|| {
            Failure::unsupported(format!("a {kind} is taken as application/json, not like this"))
        }),
        _ => Err(Failure::unsupported("a document is taken as application/json")),
    }
}

/// Gives the values of a Secret back to whoever did not see them: admission looks at it as it will be.
fn fill_in(object: &mut Object, store: &Store) {
    if object.resource() != Some(Resource::Secret) {
        return;
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name());
    let Some(values) = store.secret(namespace, name) else { return };
    let Some(Value::Object(data)) = object.fields_mut().get_mut("data") else { return };
    for (key, value) in data {
        if (value.is_null() || value.as_str() == Some(""))
            && let Some(kept) = values.get(key)
        {
            *value = STANDARD.encode(kept.as_slice()).into();
        }
    }
}

/// Refuses what leads into namespaces that the caller does not reach.
fn check_references(api: &Api, asked: &Asked, new: &Object, old: Option<&Object>) -> Answer<()> {
    match denied_reference(&asked.caller, new, old, &api.context.store) {
        Some(why) => Err(Failure::forbidden(why)),
        None => Ok(()),
    }
}

/// Records the writing of a Secret before it is done.
fn record(api: &Api, asked: &Asked, name: &str) -> Answer<()> {
    if asked.target.resource != Resource::Secret {
        return Ok(());
    }
    let detail = if asked.verb == Verb::Create { "new values" } else { "other values" };
    api.record(&asked.caller, asked.verb.word(), &asked.target.subject(name), detail)
}

/// Returns warnings about fields that nobody knows and that are new, or refuses them, as the request has it.
fn strange_fields(asked: &Asked, new: &Object, old: Option<&Object>) -> Answer<Vec<String>> {
    let strictly = match asked.parameters.text("fieldValidation") {
        Some("Ignore") => return Ok(Vec::new()),
        None | Some("Warn") => false,
        Some("Strict") => true,
        Some(_) => {
            return Err(Failure::bad_request("fieldValidation is none of Strict, Warn and Ignore"));
        }
    };
    let before = old.map(admission::unknown_fields).unwrap_or_default();
    let mut strange = admission::unknown_fields(new);
    strange.retain(|field| !before.contains(field));
    let warnings: Vec<String> =
        strange.iter().map(|field| format!("unknown field {field:?}")).collect();
    if strictly && !warnings.is_empty() {
        let problem = format!("strict decoding error: {}", warnings.join(", "));
        return Err(Failure::bad_request(problem));
    }
    Ok(warnings)
}

/// Adds warnings to an answer, as `kubectl` prints them.
pub(super) fn warned(mut response: Response, warnings: &[String]) -> Answer<Response> {
    for warning in warnings {
        let plain = |letter: char| match letter {
            '"' | '\\' => '\'',
            letter if letter.is_ascii() && !letter.is_ascii_control() => letter,
            _ => '?',
        };
        let text: String = warning.chars().take(LONGEST_WARNING).map(plain).collect();
        let value = HeaderValue::try_from(format!("299 - \"{text}\""));
        response.headers_mut().append("warning", value.map_err(|_| Failure::internal())?);
    }
    Ok(response)
}

/// How often a patch is tried again when somebody else was faster.
const ATTEMPTS: u32 = 10;

/// The most characters of a warning.
const LONGEST_WARNING: usize = 1000;
