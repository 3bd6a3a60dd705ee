//! From changes of documents to turns.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use strongroom::catalog::{Catalog, Kind};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::Shared;
use super::subject::Subject;
use crate::Error;

/// Gives every document a turn, and each one that changes another, with those that wait for it.
pub(super) fn run(shared: &Shared) {
    let mut version = begin(shared);
    let mut attached = Attached::default();
    namespace(shared, DEFAULT_NAMESPACE);
    while !shared.queue.is_closed() {
        attached.look(shared);
        match shared.context.store.changes(version, PATIENCE) {
            Ok(events) => {
                for event in events {
                    version = version.max(event.version);
                    if let Some(subject) = Subject::of(&event.object) {
                        changed(shared, &subject);
                    }
                }
            }
            Err(Error::Expired { .. }) => version = begin(shared),
            Err(_) => std::thread::sleep(PATIENCE),
        }
    }
}

/// Gives every document a turn. Returns the version from which on there are changes.
fn begin(shared: &Shared) -> u64 {
    let mut oldest = None;
    for resource in Resource::ALL {
        let (objects, version) = shared.context.store.list(resource, None);
        let known: u64 = *oldest.get_or_insert(version);
        oldest = Some(known.min(version));
        for object in objects {
            if let Some(subject) = Subject::of(&object) {
                changed(shared, &subject);
            }
        }
    }
    oldest.unwrap_or_default()
}

/// Which volumes are attached. Nobody tells of that: it is in no document.
#[derive(Default)]
struct Attached {
    found: BTreeSet<(String, u64)>,
    looked: Option<Instant>,
}

impl Attached {
    /// Gives the documents of volumes a turn that were attached or detached since the last look.
    fn look(&mut self, shared: &Shared) {
        if self.looked.is_some_and(|looked| looked.elapsed() < BETWEEN_LOOKS) {
            return;
        }
        self.looked = Some(Instant::now());
        let catalog = shared.context.volumes.catalog();
        let Ok(found) = catalog.list(Kind::Attachment, None, MOST_ATTACHED) else { return };
        let found = found.into_iter().map(|document| (document.id, document.version)).collect();
        for (id, _) in self.found.symmetric_difference(&found) {
            shared.queue.add(Subject::new(Resource::PersistentVolume, None, id));
        }
        self.found = found;
    }
}

/// Sees to it that there is a document for a namespace in which documents are: whoever lists namespaces wants
/// to see them all.
fn namespace(shared: &Shared, name: &str) {
    let store = &shared.context.store;
    if store.read(Resource::Namespace, None, name).is_none() {
        let mut document = Object::new(Resource::Namespace, None, name);
        document.set(&["status", "phase"], "Active");
        // Where it cannot be written there is one document less to list.
        let _ = store.create(document);
    }
}

fn changed(shared: &Shared, subject: &Subject) {
    if let Some(name) = subject.namespace.as_deref().filter(|_| is_there(shared, subject)) {
        namespace(shared, name);
    }
    for waiting in shared.interests.of(subject) {
        shared.queue.add(waiting);
    }
    if super::turn::is_reconciled(subject.resource) {
        shared.queue.add(subject.clone());
    }
}

fn is_there(shared: &Shared, subject: &Subject) -> bool {
    let Subject { resource, namespace, name } = subject;
    // What the server tells of documents is none that somebody has put there.
    *resource != Resource::Event
        && shared.context.store.read(*resource, namespace.as_deref(), name).is_some()
}

/// The namespace that is there always.
const DEFAULT_NAMESPACE: &str = "default";

/// How often somebody looks which volumes are attached.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// How many volumes may be attached to one machine and be told of.
const MOST_ATTACHED: usize = 4096;

/// How long to wait for a change before looking whether all of this shall end.
const PATIENCE: Duration = Duration::from_millis(500);
