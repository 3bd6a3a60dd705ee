//! A document while it is looked at.

use serde_json::Value;

use super::{Admitted, Cause, Change, Known, Reason, Refused};
use crate::dialect::fields::{Fields, field, shown};
use crate::dialect::kubernetes::{is_label, is_subdomain};
use crate::dialect::object::Object;
use crate::dialect::resource::{Resource, Scope};

/// A document while it is looked at, and what there is to say about it so far.
pub(super) struct Review<'a> {
    pub(super) object: Object,
    /// What it takes the place of.
    pub(super) old: Option<&'a Object>,
    pub(super) known: &'a dyn Known,
    causes: Vec<Cause>,
    warnings: Vec<String>,
}

impl<'a> Review<'a> {
    pub(super) fn new(object: Object, change: Change<'a>, known: &'a dyn Known) -> Self {
        let old = match change {
            Change::Create => None,
            Change::Update(old) => Some(old),
        };
        Self { object, old, known, causes: Vec::new(), warnings: Vec::new() }
    }

    /// Refuses metadata that nobody could work with.
    pub(super) fn check_metadata(&mut self, resource: Resource) {
        self.check_name(resource);
        let mut fields = Fields::of(&self.object, resource);
        fields.texts(&["metadata", "labels"]);
        fields.texts(&["metadata", "annotations"]);
        fields.list(&["metadata", "finalizers"]);
        if let Err(refused) = fields.finish(()) {
            self.add(refused);
        }
    }

    /// Refuses a name that the kind does not take, and a namespace that is none.
    fn check_name(&mut self, resource: Resource) {
        let name = self.object.name().to_owned();
        if name.is_empty() {
            let message = "every document has a name, which is text";
            return self.note(&["metadata", "name"], Reason::Required, message);
        }
        let (fits, wanted) = match resource {
            Resource::BackingImage => (is_image_name(&name), IMAGE_NAME),
            Resource::Namespace => (is_label(&name), LABEL),
            _ => (is_subdomain(&name), SUBDOMAIN),
        };
        if !fits {
            let message = format!("invalid name {}: {wanted}", shown(&name));
            self.note(&["metadata", "name"], Reason::Invalid, message);
        }
        let namespace = self.object.namespace().map(str::to_owned);
        match (resource.scope(), namespace) {
            (Scope::Namespaced, Some(namespace)) if !is_label(&namespace) => {
                let message = format!("invalid namespace {}: {LABEL}", shown(&namespace));
                self.note(&["metadata", "namespace"], Reason::Invalid, message);
            }
            (Scope::Cluster, Some(_)) => {
                let message = format!("a {} has no namespace: leave it out", resource.kind());
                self.note(&["metadata", "namespace"], Reason::Invalid, message);
            }
            _ => {}
        }
    }

    /// Returns the document as a type, `None` when it is no such thing, which is noted.
    pub(super) fn view<T>(&mut self) -> Option<T>
    where
        T: for<'o> TryFrom<&'o Object, Error = Refused>,
    {
        match T::try_from(&self.object) {
            Ok(view) => Some(view),
            Err(refused) => {
                self.add(refused);
                None
            }
        }
    }

    /// Adds reasons that somebody else found, but for those that are known.
    pub(super) fn add(&mut self, refused: Refused) {
        for cause in refused.causes {
            if !self.causes.contains(&cause) {
                self.causes.push(cause);
            }
        }
    }

    /// Notes what is wrong with a field.
    pub(super) fn note(&mut self, path: &[&str], reason: Reason, message: impl Into<String>) {
        self.causes.push(Cause { field: field(path), message: message.into(), reason });
    }

    /// Adds what the author should know.
    pub(super) fn warn(&mut self, path: &[&str], message: &str) {
        self.warnings.push(format!("{}: {message}", field(path)));
    }

    /// Puts a value where there is none.
    pub(super) fn default(&mut self, path: &[&str], value: impl Into<Value>) {
        if self.object.at(path).is_none() {
            self.object.set(path, value);
        }
    }

    /// Leaves a field that the new document does not mention as it was. Whoever applies a file again does not
    /// mean to take out what was filled in for them.
    pub(super) fn keep(&mut self, path: &[&str]) {
        if let Some(value) = self.old.and_then(|old| old.at(path)) {
            self.default(path, value.clone());
        }
    }

    /// Leaves a field as it was if nobody says another thing, and refuses another thing.
    pub(super) fn fixed(&mut self, path: &[&str], message: &str) {
        self.keep(path);
        if self.old.is_some_and(|old| old.at(path) != self.object.at(path)) {
            self.note(path, Reason::Immutable, message);
        }
    }

    /// As [`fixed`](Self::fixed), for a field that may be filled in once.
    pub(super) fn fixed_once_set(&mut self, path: &[&str], message: &str) {
        if self.old.is_some_and(|old| old.at(path).is_some_and(|value| value != "")) {
            self.fixed(path, message);
        }
    }

    /// Returns whether something besides metadata and status is new. If not, it is none of this document's
    /// business what has become of the others.
    pub(super) fn is_changed(&self) -> bool {
        let Some(old) = self.old else { return true };
        let contents = |object: &'_ Object| -> Vec<(String, Value)> {
            let fields = object.fields().iter();
            let mut fields: Vec<_> = fields
                .filter(|(key, value)| !ASIDE.contains(&key.as_str()) && !value.is_null())
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            fields
        };
        !self.object.is_being_deleted() && contents(&self.object) != contents(old)
    }

    /// Returns whether nothing was wrong so far.
    pub(super) fn is_good(&self) -> bool {
        self.causes.is_empty()
    }

    pub(super) fn finish(self) -> Result<Admitted, Refused> {
        if self.causes.is_empty() {
            Ok(Admitted { object: self.object, warnings: self.warnings })
        } else {
            Err(Refused { causes: self.causes })
        }
    }
}

/// Returns whether Longhorn takes it as the name of an image.
fn is_image_name(name: &str) -> bool {
    let small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (2..=253).contains(&name.len())
        && name.bytes().all(|byte| small(byte) || matches!(byte, b'_' | b'.' | b'-'))
        && name.bytes().next().is_some_and(small)
}

/// The fields that are not the contents of a document.
const ASIDE: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

const SUBDOMAIN: &str = "use 1 to 253 small letters, digits, '-' and '.', and begin and end with a \
                         letter or digit";
const LABEL: &str =
    "use 1 to 63 small letters, digits and '-', and begin and end with a letter or digit";
const IMAGE_NAME: &str =
    "use 2 to 253 small letters, digits, '-', '_' and '.', and begin with a letter or digit";
