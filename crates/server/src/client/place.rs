//! Where the API keeps documents.

use std::fmt::Write;

use strongroom_model::dialect::resource::{Resource, Scope};

/// Where the documents of a kind are, or one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which kind.
    pub resource: Resource,
    /// In which namespace; `None` for all of them, and for kinds that are in none.
    pub namespace: Option<String>,
    /// What it is called, where it is one.
    pub name: Option<String>,
}

impl Place {
    /// Returns the place of all documents of a kind, in one namespace or in all.
    pub fn of_all(resource: Resource, namespace: Option<&str>) -> Self {
        let namespace = namespace.filter(|_| resource.scope() == Scope::Namespaced);
        Self { resource, namespace: namespace.map(str::to_owned), name: None }
    }

    /// Returns the place of a document.
    pub fn of_one(resource: Resource, namespace: Option<&str>, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::of_all(resource, namespace) }
    }

    /// Returns its path, with a query where there is something to ask.
    pub fn path(&self, query: &[(&str, &str)]) -> String {
        let mut path = match self.resource.group() {
            "" => format!("/api/{}", self.resource.version()),
            group => format!("/apis/{group}/{}", self.resource.version()),
        };
        if let Some(namespace) = &self.namespace {
            path.push_str("/namespaces/");
            push_encoded(&mut path, namespace);
        }
        path.push('/');
        path.push_str(self.resource.plural());
        if let Some(name) = &self.name {
            path.push('/');
            push_encoded(&mut path, name);
        }
        for (number, (key, value)) in query.iter().enumerate() {
            path.push(if number == 0 { '?' } else { '&' });
            push_encoded(&mut path, key);
            path.push('=');
            push_encoded(&mut path, value);
        }
        path
    }
}

/// Appends a part of a path or query so that nothing in it is taken for another part (RFC 3986, section 2.1).
pub(super) fn push_encoded(path: &mut String, part: &str) {
    // A path of dots alone would lead elsewhere, whether they are encoded or not: no such name exists.
    for byte in part.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            other => write!(path, "%{other:02X}").expect("a string takes everything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_kubernetes() {
        let secret = Place::of_one(Resource::Secret, Some("lab"), "key");
        assert_eq!(secret.path(&[]), "/api/v1/namespaces/lab/secrets/key");
        let images = Place::of_all(Resource::BackingImage, None);
        assert_eq!(
            images.path(&[("watch", "true"), ("fieldSelector", "metadata.name=a b")]),
            "/apis/longhorn.io/v1beta2/backingimages?watch=true&fieldSelector=metadata.name%3Da%20b"
        );
        let class = Place::of_one(Resource::StorageClass, Some("lab"), "a/../b");
        assert_eq!(class.path(&[]), "/apis/storage.k8s.io/v1/storageclasses/a%2F..%2Fb");
    }
}
