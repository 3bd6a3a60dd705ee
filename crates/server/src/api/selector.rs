//! Which documents somebody asks for: by labels and by fields.

use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::failure::{Answer, Failure};
use super::target::{Parameters, Target};
use crate::access::Caller;

/// Which documents somebody asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
    namespace: Option<String>,
    name: Option<String>,
    /// Who asks.
    caller: Option<Caller>,
}

/// What a label or field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// Tells whether a document is for the eyes of a caller who may read its kind. A PersistentVolume has no
/// namespace, but is that of the claim which has it.
pub(crate) fn sees(caller: &Caller, object: &Object) -> bool {
    if object.resource() != Some(Resource::PersistentVolume) || caller.reaches_everything() {
        return true;
    }
    let namespace = object.text(&["spec", "claimRef", "namespace"]);
    namespace.is_some_and(|namespace| caller.reaches(namespace))
}

impl Selector {
    /// Reads what a request asks for.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is about a field that nothing here can be asked for by.
    pub(crate) fn of(target: &Target, parameters: &Parameters) -> Answer<Self> {
        let labels = requirements(parameters.text("labelSelector").unwrap_or_default())
            .ok_or_else(|| Failure::bad_request("the label selector cannot be read"))?;
        let fields = requirements(parameters.text("fieldSelector").unwrap_or_default())
            .ok_or_else(|| Failure::bad_request("the field selector cannot be read"))?;
        for field in &fields {
            if !is_field(target.resource, &field.key) {
                let problem = format!("{:?} is not a known field selector", field.key);
                return Err(Failure::bad_request(problem));
            }
        }
        let (namespace, name) = (target.namespace.clone(), target.name.clone());
        Ok(Self { labels, fields, namespace, name, caller: None })
    }

    /// Leaves out what the caller does not see.
    #[must_use]
    pub(crate) fn seen_by(self, caller: &Caller) -> Self {
        Self { caller: Some(caller.clone()), ..self }
    }

    /// Tells whether a document is one of them.
    pub(crate) fn takes(&self, object: &Object) -> bool {
        if self.caller.as_ref().is_some_and(|caller| !sees(caller, object)) {
            return false;
        }
        let label = |key: &str| object.text(&["metadata", "labels", key]);
        let field = |key: &str| {
            let path: Vec<&str> = key.split('.').collect();
            object.text(&path)
        };
        self.namespace.as_deref().is_none_or(|wanted| object.namespace() == Some(wanted))
            && self.name.as_deref().is_none_or(|wanted| object.name() == wanted)
            && self.labels.iter().all(|wanted| wanted.test.holds(label(&wanted.key)))
            && self.fields.iter().all(|wanted| {
                // A field that is not there is an empty text.
                wanted.test.holds(Some(field(&wanted.key).unwrap_or_default()))
            })
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let among = |values: &[String]| value.is_some_and(|is| values.iter().any(|one| one == is));
        match self {
            Self::In(values) => among(values),
            Self::NotIn(values) => !among(values),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
        }
    }
}

fn is_field(resource: Resource, key: &str) -> bool {
    match key {
        "metadata.name" | "metadata.namespace" => true,
        "type" => matches!(resource, Resource::Secret | Resource::Event),
        "reason" | "reportingComponent" => resource == Resource::Event,
        "status.phase" => resource == Resource::Namespace,
        key => resource == Resource::Event && key.starts_with("involvedObject."),
    }
}

/// Reads requirements: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
fn requirements(text: &str) -> Option<Vec<Requirement>> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0_usize, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                parts.push(text.get(begin..at)?);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..)?);
    if depth != 0 {
        return None;
    }
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts.map(requirement).collect()
}

fn requirement(text: &str) -> Option<Requirement> {
    let one = |value: &str| vec![value.trim().to_owned()];
    let (key, test) = if let Some((key, value)) = text.split_once("!=") {
        (key, Test::NotIn(one(value)))
    } else if let Some((key, value)) = text.split_once("==") {
        (key, Test::In(one(value)))
    } else if let Some((key, value)) = text.split_once('=') {
        (key, Test::In(one(value)))
    } else if let Some((key, values)) = text.split_once(" notin ") {
        (key, Test::NotIn(set(values)?))
    } else if let Some((key, values)) = text.split_once(" in ") {
        (key, Test::In(set(values)?))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Test::Absent)
    } else {
        (text, Test::Exists)
    };
    let key = key.trim();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
    (!key.is_empty() && key.chars().all(fits)).then(|| Requirement { key: key.to_owned(), test })
}

fn set(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(labels: &str, fields: &str) -> Answer<bool> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("labelSelector", labels).append_pair("fieldSelector", fields);
        let target = Target::of("/apis/longhorn.io/v1beta2/namespaces/lab/volumes").unwrap();
        let selector = Selector::of(&target, &Parameters::of(Some(&query.finish())))?;
        let mut object = Object::new(Resource::LonghornVolume, Some("lab"), "v1");
        object.set(&["metadata", "labels", "tier"], "gold");
        object.set(&["metadata", "labels", "example.org/of"], "a");
        Ok(selector.takes(&object))
    }

    #[test]
    fn labels_select_as_in_kubernetes() {
        for (labels, takes) in [
            ("", true),
            ("tier=gold", true),
            ("tier==gold,example.org/of=a", true),
            ("tier!=gold", false),
            ("none!=gold", true),
            ("tier in (silver, gold)", true),
            ("tier notin (silver,gold)", false),
            ("tier", true),
            ("!tier", false),
            ("!none,tier in (gold),example.org/of", true),
            ("tier=silver", false),
        ] {
            assert_eq!(selects(labels, "").unwrap(), takes, "{labels}");
        }
        for broken in ["tier in gold", "tier in (gold", "a b", "=x", "a)"] {
            assert!(selects(broken, "").is_err(), "{broken}");
        }
    }

    #[test]
    fn fields_select_by_what_is_known_of_all_documents() {
        assert!(selects("", "metadata.name=v1,metadata.namespace=lab").unwrap());
        assert!(!selects("", "metadata.name=v2").unwrap());
        assert!(selects("", "metadata.name!=v2").unwrap());
        assert!(selects("", "spec.size=1").is_err());
    }
}
