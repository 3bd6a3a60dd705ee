//! The documents: all of them in memory, each change in the catalog before anybody sees it.

mod bounds;
mod documents;
mod events;
mod naming;
mod secrets;
mod versions;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use strongroom::catalog::{self, Catalog, Kind};
use strongroom::sealing::Sealer;
use strongroom_model::dialect::admission::{Known, SecretValues};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;
use tokio::sync::watch;

pub(crate) use self::bounds::{LEVELS, is_deeper};
use self::documents::{Documents, Kept};
use self::events::Events;
use self::naming::Key;
use self::secrets::Sealed;
use self::versions::Versions;
use crate::{Error, Result};

/// The documents. A clone is the same store.
///
/// # Guarantees
///
/// - A change that has returned survives a loss of power; nobody sees one that does not.
/// - Each change has a version of its own, larger than all before it, also after a restart. It is the
///   document's `resourceVersion`.
/// - The values of Secrets are sealed in the catalog, and in no document that comes out of here: `data` has
///   the keys with empty values. [`Known::secret`] is the only way to them.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    catalog: Arc<dyn Catalog>,
    sealer: Sealer,
    /// Held while a document is changed, so that versions, catalog and memory go the same way.
    versions: Mutex<Versions>,
    documents: RwLock<Documents>,
    events: Events,
    set_aside: Vec<SetAside>,
}

/// A record of a document that could not be read. It stays in the catalog as it is, and nobody gets its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Its identifier in the catalog: `PLURAL.GROUP/NAMESPACE/NAME`.
    pub id: String,
    /// Why it cannot be read.
    pub problem: String,
}

/// Which part of a document somebody changes. The other part stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Everything but `status`.
    Document,
    /// `status`.
    Status,
}

/// Who changes a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Author {
    /// The server itself, which knows when the data of a document is gone.
    Server,
    /// Somebody who asks for it.
    Client,
}

/// A change of a document.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its version.
    pub version: u64,
    /// Which kind.
    pub resource: Resource,
    /// What happened.
    pub happened: Happened,
    /// The document as it is then; as it was last, when it is gone.
    pub object: Arc<Object>,
    /// The document as it was before; `None` when it is new.
    pub before: Option<Arc<Object>>,
}

/// What happened to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happened {
    /// It is new.
    Added,
    /// It was changed.
    Modified,
    /// It is gone.
    Deleted,
}

impl Store {
    /// Reads the documents of a catalog. Those that cannot be read are set aside.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn open(catalog: Arc<dyn Catalog>, sealer: Sealer) -> Result<Self> {
        let (mut documents, set_aside) = Documents::read(&*catalog)?;
        let versions = Versions::open(&*catalog, documents.version())?;
        documents.begin_at(versions.newest());
        let events = Events::after(versions.newest());
        Ok(Self(Arc::new(Inner {
            catalog,
            sealer,
            versions: Mutex::new(versions),
            documents: RwLock::new(documents),
            events,
            set_aside,
        })))
    }

    /// Returns the records that could not be read when the store was opened.
    pub fn set_aside(&self) -> &[SetAside] {
        &self.0.set_aside
    }

    /// Returns a document.
    pub fn read(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Arc<Object>> {
        self.object(resource, namespace, name)
    }

    /// Returns all documents of a kind by namespace and name, of one namespace or of all, and the version of
    /// the store that they are of.
    pub fn list(&self, resource: Resource, namespace: Option<&str>) -> (Vec<Arc<Object>>, u64) {
        let documents = self.documents();
        (documents.list(resource, namespace), documents.version())
    }

    /// Returns the version of the newest change.
    pub fn version(&self) -> u64 {
        self.documents().version()
    }

    /// Puts a document in. It gets its UID, its time and its version here. `stringData` of a Secret goes into
    /// its `data`.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`]; [`Error::Refused`] when it has no name that can be kept, or is too deep or too long.
    pub fn create(&self, mut object: Object) -> Result<Arc<Object>> {
        bounds::refuse_depth(&object)?;
        let key = naming::settle(&mut object)?;
        let sealed = Sealed::of(&mut object, &key, None, &self.0.sealer)?;
        let mut versions = self.writing();
        let id = key.id();
        let is_aside = self.0.set_aside.iter().any(|aside| aside.id == id);
        if is_aside || self.kept(&key).is_some() {
            return Err(Error::Exists { what: key.to_string() });
        }
        naming::stamp(&mut object);
        let version = versions.next(&*self.0.catalog)?;
        set_version(&mut object, version);
        let text = sealed.text(&object);
        bounds::refuse_length(&key, &text, || 0)?;
        let written = self.0.catalog.insert(Kind::Object, &id, &text);
        self.wrote(&key, written)?;
        let kept = Kept { object: Arc::new(object), stored: 1, sealed };
        Ok(self.put(&key, kept, version, Happened::Added))
    }

    /// Puts a document in the place of the one with its `resourceVersion`; without one, of whatever is there.
    /// Nothing happens when it is the same. One that is being deleted and has no finalizer left is gone after
    /// that.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] and [`Error::Conflict`]; [`Error::Refused`] when it is too deep or too long.
    pub fn replace(&self, object: Object, part: Part) -> Result<Arc<Object>> {
        self.replace_by(object, part, Author::Server)
    }

    /// Does the same for somebody.
    pub(crate) fn replace_by(
        &self,
        mut object: Object,
        part: Part,
        author: Author,
    ) -> Result<Arc<Object>> {
        bounds::refuse_depth(&object)?;
        let key = naming::settle(&mut object)?;
        let mut versions = self.writing();
        let old = self.expected(&key)?;
        let wanted = object.resource_version();
        let other = !wanted.is_empty() && wanted != old.object.resource_version();
        let (uid, is) = (object.uid(), old.object.uid());
        if other || (!uid.is_empty() && uid != is) {
            return Err(Error::Conflict { what: key.to_string() });
        }
        let sealed = match part {
            Part::Document => Sealed::of(&mut object, &key, Some(&old.sealed), &self.0.sealer)?,
            Part::Status => old.sealed.clone(),
        };
        let mut new = joined(&old.object, object, part);
        if author == Author::Client {
            keep_hold(Some(&old.object), &mut new);
        }
        if new == *old.object && sealed == old.sealed {
            return Ok(old.object);
        }
        if new.is_being_deleted() && new.finalizers().next().is_none() {
            return self.remove(&key, &old, new, &mut versions);
        }
        let version = versions.next(&*self.0.catalog)?;
        set_version(&mut new, version);
        let text = sealed.text(&new);
        bounds::refuse_length(&key, &text, || old.sealed.text(&old.object).len())?;
        let written = self.0.catalog.replace(Kind::Object, &key.id(), old.stored, &text);
        self.wrote(&key, written)?;
        let kept = Kept { object: Arc::new(new), stored: old.stored + 1, sealed };
        Ok(self.put(&key, kept, version, Happened::Modified))
    }

    /// Changes a document, again and again until nobody else did so at the same time. `None` when there is
    /// none.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn edit(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
        part: Part,
        change: &mut dyn FnMut(&mut Object),
    ) -> Result<Option<Arc<Object>>> {
        loop {
            let Some(found) = self.read(resource, namespace, name) else { return Ok(None) };
            let mut object = (*found).clone();
            change(&mut object);
            match self.replace(object, part) {
                Err(Error::Conflict { .. }) => {}
                Err(Error::NotFound { .. }) => return Ok(None),
                done => return done.map(Some),
            }
        }
    }

    /// Takes a document out; one with finalizers is only marked as being deleted. Returns what is or was there.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Conflict`] when it is not the one with that UID.
    pub fn delete(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
        uid: Option<&str>,
    ) -> Result<Arc<Object>> {
        let key = Key::new(resource, namespace, name);
        let mut versions = self.writing();
        let old = self.expected(&key)?;
        if uid.is_some_and(|uid| uid != old.object.uid()) {
            return Err(Error::Conflict { what: key.to_string() });
        }
        let mut object = (*old.object).clone();
        if object.finalizers().next().is_none() {
            return self.remove(&key, &old, object, &mut versions);
        }
        if object.is_being_deleted() {
            return Ok(old.object);
        }
        object.set(&["metadata", "deletionTimestamp"], naming::now());
        object.set(&["metadata", "deletionGracePeriodSeconds"], 0);
        let version = versions.next(&*self.0.catalog)?;
        set_version(&mut object, version);
        let text = old.sealed.text(&object);
        let written = self.0.catalog.replace(Kind::Object, &key.id(), old.stored, &text);
        self.wrote(&key, written)?;
        let kept = Kept { object: Arc::new(object), stored: old.stored + 1, sealed: old.sealed };
        Ok(self.put(&key, kept, version, Happened::Modified))
    }

    /// Returns the changes after a version, at once; waits for one if there is none, for so long.
    ///
    /// # Errors
    ///
    /// [`Error::Expired`].
    pub fn changes(&self, after: u64, patience: Duration) -> Result<Vec<Event>> {
        self.0.events.changes(after, patience)
    }

    /// Returns what tells tasks that there are changes: the version of the newest one.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.0.events.newest()
    }

    fn documents(&self) -> std::sync::RwLockReadGuard<'_, Documents> {
        // Nothing is half done when a thread panics: documents are put in whole.
        self.0.documents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, Versions> {
        self.0.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, key: &Key) -> Option<Kept> {
        self.documents().kept(key).cloned()
    }

    fn expected(&self, key: &Key) -> Result<Kept> {
        self.kept(key).ok_or_else(|| Error::NotFound { what: key.to_string() })
    }

    fn remove(
        &self,
        key: &Key,
        old: &Kept,
        mut object: Object,
        versions: &mut Versions,
    ) -> Result<Arc<Object>> {
        let version = versions.next(&*self.0.catalog)?;
        let removed = self.0.catalog.remove(Kind::Object, &key.id(), old.stored);
        self.wrote(key, removed)?;
        set_version(&mut object, version);
        let object = Arc::new(object);
        self.tell(key, Happened::Deleted, &object, version, |documents| documents.take(key));
        Ok(object)
    }

    fn put(&self, key: &Key, kept: Kept, version: u64, happened: Happened) -> Arc<Object> {
        let object = Arc::clone(&kept.object);
        self.tell(key, happened, &object, version, |documents| documents.put(key, kept));
        object
    }

    /// Changes what is in memory, and tells of it before anybody sees a newer version.
    fn tell(
        &self,
        key: &Key,
        happened: Happened,
        object: &Arc<Object>,
        version: u64,
        change: impl FnOnce(&mut Documents),
    ) {
        let mut documents = self.0.documents.write().unwrap_or_else(PoisonError::into_inner);
        let before = documents.kept(key).map(|kept| Arc::clone(&kept.object));
        change(&mut documents);
        documents.begin_at(version);
        let (resource, object) = (key.resource, Arc::clone(object));
        self.0.events.push(Event { version, resource, happened, object, before });
    }

    /// Reads a document again whose writing has failed: nobody knows how it stands now.
    fn wrote(&self, key: &Key, written: catalog::Result<()>) -> Result<()> {
        let Err(error) = written else { return Ok(()) };
        if let Ok(Some(document)) = self.0.catalog.load(Kind::Object, &key.id())
            && let Ok((_, kept)) = documents::read(document)
        {
            let mut documents = self.0.documents.write().unwrap_or_else(PoisonError::into_inner);
            documents.put(key, kept);
        }
        match error {
            catalog::Error::Exists { .. } => Err(Error::Exists { what: key.to_string() }),
            catalog::Error::Changed { .. } => Err(Error::Conflict { what: key.to_string() }),
            error => Err(Error::Strongroom(error.into())),
        }
    }
}

impl Known for Store {
    fn object(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Arc<Object>> {
        let key = Key::new(resource, namespace, name);
        self.documents().kept(&key).map(|kept| Arc::clone(&kept.object))
    }

    fn objects(&self, resource: Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        self.documents().list(resource, namespace)
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<SecretValues> {
        let key = Key::new(Resource::Secret, Some(namespace), name);
        self.kept(&key)?.sealed.open(&key, &self.0.sealer)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("version", &self.version()).finish_non_exhaustive()
    }
}

/// Gives a document the namespace and name under which it will be kept.
///
/// # Errors
///
/// [`Error::Refused`] when it has none that can be kept.
pub(crate) fn name(object: &mut Object) -> Result<()> {
    naming::settle(object).map(drop)
}

/// Returns a document as it would be seen if it were kept: a Secret without its values.
pub(crate) fn redacted(mut object: Object) -> Object {
    secrets::redact(&mut object);
    object
}

/// Leaves it to the server to hold a document until its data is gone, and to let it go.
pub(crate) fn keep_hold(old: Option<&Object>, new: &mut Object) {
    let is_held = |object: &Object| object.finalizers().any(|name| name == DATA_FINALIZER);
    let held = old.is_some_and(is_held);
    if is_held(new) == held {
        return;
    }
    let others = new.finalizers().filter(|name| *name != DATA_FINALIZER).map(str::to_owned);
    let mut finalizers: Vec<String> = others.collect();
    if held {
        finalizers.push(DATA_FINALIZER.to_owned());
    }
    if finalizers.is_empty() {
        new.take(&["metadata", "finalizers"]);
    } else {
        new.set(&["metadata", "finalizers"], finalizers);
    }
}

/// Returns what a document becomes: what the server itself keeps of it stays as it was.
fn joined(old: &Object, mut new: Object, part: Part) -> Object {
    if part == Part::Status {
        let mut object = old.clone();
        match new.take(&["status"]) {
            Some(status) => object.set(&["status"], status),
            None => drop(object.take(&["status"])),
        }
        return object;
    }
    for kept in KEPT {
        let path = ["metadata", kept];
        match old.at(&path) {
            Some(value) => new.set(&path, value.clone()),
            None => drop(new.take(&path)),
        }
    }
    match old.at(&["status"]) {
        Some(status) => new.set(&["status"], status.clone()),
        None => drop(new.take(&["status"])),
    }
    if !same_request(old, &new) {
        let generation = old.at(&["metadata", "generation"]).and_then(serde_json::Value::as_u64);
        new.set(&["metadata", "generation"], generation.unwrap_or(0) + 1);
    }
    new
}

/// Tells whether two documents ask for the same: what stands in `metadata` and `status` does not count.
fn same_request(old: &Object, new: &Object) -> bool {
    let asked = |object: &Object| {
        object.fields().keys().filter(|key| !matches!(key.as_str(), "metadata" | "status")).count()
    };
    asked(old) == asked(new)
        && old.fields().iter().all(|(key, value)| {
            matches!(key.as_str(), "metadata" | "status") || new.fields().get(key) == Some(value)
        })
}

fn set_version(object: &mut Object, version: u64) {
    object.set(&["metadata", "resourceVersion"], version.to_string());
}

/// What keeps a document until its data is gone.
pub(crate) const DATA_FINALIZER: &str = "strongroom.io/data";

/// What the server alone sets in `metadata`.
const KEPT: [&str; 6] = [
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

#[cfg(test)]
mod tests;
