//! Everything that there is to be asked for in two answers, for clients that can read them
//! (`apidiscovery.k8s.io`).

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use serde_json::{Value, json};
use strongroom_model::dialect::resource::{Resource, Scope};

use super::super::json;
use super::{STATUS_VERBS, VERBS, has_status};

/// In which version of that group somebody wants the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V2,
    V2Beta1,
}

/// The groups that one answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Groups {
    /// The one without a name.
    Core,
    /// Those with one.
    Named,
}

impl Version {
    /// Returns the one that is asked for before anything else that can be had.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
        accept.split(',').find_map(one_of).flatten()
    }

    fn word(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }
}

/// Returns what a part of an Accept header asks for: a version, or the answer as it always was; `None` when
/// it is something that is not to be had.
fn one_of(part: &str) -> Option<Option<Version>> {
    let mut words = part.split(';').map(str::trim);
    if !matches!(words.next()?, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let (mut group, mut version, mut shape) = ("", "", "");
    for word in words {
        match word.split_once('=') {
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            Some(("as", value)) => shape = value,
            _ => {}
        }
    }
    match (shape, group, version) {
        ("", ..) => Some(None),
        (SHAPE, GROUP, "v2") => Some(Some(Version::V2)),
        (SHAPE, GROUP, "v2beta1") => Some(Some(Version::V2Beta1)),
        _ => None,
    }
}

/// Returns the answer.
pub(super) fn answer(version: Version, groups: Groups) -> Response {
    let version = version.word();
    let mut names: Vec<(&str, &str)> = Resource::ALL
        .into_iter()
        .map(|resource| (resource.group(), resource.version()))
        .filter(|(group, _)| group.is_empty() == (groups == Groups::Core))
        .collect();
    names.sort_unstable();
    names.dedup();
    let list = json!({
        "kind": SHAPE,
        "apiVersion": format!("{GROUP}/{version}"),
        "metadata": {},
        "items": names.into_iter().map(group).collect::<Vec<_>>(),
    });
    let mut response = json(axum::http::StatusCode::OK, list.to_string());
    let kind = format!("application/json;g={GROUP};v={version};as={SHAPE}");
    if let Ok(kind) = HeaderValue::try_from(kind) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

fn group((name, version): (&str, &str)) -> Value {
    let of_group = |resource: &Resource| (resource.group(), resource.version()) == (name, version);
    let resources: Vec<Value> = Resource::ALL.into_iter().filter(of_group).map(described).collect();
    let metadata = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
    let version = json!({ "version": version, "freshness": "Current", "resources": resources });
    json!({ "metadata": metadata, "versions": [version] })
}

fn described(resource: Resource) -> Value {
    let kind = json!({
        "group": resource.group(),
        "version": resource.version(),
        "kind": resource.kind(),
    });
    let scope = match resource.scope() {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    };
    let mut described = json!({
        "resource": resource.plural(),
        "responseKind": kind,
        "scope": scope,
        "singularResource": resource.kind().to_ascii_lowercase(),
        "verbs": VERBS,
        "shortNames": resource.short_names(),
    });
    if has_status(resource) {
        let status =
            json!({ "subresource": "status", "responseKind": kind, "verbs": STATUS_VERBS });
        described["subresources"] = json!([status]);
    }
    described
}

/// The group of such answers.
const GROUP: &str = "apidiscovery.k8s.io";

/// What they are called.
const SHAPE: &str = "APIGroupDiscoveryList";

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &'static str) -> Option<Version> {
        let headers = [(header::ACCEPT, HeaderValue::from_static(accept))];
        Version::of(&headers.into_iter().collect())
    }

    #[test]
    fn whoever_can_read_it_gets_it_in_the_version_that_he_prefers() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                       application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                       application/json";
        assert_eq!(wanted(kubectl), Some(Version::V2));
        let older = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert_eq!(wanted(older), Some(Version::V2Beta1));
        let newer = "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList, \
                     application/json;v=v2beta1;as=APIGroupDiscoveryList;g=apidiscovery.k8s.io";
        assert_eq!(wanted(newer), Some(Version::V2Beta1));
        for plain in ["application/json", "*/*", "application/json, text/html;q=0.9", "text/html"] {
            assert_eq!(wanted(plain), None, "{plain}");
        }
        assert_eq!(Version::of(&HeaderMap::new()), None);
    }
}
