//! What is in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use strongroom::catalog::{self, Catalog, Document, Kind};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::SetAside;
use super::naming::Key;
use super::secrets::Sealed;
use crate::Result;

/// A document, and what the catalog has of it.
#[derive(Clone)]
pub(super) struct Kept {
    /// The document, as people see it.
    pub(super) object: Arc<Object>,
    /// The version of it in the catalog, which counts for each document from 1.
    pub(super) stored: u64,
    /// Its sealed values.
    pub(super) sealed: Sealed,
}

/// All documents, by kind, namespace and name.
#[derive(Default)]
pub(super) struct Documents {
    version: u64,
    kinds: BTreeMap<Resource, BTreeMap<String, BTreeMap<String, Kept>>>,
}

impl Documents {
    /// Reads those of a catalog, and tells which of them cannot be read: they do not keep the others from
    /// being there.
    pub(super) fn read(catalog: &dyn Catalog) -> Result<(Self, Vec<SetAside>)> {
        let mut documents = Self::default();
        let mut aside = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = catalog
                .list(Kind::Object, after.as_deref(), PAGE)
                .map_err(strongroom::Error::from)?;
            let Some(last) = page.last() else { return Ok((documents, aside)) };
            after = Some(last.id.clone());
            for document in page {
                let id = document.id.clone();
                let (key, kept) = match read(document) {
                    Ok(read) => read,
                    Err(error) => {
                        aside.push(SetAside { id, problem: error.to_string() });
                        continue;
                    }
                };
                let version = kept.object.resource_version().parse().unwrap_or(0);
                documents.version = documents.version.max(version);
                documents.put(&key, kept);
            }
        }
    }

    /// Returns the version of the newest change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Sets the version of the newest change.
    pub(super) fn begin_at(&mut self, version: u64) {
        self.version = version;
    }

    /// Returns a document.
    pub(super) fn kept(&self, key: &Key) -> Option<&Kept> {
        self.kinds.get(&key.resource)?.get(&key.namespace)?.get(&key.name)
    }

    /// Returns all of a kind.
    pub(super) fn list(&self, resource: Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let Some(kind) = self.kinds.get(&resource) else { return Vec::new() };
        let object = |kept: &Kept| Arc::clone(&kept.object);
        match namespace {
            Some(namespace) => {
                kind.get(namespace).into_iter().flat_map(BTreeMap::values).map(object).collect()
            }
            None => kind.values().flat_map(BTreeMap::values).map(object).collect(),
        }
    }

    /// Puts a document in.
    pub(super) fn put(&mut self, key: &Key, kept: Kept) {
        let kind = self.kinds.entry(key.resource).or_default();
        kind.entry(key.namespace.clone()).or_default().insert(key.name.clone(), kept);
    }

    /// Takes a document out.
    pub(super) fn take(&mut self, key: &Key) {
        let Some(kind) = self.kinds.get_mut(&key.resource) else { return };
        let Some(namespace) = kind.get_mut(&key.namespace) else { return };
        namespace.remove(&key.name);
        if namespace.is_empty() {
            kind.remove(&key.namespace);
        }
    }
}

/// Reads a document as the catalog has it.
///
/// # Errors
///
/// When this program did not write it.
pub(super) fn read(document: Document) -> catalog::Result<(Key, Kept)> {
    let Document { id, version, json } = document;
    let malformed = |problem: &str| catalog::Error::Malformed {
        kind: Kind::Object,
        id: id.clone(),
        problem: problem.to_owned(),
    };
    // What serde says may quote what it read.
    let mut object: Object =
        serde_json::from_str(&json).map_err(|_| malformed("it is no JSON object"))?;
    let resource = object.resource().ok_or_else(|| malformed("it is of no known kind"))?;
    let key = Key::new(resource, object.namespace(), object.name());
    if key.id() != id {
        return Err(malformed(&format!("it calls itself {key}")));
    }
    let sealed = Sealed::stored(&mut object);
    Ok((key, Kept { object: Arc::new(object), stored: version, sealed }))
}

/// Documents that are read from the catalog at once.
const PAGE: usize = 1000;
