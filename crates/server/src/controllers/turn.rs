//! One look at one document.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use strongroom::audit::Act;
use strongroom_model::dialect::admission::{Known, Refused, SecretValues};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::events::Tone;
use super::key_material::KeyMaterial;
use super::queue::Next;
use super::subject::Subject;
use super::wording::told;
use super::{
    Shared, backing_image, claim, longhorn_volume, moments, persistent_volume, snapshot,
    virtual_machine, virtual_machine_image,
};
use crate::store::{Part, Store};
use crate::{Context, Result};

/// What a reconciler works with.
pub(super) struct Turn<'a> {
    shared: &'a Shared,
    /// Which document it is about.
    pub(super) subject: &'a Subject,
    /// The document as it was when the turn began.
    pub(super) object: &'a Object,
}

/// Why a reconciler cannot go on.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Something is missing or not as it should be, and somebody has to do something about it: a document
    /// to wait for, or to be changed. A change of it gives another turn.
    Waiting(Obstacle),
    /// Something failed, which may go by.
    Failed(crate::Error),
}

/// What is in the way, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// In one word, as reasons of events are.
    pub(crate) reason: &'static str,
    /// What it is and what to do.
    pub(crate) message: String,
}

/// Takes turns until the queue is closed.
pub(super) fn run(shared: &Shared) {
    while let Some(subject) = shared.queue.next() {
        let next = contained(|| look(shared, &subject));
        shared.queue.done(subject, next);
    }
}

/// Takes a turn that may panic: it has failed then, and neither its thread nor its document is lost to others.
fn contained(turn: impl FnOnce() -> Next) -> Next {
    // What a turn works with it changes only by calls that are whole or not at all.
    catch_unwind(AssertUnwindSafe(turn)).unwrap_or(Next::Failed)
}

/// Returns whether anything follows from documents of a kind.
pub(super) fn is_reconciled(resource: Resource) -> bool {
    reconciler(resource).is_some()
}

type Reconciler = fn(&Turn<'_>) -> std::result::Result<Next, Trouble>;

fn reconciler(resource: Resource) -> Option<Reconciler> {
    match resource {
        Resource::BackingImage => Some(backing_image::reconcile),
        Resource::PersistentVolumeClaim => Some(claim::reconcile),
        Resource::PersistentVolume => Some(persistent_volume::reconcile),
        Resource::LonghornVolume => Some(longhorn_volume::reconcile),
        Resource::VolumeSnapshot => Some(snapshot::reconcile),
        Resource::VirtualMachineImage => Some(virtual_machine_image::reconcile),
        Resource::VirtualMachine => Some(virtual_machine::reconcile),
        Resource::Secret
        | Resource::Event
        | Resource::Namespace
        | Resource::StorageClass
        | Resource::VolumeSnapshotClass => None,
    }
}

fn look(shared: &Shared, subject: &Subject) -> Next {
    shared.interests.clear(subject);
    let Some(reconcile) = reconciler(subject.resource) else { return Next::Settled };
    let store = &shared.context.store;
    let Some(object) = store.read(subject.resource, subject.namespace.as_deref(), &subject.name)
    else {
        return Next::Settled;
    };
    let turn = Turn { shared, subject, object: &object };
    match reconcile(&turn) {
        Ok(next) => next,
        Err(Trouble::Waiting(obstacle)) => {
            turn.tell(Tone::Warning, obstacle.reason, &obstacle.message);
            // What somebody waits for wakes them; what nobody tells of is seen a little later.
            Next::After(BETWEEN_LOOKS)
        }
        // Its next turn is due already.
        Err(Trouble::Failed(error)) if has_changed(&error) => Next::Failed,
        Err(Trouble::Failed(error)) => {
            turn.tell(Tone::Warning, FAILED, &turn.told(&error));
            Next::Failed
        }
    }
}

/// Tells whether a turn has failed because the document is another one by now, or gone.
fn has_changed(error: &crate::Error) -> bool {
    matches!(error, crate::Error::Conflict { .. } | crate::Error::NotFound { .. })
}

impl<'a> Turn<'a> {
    /// Returns what the server works with.
    pub(super) fn context(&self) -> &'a Context {
        &self.shared.context
    }

    /// Returns what keys are read with.
    pub(super) fn keys(&self) -> &'a KeyMaterial {
        &self.shared.keys
    }

    /// Returns another document; when it changes there is another turn.
    pub(super) fn read(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Arc<Object>> {
        self.shared.interests.add(self.subject, Subject::new(resource, namespace, name));
        self.context().store.read(resource, namespace, name)
    }

    /// Returns all documents of a kind; when any of them changes there is another turn.
    pub(super) fn list(&self, resource: Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        self.shared.interests.add(self.subject, Subject::any(resource));
        self.context().store.list(resource, namespace).0
    }

    /// Tells people what has happened.
    pub(super) fn tell(&self, tone: Tone, reason: &'static str, message: &str) {
        self.shared.recorder.record(self.object, tone, reason, message);
    }

    /// Returns an error as people are told of it.
    pub(super) fn told(&self, error: &crate::Error) -> String {
        told(error, &self.context().kek_file)
    }

    /// Writes an unforeseen failure into a condition of the document, for people: it is tried again.
    pub(super) fn show_failure(&self, condition: &str, error: &crate::Error) -> Result<()> {
        if has_changed(error) {
            return Ok(());
        }
        let (message, now) = (self.told(error), SystemTime::now());
        self.set_status(&mut |object| {
            moments::set_failure(object, condition, FAILED, &message, now);
        })
    }

    /// Changes what the status of the document says.
    pub(super) fn set_status(&self, change: &mut dyn FnMut(&mut Object)) -> Result<()> {
        self.edit(Part::Status, change).map(drop)
    }

    /// Changes the document, unless it is another one of that name by now. Returns it as it is then.
    pub(super) fn edit(
        &self,
        part: Part,
        change: &mut dyn FnMut(&mut Object),
    ) -> Result<Option<Arc<Object>>> {
        let Subject { resource, namespace, name } = self.subject;
        let uid = self.object.uid();
        let store = &self.context().store;
        let edited = store.edit(*resource, namespace.as_deref(), name, part, &mut |object| {
            if object.uid() == uid {
                change(object);
            }
        })?;
        Ok(edited.filter(|object| object.uid() == uid))
    }

    /// Sees to it that the document stays until its data is gone. To be called before there is any.
    ///
    /// # Errors
    ///
    /// When it is being deleted, or gone, by now.
    pub(super) fn hold(&self) -> std::result::Result<(), Trouble> {
        if self.object.finalizers().any(|name| name == FINALIZER) {
            return Ok(());
        }
        match hold(&self.context().store, self.subject, self.object.uid())? {
            Held::Yes => Ok(()),
            Held::No => {
                Err(Trouble::Failed(crate::Error::Conflict { what: self.subject.to_string() }))
            }
        }
    }

    /// Lets the document go: its data is gone.
    pub(super) fn release(&self) -> Result<()> {
        self.edit(Part::Document, &mut |object| {
            let finalizers: Vec<String> =
                object.finalizers().filter(|name| *name != FINALIZER).map(str::to_owned).collect();
            object.set(&["metadata", "finalizers"], finalizers);
        })
        .map(drop)
    }

    /// Returns whether the document waits for its data to be deleted.
    pub(super) fn is_held(&self) -> bool {
        self.object.finalizers().any(|name| name == FINALIZER)
    }

    /// Writes into the audit log what is about to be done to the data of the document.
    ///
    /// # Errors
    ///
    /// When that is not possible: then it must not be done.
    pub(super) fn audit(&self, verb: &str, detail: &str) -> Result<()> {
        Ok(self.context().audit.record(&Act {
            actor: ACTOR.to_owned(),
            verb: verb.to_owned(),
            subject: self.subject.to_string(),
            detail: detail.to_owned(),
        })?)
    }
}

/// What a turn has read gives another turn when it changes.
impl Known for Turn<'_> {
    fn object(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Arc<Object>> {
        self.read(resource, namespace, name)
    }

    fn objects(&self, resource: Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        self.list(resource, namespace)
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<SecretValues> {
        self.read(Resource::Secret, Some(namespace), name);
        self.context().store.secret(namespace, name)
    }
}

/// Whether a document stays until its data is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// It does.
    Yes,
    /// It is being deleted, or gone, or another one of that name.
    No,
}

/// Sees to it that a document with this UID stays until its data is gone.
pub(super) fn hold(store: &Store, subject: &Subject, uid: &str) -> Result<Held> {
    let Subject { resource, namespace, name } = subject;
    let is_held = |object: &Object| object.finalizers().any(|name| name == FINALIZER);
    let edited =
        store.edit(*resource, namespace.as_deref(), name, Part::Document, &mut |object| {
            if object.uid() != uid || object.is_being_deleted() || is_held(object) {
                return;
            }
            let mut finalizers: Vec<String> = object.finalizers().map(str::to_owned).collect();
            finalizers.push(FINALIZER.to_owned());
            object.set(&["metadata", "finalizers"], finalizers);
        })?;
    Ok(match edited {
        Some(object) if object.uid() == uid && is_held(&object) => Held::Yes,
        _ => Held::No,
    })
}

impl Trouble {
    /// Returns what somebody has to do something about.
    pub(super) fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Waiting(Obstacle { reason, message: message.into() })
    }
}

impl From<crate::Error> for Trouble {
    fn from(error: crate::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<strongroom::Error> for Trouble {
    fn from(error: strongroom::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Self::waiting("Invalid", refused.to_string())
    }
}

/// Returns an error with all that it comes from, for people.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

/// What keeps a document until its data is gone.
pub(super) const FINALIZER: &str = crate::store::DATA_FINALIZER;

/// Who does what is done here, for the audit log.
pub(super) const ACTOR: &str = "controller";

/// The reason of what nobody has foreseen.
pub(super) const FAILED: &str = "Failed";

/// After how long somebody who waits looks again although nothing has changed.
const BETWEEN_LOOKS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_panics_has_failed() {
        assert_eq!(contained(|| panic!("a bug")), Next::Failed);
        assert_eq!(contained(|| Next::Settled), Next::Settled);
    }
}
