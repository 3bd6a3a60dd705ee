//! The documents: all of them in memory, each change in the catalog before anybody sees it.

use std::sync::Arc;
use std::time::Duration;

use strongroom::catalog::Catalog;
use strongroom::sealing::Sealer;
use strongroom_model::dialect::admission::{Known, SecretValues};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

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
#[derive(Debug, Clone)]
pub struct Store(());

/// Which part of a document somebody changes. The other part stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Everything but `status`.
    Document,
    /// `status`.
    Status,
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
    /// Reads the documents of a catalog.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn open(catalog: Arc<dyn Catalog>, sealer: Sealer) -> Result<Self> {
        drop((catalog, sealer));
        Ok(Self(()))
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
        (self.objects(resource, namespace), 0)
    }

    /// Puts a document in. It gets its UID, its time and its version here. `stringData` of a Secret goes into
    /// its `data`.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`].
    pub fn create(&self, object: Object) -> Result<Arc<Object>> {
        Err(Error::Exists { what: format!("{object:?}") })
    }

    /// Puts a document in the place of the one with its `resourceVersion`; without one, of whatever is there.
    /// Nothing happens when it is the same. One that is being deleted and has no finalizer left is gone after
    /// that.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] and [`Error::Conflict`].
    pub fn replace(&self, object: Object, part: Part) -> Result<Arc<Object>> {
        Err(Error::NotFound { what: format!("{object:?} ({part:?})") })
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
        let _ = (resource, namespace, name, part, change);
        Ok(None)
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
        let _ = (namespace, uid);
        Err(Error::NotFound { what: format!("{} {name}", resource.kind()) })
    }

    /// Returns the changes after a version, at once; waits for one if there is none, for so long.
    ///
    /// # Errors
    ///
    /// [`Error::Expired`].
    pub fn changes(&self, after: u64, patience: Duration) -> Result<Vec<Event>> {
        let _ = patience;
        Err(Error::Expired { version: after })
    }
}

impl Known for Store {
    fn object(
        &self,
        _resource: Resource,
        _namespace: Option<&str>,
        _name: &str,
    ) -> Option<Arc<Object>> {
        None
    }

    fn objects(&self, _resource: Resource, _namespace: Option<&str>) -> Vec<Arc<Object>> {
        Vec::new()
    }

    fn secret(&self, _namespace: &str, _name: &str) -> Option<SecretValues> {
        None
    }
}
