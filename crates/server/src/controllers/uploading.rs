//! What somebody who uploads an image writes down about it.

use std::sync::Arc;

use strongroom_model::dialect::object::Object;

use super::backing_image;
use super::events::{self, Tone};
use super::moments::{self, Truth};
use super::subject::Subject;
use super::turn::{Held, hold};
use crate::store::{Part, Store};
use crate::{Error, Result};

/// An upload, as the document of its image shows it.
#[derive(Debug)]
pub(crate) struct Uploading<'a> {
    store: &'a Store,
    subject: Subject,
    uid: String,
}

impl<'a> Uploading<'a> {
    /// Sees to it that the document stays until its bytes are gone.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when it is being deleted, or gone.
    pub(crate) fn begin(store: &'a Store, object: &Object) -> Result<Self> {
        let missing = || Error::NotFound { what: format!("{object:?}") };
        let subject = Subject::of(object).ok_or_else(missing)?;
        match hold(store, &subject, object.uid())? {
            Held::Yes => Ok(Self { store, subject, uid: object.uid().to_owned() }),
            Held::No => Err(missing()),
        }
    }

    /// Writes down how much has come.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the document is being deleted, or gone.
    pub(crate) fn progress(&self, done: u64, of: u64) -> Result<()> {
        let percent = u128::from(done) * 100 / u128::from(of.max(1));
        let percent = u8::try_from(percent).map_or(99, |percent| percent.min(99));
        self.show("in-progress", percent, "").map(drop)
    }

    /// Writes down that all has come, and is as it should be: the rest is done by whoever follows the document.
    pub(crate) fn done(&self) -> Result<()> {
        self.show("in-progress", 100, "").map(drop)
    }

    /// Writes down why it cannot be used, and tells of it. Nothing of it counts: it is brought again from its
    /// beginning.
    pub(crate) fn failed(&self, message: &str) -> Result<()> {
        let object = self.show("failed", 0, message)?;
        events::record_now(self.store, &object, Tone::Warning, "UploadFailed", message);
        Ok(())
    }

    fn show(&self, state: &str, percent: u8, message: &str) -> Result<Arc<Object>> {
        let reason = if state == "failed" { "UploadFailed" } else { "Uploading" };
        let Subject { resource, namespace, name } = &self.subject;
        let namespace = namespace.as_deref();
        let edited = self.store.edit(*resource, namespace, name, Part::Status, &mut |object| {
            let is_ready = object.text(&["status", "state"]) == Some("ready");
            if object.uid() != self.uid || is_ready {
                return;
            }
            backing_image::set_standing(object, state, percent, message);
            moments::set_condition(object, "Ready", Truth::False, reason, message);
        })?;
        match edited {
            Some(object) if object.uid() == self.uid && !object.is_being_deleted() => Ok(object),
            _ => Err(Error::NotFound { what: self.subject.to_string() }),
        }
    }
}
