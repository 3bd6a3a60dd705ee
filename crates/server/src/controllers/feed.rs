//! From changes of documents to turns.

use std::time::Duration;

use strongroom_model::dialect::resource::Resource;

use super::Shared;
use super::subject::Subject;
use crate::Error;

/// Gives every document a turn, and each one that changes another, with those that wait for it.
pub(super) fn run(shared: &Shared) {
    let mut version = begin(shared);
    while !shared.queue.is_closed() {
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

fn changed(shared: &Shared, subject: &Subject) {
    for waiting in shared.interests.of(subject) {
        shared.queue.add(waiting);
    }
    if super::turn::is_reconciled(subject.resource) {
        shared.queue.add(subject.clone());
    }
}

/// How long to wait for a change before looking whether all of this shall end.
const PATIENCE: Duration = Duration::from_millis(500);
