//! What there is to be asked for, as Kubernetes' API tells it.

mod aggregated;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use strongroom_model::dialect::resource::{Resource, Scope};

use self::aggregated::Groups;
use super::failure::{Answer, Failure};
use super::json;

/// Lists the versions of the group without a name.
pub(super) async fn core_versions(headers: HeaderMap) -> Response {
    if let Some(version) = aggregated::Version::of(&headers) {
        return aggregated::answer(version, Groups::Core);
    }
    let versions = json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    });
    json(StatusCode::OK, versions.to_string())
}

/// Lists the groups.
pub(super) async fn groups(headers: HeaderMap) -> Response {
    if let Some(version) = aggregated::Version::of(&headers) {
        return aggregated::answer(version, Groups::Named);
    }
    let groups: Vec<Value> =
        names().into_iter().map(|(group, version)| about(group, version)).collect();
    let list = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups });
    json(StatusCode::OK, list.to_string())
}

/// Tells about a group.
pub(super) async fn group(Path(group): Path<String>) -> Answer<Response> {
    let found = names().into_iter().find(|(name, _)| *name == group);
    let (name, version) = found.ok_or_else(Failure::no_path)?;
    let mut about = about(name, version);
    about["kind"] = "APIGroup".into();
    about["apiVersion"] = "v1".into();
    Ok(json(StatusCode::OK, about.to_string()))
}

/// Lists the kinds of the group without a name.
pub(super) async fn core_resources() -> Answer<Response> {
    kinds("", "v1")
}

/// Lists the pods, of which there never are any: `kubectl describe` asks which of them use a claim.
pub(super) async fn no_pods() -> Response {
    let list = json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [] });
    json(StatusCode::OK, list.to_string())
}

/// Lists the kinds of a group.
pub(super) async fn resources(Path((group, version)): Path<(String, String)>) -> Answer<Response> {
    kinds(&group, &version)
}

/// Returns the groups that have a name, with their versions.
fn names() -> Vec<(&'static str, &'static str)> {
    let mut names: Vec<_> = Resource::ALL
        .into_iter()
        .map(|resource| (resource.group(), resource.version()))
        .filter(|(group, _)| !group.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn about(group: &str, version: &str) -> Value {
    let version = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

fn kinds(group: &str, version: &str) -> Answer<Response> {
    let of_group = |resource: &Resource| (resource.group(), resource.version()) == (group, version);
    let found: Vec<Resource> = Resource::ALL.into_iter().filter(of_group).collect();
    let Some(first) = found.first() else { return Err(Failure::no_path()) };
    let list = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": first.api_version(),
        "resources": found.into_iter().flat_map(described).collect::<Vec<_>>(),
    });
    Ok(json(StatusCode::OK, list.to_string()))
}

fn described(resource: Resource) -> Vec<Value> {
    let namespaced = resource.scope() == Scope::Namespaced;
    let mut all = vec![json!({
        "name": resource.plural(),
        "singularName": resource.kind().to_ascii_lowercase(),
        "namespaced": namespaced,
        "kind": resource.kind(),
        "verbs": VERBS,
        "shortNames": resource.short_names(),
    })];
    if has_status(resource) {
        all.push(json!({
            "name": format!("{}/status", resource.plural()),
            "singularName": "",
            "namespaced": namespaced,
            "kind": resource.kind(),
            "verbs": STATUS_VERBS,
        }));
    }
    all
}

/// Tells whether documents of a kind have a status.
pub(super) fn has_status(resource: Resource) -> bool {
    !matches!(
        resource,
        Resource::Secret | Resource::Event | Resource::StorageClass | Resource::VolumeSnapshotClass
    )
}

/// What can be done with the status of one.
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// What can be done with documents.
const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
