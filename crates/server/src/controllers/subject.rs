//! Which document a piece of work is about.

use std::fmt;

use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

/// A document, by its kind, namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Subject {
    pub(crate) resource: Resource,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl Subject {
    /// Returns the document of that name.
    pub(crate) fn new(resource: Resource, namespace: Option<&str>, name: &str) -> Self {
        Self { resource, namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    /// Returns what stands for every document of a kind: no document is without a name.
    pub(crate) fn any(resource: Resource) -> Self {
        Self::new(resource, None, "")
    }

    /// Returns which document this is, `None` when nobody here knows its kind.
    pub(crate) fn of(object: &Object) -> Option<Self> {
        Some(Self::new(object.resource()?, object.namespace(), object.name()))
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(' ')?;
        let resource = Resource::of_word(kind)?;
        Some(match name.split_once('/') {
            Some((namespace, name)) => Self::new(resource, Some(namespace), name),
            None => Self::new(resource, None, name),
        })
    }
}

impl fmt::Display for Subject {
    /// Writes it as jobs and the audit log call it: `backingimages.longhorn.io lab/ubuntu`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource.plural())?;
        match self.resource.group() {
            "" => {}
            group => write!(f, ".{group}")?,
        }
        match &self.namespace {
            Some(namespace) => write!(f, " {namespace}/{}", self.name),
            None => write!(f, " {}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jobs_remember_of_a_document_finds_it_again() {
        for resource in Resource::ALL {
            for namespace in [None, Some("lab")] {
                let subject = Subject::new(resource, namespace, "a.b-c");
                assert_eq!(Subject::parse(&subject.to_string()), Some(subject));
            }
        }
        assert_eq!(Subject::parse("backingimages"), None);
        assert_eq!(Subject::parse("nonsense lab/a"), None);
    }
}
