//! Documents that go.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use strongroom_model::dialect::admission::{self, Cause, Reason, Refused};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::{Resource, Scope};

use super::asked::Asked;
use super::failure::{Answer, Failure};
use super::reading::{read, shown};
use super::selector::Selector;
use super::writing::warned;
use super::{Api, json};
use crate::store::Store;

/// What comes with a request to delete.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Options {
    preconditions: Preconditions,
    dry_run: Vec<String>,
    propagation_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// Takes a document out, or marks it as being deleted.
pub(super) fn delete(api: &Api, asked: &Asked) -> Answer<Response> {
    let options = options(asked)?;
    let target = &asked.target;
    let _admitting = api.admitting();
    let found = read(api, asked)?;
    options.preconditions.check(asked, &found)?;
    let lost = allowed(api, asked, &found)?;
    let mut warnings: Vec<String> = lost.iter().map(|lost| lost.warning.clone()).collect();
    let gone = if options.is_dry() || asked.parameters.dry_run()? {
        found
    } else {
        remove(api, asked, &found, lost.as_ref())?
    };
    let still_there = api
        .context
        .store
        .read(target.resource, target.namespace.as_deref(), gone.name())
        .is_some_and(|object| object.uid() == gone.uid());
    if still_there {
        warnings.extend(waits_for(&gone, &api.context.store));
        return warned(shown(asked, StatusCode::OK, &gone)?, &warnings);
    }
    let mut details =
        json!({ "name": gone.name(), "kind": target.resource.plural(), "uid": gone.uid() });
    if !target.resource.group().is_empty() {
        details["group"] = target.resource.group().into();
    }
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    });
    warned(json(StatusCode::OK, status.to_string()), &warnings)
}

/// Takes all documents out that are asked for; none of them when one may not go.
pub(super) fn delete_all(api: &Api, asked: &Asked) -> Answer<Response> {
    let options = options(asked)?;
    let target = &asked.target;
    let selector = Selector::of(target, &asked.parameters)?.seen_by(&asked.caller);
    let _admitting = api.admitting();
    let (mut found, version) = api.context.store.list(target.resource, target.namespace.as_deref());
    found.retain(|object| selector.takes(object));
    let mut lost = Vec::new();
    for object in &found {
        lost.push(allowed(api, asked, object)?);
    }
    if !(options.is_dry() || asked.parameters.dry_run()?) {
        for (object, lost) in found.iter().zip(&lost) {
            remove(api, asked, object, lost.as_ref())?;
        }
    }
    let warnings: Vec<String> = lost.into_iter().flatten().map(|lost| lost.warning).collect();
    let list = json!({
        "kind": format!("{}List", target.resource.kind()),
        "apiVersion": target.resource.api_version(),
        "metadata": { "resourceVersion": version.to_string() },
        "items": found.iter().map(|object| (**object).clone().into_value()).collect::<Vec<_>>(),
    });
    warned(json(StatusCode::OK, list.to_string()), &warnings)
}

impl Options {
    fn is_dry(&self) -> bool {
        !self.dry_run.is_empty()
    }
}

impl Preconditions {
    fn check(&self, asked: &Asked, found: &Object) -> Answer<()> {
        let uid = self.uid.as_deref().is_none_or(|uid| uid == found.uid());
        let version = self.resource_version.as_deref();
        if uid && version.is_none_or(|version| version == found.resource_version()) {
            return Ok(());
        }
        Err(Failure::conflict(asked.target.resource, found.name()))
    }
}

fn options(asked: &Asked) -> Answer<Options> {
    if asked.body.is_empty() {
        return Ok(Options::default());
    }
    let options: Options = serde_json::from_slice(&asked.body)
        .map_err(|_| Failure::bad_request("the body is no DeleteOptions"))?;
    match options.propagation_policy.as_deref() {
        None | Some("Background" | "Foreground" | "Orphan") => Ok(options),
        Some(_) => Err(Failure::bad_request(
            "propagationPolicy is none of Background, Foreground and Orphan",
        )),
    }
}

/// Tells for what a PersistentVolume waits that is being deleted: it stays for the claim that is bound to it.
fn waits_for(object: &Object, store: &Store) -> Option<String> {
    let reference = |field| object.text(&["spec", "claimRef", field]);
    if object.resource() != Some(Resource::PersistentVolume) || !object.is_being_deleted() {
        return None;
    }
    let (namespace, name) = (reference("namespace")?, reference("name")?);
    let claim = store.read(Resource::PersistentVolumeClaim, Some(namespace), name)?;
    let is_bound = reference("uid") == Some(claim.uid()) && !claim.is_being_deleted();
    is_bound.then(|| format!("{object:?} stays until {claim:?}, which is bound to it, is deleted"))
}

/// What is lost with a document that goes although it is in use.
struct Lost {
    /// For the one who forces it.
    warning: String,
    /// For the audit log, whose lines do not grow with the users.
    detail: String,
}

/// Tells whether a document may go. Somebody who forces it is told what is lost.
fn allowed(api: &Api, asked: &Asked, object: &Object) -> Answer<Option<Lost>> {
    if let Some(refused) = inhabited(object, &api.context.store) {
        return Err(Failure::refused(asked.target.resource, object.name(), &refused));
    }
    let Err(refused) = admission::refuse_deletion(object, &api.context.store) else {
        return Ok(None);
    };
    let forced = asked.parameters.is_true("force") || object.annotation(FORCE) == Some("true");
    if !forced {
        let name = object.name();
        return Err(Failure::refused(asked.target.resource, name, &refused));
    }
    let warning = format!("{object:?} goes although it is in use: {refused}");
    let users = admission::users(object, &api.context.store);
    let detail = format!("used by {}", first_of(&users));
    Ok(Some(Lost { warning, detail }))
}

/// Returns why a namespace has to stay: documents are in it, and would stay without it. Nobody may force
/// that. What the server tells of them is none.
fn inhabited(object: &Object, store: &Store) -> Option<Refused> {
    if object.resource() != Some(Resource::Namespace) {
        return None;
    }
    let counts = |kind: &Resource| kind.scope() == Scope::Namespaced && *kind != Resource::Event;
    let kinds = Resource::ALL.into_iter().filter(counts);
    let found: Vec<_> = kinds.flat_map(|kind| store.list(kind, Some(object.name())).0).collect();
    if found.is_empty() {
        return None;
    }
    let names: Vec<String> = found.iter().map(|inside| format!("{inside:?}")).collect();
    let message = format!("delete what is in it first: {}", first_of(&names));
    let cause = Cause { field: "metadata.name".to_owned(), message, reason: Reason::InUse };
    Some(Refused { causes: vec![cause] })
}

/// Returns how many there are, and the first of them.
fn first_of(names: &[String]) -> String {
    let more = if names.len() > MOST_NAMES { ", ..." } else { "" };
    let shown = names.get(..MOST_NAMES).unwrap_or(names);
    format!("{} in all, {}{more}", names.len(), shown.join(", "))
}

/// Records that a document goes, and lets it.
fn remove(api: &Api, asked: &Asked, object: &Object, lost: Option<&Lost>) -> Answer<Arc<Object>> {
    let (resource, name) = (asked.target.resource, object.name());
    let namespace = object.namespace();
    let subject = match namespace {
        Some(namespace) => format!("{} {namespace}/{name}", resource.plural()),
        None => format!("{} {name}", resource.plural()),
    };
    let detail = match lost {
        Some(lost) => format!("uid {}, forced: {}", object.uid(), lost.detail),
        None => format!("uid {}", object.uid()),
    };
    api.record(&asked.caller, "delete", &subject, &detail)?;
    let store = &api.context.store;
    store
        .delete(resource, namespace, name, Some(object.uid()))
        .map_err(|error| Failure::of(error, resource, name))
}

/// The most names that are written out.
const MOST_NAMES: usize = 50;

/// The annotation that lets a document go although it is in use.
const FORCE: &str = "strongroom.io/force-delete";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_counted_and_few_are_written_out() {
        let names: Vec<String> = (0..=MOST_NAMES).map(|number| format!("n{number}")).collect();
        let text = first_of(&names);
        assert!(text.starts_with("51 in all, n0, n1, "), "{text}");
        assert!(text.ends_with(", n49, ..."), "{text}");
        assert_eq!(first_of(&names[..2]), "2 in all, n0, n1");
    }
}
