//! What a request is about: the document or documents that its path names, and its parameters.

use std::collections::BTreeMap;

use axum::http::Method;
use strongroom_model::dialect::resource::{Resource, Scope};

use super::discovery::has_status;
use super::failure::{Answer, Failure};

/// The document or documents that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Their kind.
    pub(crate) resource: Resource,
    /// Their namespace; `None` for all, and for kinds that have none.
    pub(crate) namespace: Option<String>,
    /// The name of one; `None` for all.
    pub(crate) name: Option<String>,
    /// Whether it is about the status alone.
    pub(crate) part: crate::store::Part,
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    /// Read one.
    Get,
    /// Read all.
    List,
    /// Hear of changes.
    Watch,
    /// Put one in.
    Create,
    /// Put one in the place of another.
    Update,
    /// Change one.
    Patch,
    /// Take one out.
    Delete,
    /// Take all out.
    DeleteCollection,
}

/// The parameters of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(BTreeMap<String, String>);

impl Target {
    /// Returns what a path of Kubernetes' API names, `None` when it is none of this house.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let (group, version) = match segments.next()? {
            "api" => ("", segments.next()?),
            "apis" => (segments.next()?, segments.next()?),
            _ => return None,
        };
        let segments: Vec<&str> = segments.collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            return None;
        }
        let (namespace, plural, rest) = match segments.as_slice() {
            ["namespaces", namespace, plural, rest @ ..] if *plural != "status" => {
                (Some(*namespace), *plural, rest)
            }
            [plural, rest @ ..] => (None, *plural, rest),
            [] => return None,
        };
        let resource = Resource::of_path(group, version, plural)?;
        let (name, part) = match rest {
            [] => (None, crate::store::Part::Document),
            [name] => (Some(*name), crate::store::Part::Document),
            [name, "status"] if has_status(resource) => (Some(*name), crate::store::Part::Status),
            _ => return None,
        };
        let fits = match resource.scope() {
            Scope::Cluster => namespace.is_none(),
            Scope::Namespaced => namespace.is_some() || name.is_none(),
        };
        let (namespace, name) = (namespace.map(str::to_owned), name.map(str::to_owned));
        fits.then_some(Self { resource, namespace, name, part })
    }

    /// Returns what a method means for it.
    pub(crate) fn verb(&self, method: &Method, parameters: &Parameters) -> Answer<Verb> {
        let one = self.name.is_some();
        match *method {
            Method::GET | Method::HEAD if parameters.is_true("watch") => Ok(Verb::Watch),
            Method::GET | Method::HEAD if one => Ok(Verb::Get),
            Method::GET | Method::HEAD => Ok(Verb::List),
            Method::POST if !one => Ok(Verb::Create),
            Method::PUT if one => Ok(Verb::Update),
            Method::PATCH if one => Ok(Verb::Patch),
            Method::DELETE if one && self.part == crate::store::Part::Document => Ok(Verb::Delete),
            Method::DELETE if !one => Ok(Verb::DeleteCollection),
            _ => Err(Failure::method()),
        }
    }

    /// Returns the name, empty when there is none.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Returns it as the audit log has it: `secrets lab/key`.
    pub(crate) fn subject(&self, name: &str) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{name}", self.resource.plural()),
            None => format!("{} {name}", self.resource.plural()),
        }
    }
}

impl Verb {
    /// Returns the word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Returns whether nothing is changed by it.
    pub(crate) fn only_reads(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

impl Parameters {
    /// Reads those of a query. The last one of a name counts.
    pub(crate) fn of(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// Returns one that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Returns whether one is true.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        matches!(self.text(name), Some("true" | "1" | "True"))
    }

    /// Returns a number.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub(crate) fn number(&self, name: &str) -> Answer<Option<u64>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let problem = || Failure::bad_request(format!("{name} is no number"));
        text.parse().map(Some).map_err(|_| problem())
    }

    /// Returns whether nothing shall be kept.
    ///
    /// # Errors
    ///
    /// When it asks for something else than `All`.
    pub(crate) fn dry_run(&self) -> Answer<bool> {
        match self.text("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(_) => Err(Failure::bad_request("dryRun takes nothing but All")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Part;

    fn target(path: &str) -> Option<(Resource, Option<String>, Option<String>, Part)> {
        Target::of(path).map(|target| (target.resource, target.namespace, target.name, target.part))
    }

    #[test]
    fn paths_name_documents_as_kubernetes_has_them() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            target("/api/v1/namespaces/lab/secrets/key"),
            Some((Resource::Secret, some("lab"), some("key"), Part::Document))
        );
        assert_eq!(
            target("/apis/longhorn.io/v1beta2/backingimages"),
            Some((Resource::BackingImage, None, None, Part::Document))
        );
        assert_eq!(
            target("/apis/longhorn.io/v1beta2/namespaces/lab/volumes/v/status"),
            Some((Resource::LonghornVolume, some("lab"), some("v"), Part::Status))
        );
        assert_eq!(
            target("/api/v1/namespaces/lab"),
            Some((Resource::Namespace, None, some("lab"), Part::Document))
        );
        assert_eq!(
            target("/api/v1/namespaces/lab/status"),
            Some((Resource::Namespace, None, some("lab"), Part::Status))
        );
        assert_eq!(
            target("/apis/storage.k8s.io/v1/storageclasses/fast"),
            Some((Resource::StorageClass, None, some("fast"), Part::Document))
        );
    }

    #[test]
    fn other_paths_name_nothing() {
        for path in [
            "/api/v1",
            "/api/v1/pods",
            "/api/v1/secrets/key",
            "/api/v1/namespaces/lab/secrets/key/scale",
            "/api/v1/namespaces/lab/secrets//",
            "/apis/longhorn.io/v1beta1/volumes",
            "/apis/storage.k8s.io/v1/namespaces/lab/storageclasses",
            "/v1/jobs",
            "",
        ] {
            assert_eq!(target(path), None, "{path}");
        }
    }
}
