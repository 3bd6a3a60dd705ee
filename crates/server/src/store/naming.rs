//! How documents are called, and what each of them gets when it is put in.

use std::fmt;
use std::time::SystemTime;

use strongroom_model::dialect::admission::{Cause, Reason, Refused};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::{Resource, Scope};

use crate::{Error, Result};

/// Which document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Its kind.
    pub(super) resource: Resource,
    /// Its namespace; empty when the kind has none.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
}

impl Key {
    /// Returns the key of a name. A namespace that the kind does not have is not looked at.
    pub(super) fn new(resource: Resource, namespace: Option<&str>, name: &str) -> Self {
        let namespace = match resource.scope() {
            Scope::Namespaced => namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned(),
            Scope::Cluster => String::new(),
        };
        Self { resource, namespace, name: name.to_owned() }
    }

    /// Returns the identifier in the catalog.
    pub(super) fn id(&self) -> String {
        let Self { resource, namespace, name } = self;
        let namespace = if namespace.is_empty() { "-" } else { namespace };
        format!("{}.{}/{namespace}/{name}", resource.plural(), resource.group())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.resource.kind();
        if self.namespace.is_empty() {
            return write!(f, "{kind} {}", self.name);
        }
        write!(f, "{kind} {}/{}", self.namespace, self.name)
    }
}

/// Gives a document the namespace and name that it is kept under, and returns both.
///
/// # Errors
///
/// [`Error::Refused`] when there is no such kind, or the name cannot be one.
pub(super) fn settle(object: &mut Object) -> Result<Key> {
    let Some(resource) = object.resource() else {
        return Err(refused(object, "kind", "nothing here knows documents of this kind"));
    };
    object.take(&["metadata", "managedFields"]);
    match resource.scope() {
        Scope::Cluster => drop(object.take(&["metadata", "namespace"])),
        Scope::Namespaced if object.namespace().is_none() => {
            object.set(&["metadata", "namespace"], DEFAULT_NAMESPACE);
        }
        Scope::Namespaced => {}
    }
    if object.name().is_empty()
        && let Some(prefix) = object.text(&["metadata", "generateName"])
    {
        let name = format!("{prefix}{}", suffix());
        object.set(&["metadata", "name"], name);
    }
    if !is_name(object.name()) {
        let problem = "a name has 1 to 253 letters, digits, dots, hyphens and underscores, and \
                       begins with a letter or digit";
        return Err(refused(object, "metadata.name", problem));
    }
    if object.namespace().is_some_and(|namespace| !is_name(namespace)) {
        let problem = "a namespace has 1 to 253 letters, digits and hyphens";
        return Err(refused(object, "metadata.namespace", problem));
    }
    Ok(Key::new(resource, object.namespace(), object.name()))
}

/// Gives a new document its UID and its time.
pub(super) fn stamp(object: &mut Object) {
    for ours in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        object.take(&["metadata", ours]);
    }
    object.set(&["metadata", "uid"], uid());
    object.set(&["metadata", "creationTimestamp"], now());
    object.set(&["metadata", "generation"], 1);
}

/// Returns the time as documents have it.
pub(super) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

fn uid() -> String {
    let mut bytes = [0; 16];
    rand_core::Rng::fill_bytes(&mut strongroom::system_rng(), &mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Returns five characters that make a name of a prefix.
fn suffix() -> String {
    let mut bytes = [0; 5];
    rand_core::Rng::fill_bytes(&mut strongroom::system_rng(), &mut bytes);
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    bytes.iter().map(letter).collect()
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=253).contains(&name.len())
        && name.bytes().all(fits)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn refused(object: &Object, field: &str, problem: &str) -> Error {
    let cause =
        Cause { field: field.to_owned(), message: problem.to_owned(), reason: Reason::Invalid };
    Error::Refused { what: format!("{object:?}"), refused: Refused { causes: vec![cause] } }
}

/// Where documents are of which nobody says where.
const DEFAULT_NAMESPACE: &str = "default";

/// Consonants and digits, so that no words come about.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
