//! Changes of one item, one after the other: each begins by removing what a crash has left.

use std::sync::Arc;

use super::folder::Folder;
use super::handle::{Handle, NEW, hidden};
use super::lock::Lock;
use crate::{Error, Item, Result};

/// The right to change an item. As long as it is held, nobody else makes or deletes the item.
#[derive(Debug)]
pub(super) struct Change<'a> {
    shelf: &'a Handle,
    item: &'a Item,
    _lock: Lock,
}

impl<'a> Change<'a> {
    /// Waits a little for other changes of the item, and removes what an interrupted one has left.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when another change takes long.
    pub(super) fn begin(shelf: &'a Handle, locks: &Arc<Handle>, item: &'a Item) -> Result<Self> {
        let lock = Lock::take(locks, &lock_name(item))?;
        let lock = lock.ok_or_else(|| Error::Busy { item: item.clone() })?;
        let change = Self { shelf, item, _lock: lock };
        change.clean()?;
        Ok(change)
    }

    /// Removes what an interrupted change has left, unless one is under way.
    pub(super) fn clean_idle(shelf: &'a Handle, locks: &Arc<Handle>, item: &'a Item) -> Result<()> {
        match Lock::try_take(locks, &lock_name(item))? {
            Some(lock) => Self { shelf, item, _lock: lock }.clean(),
            None => Ok(()),
        }
    }

    /// Makes the item: `fill` makes what is in its folder, and the folder gets its name when that is
    /// durable.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`]; what `fill` says, and nothing is left then.
    pub(super) fn build(&self, fill: impl FnOnce(&Folder<'_>) -> Result<()>) -> Result<()> {
        let name = self.item.name();
        if self.shelf.stat(name)?.is_some() {
            // Whoever made it may have been interrupted before its name was durable.
            self.shelf.sync()?;
            return Err(Error::AlreadyExists { item: self.item.clone() });
        }
        let new = hidden(name, NEW);
        let built = self.shelf.make_child(&new).and_then(|handle| {
            let folder = Folder::unfinished(handle, self.shelf, self.item);
            fill(&folder)?;
            folder.sync()?;
            self.shelf.rename(&new, name)
        });
        if built.is_err() {
            // The error says what went wrong; what is left is removed by the next change, too.
            let _ = self.shelf.remove_child(&new);
        }
        built.and_then(|()| self.shelf.sync())
    }

    /// Returns the folder of the item.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub(super) fn folder(&self) -> Result<Folder<'_>> {
        Folder::open(self.shelf, self.item)
    }

    /// Deletes the item, if it is there: first its name, so that nobody ever sees a part of it.
    pub(super) fn delete(&self) -> Result<()> {
        let name = self.item.name();
        if self.shelf.stat(name)?.is_some() {
            self.shelf.rename(name, &hidden(name, OLD))?;
        }
        // Also when it was gone: whoever deleted it may not have come so far.
        self.shelf.sync()?;
        self.clean()
    }

    fn clean(&self) -> Result<()> {
        for stage in [NEW, OLD] {
            self.shelf.remove_child(&hidden(self.item.name(), stage))?;
        }
        Ok(())
    }
}

/// Returns the name of the item of which a hidden name is a leftover.
pub(super) fn leftover_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix('.')?;
    let (name, stage) = name.rsplit_once('.')?;
    [NEW, OLD].contains(&stage).then_some(name)
}

/// Returns a word for the kind of an item, for names of locks.
pub(super) fn kind_name(item: &Item) -> &'static str {
    match item {
        Item::Volume(_) => "volume",
        Item::Snapshot(_) => "snapshot",
    }
}

/// Whoever works on an item holds another lock, and may change it.
fn lock_name(item: &Item) -> String {
    format!("change-{}-{}", kind_name(item), item.name())
}

/// What is being deleted.
const OLD: &str = "old";
