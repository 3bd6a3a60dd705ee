//! Items as files in a directory.

mod change;
mod copying;
mod data;
mod folder;
mod handle;
mod layout;
mod lock;

use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use strongroom_disk::{Access, Raw};

use self::change::{Change, kind_name, leftover_of};
use self::folder::Folder;
use self::handle::{Handle, failed};
use self::layout::Layout;
use self::lock::Lock;
use crate::{
    CopyProgress, Entry, Error, FormatMark, FormatStage, Item, ItemGuard, Pool, Result, Space,
};

/// A pool in a directory, each item a folder with a sparse file.
///
/// # Guarantees
///
/// - What it makes can be entered and read by its owner only.
/// - Symbolic links inside the pool are never followed.
#[derive(Debug)]
pub struct Directory {
    layout: Layout,
    label: String,
}

impl Directory {
    /// Opens a pool, and makes it when the directory is empty or not there.
    ///
    /// # Errors
    ///
    /// [`Error::NotAPool`](crate::Error::NotAPool) when something else lies there.
    pub fn open(root: &Path) -> Result<Self> {
        let layout = Layout::open(root)?;
        Ok(Self { layout, label: root.display().to_string() })
    }

    /// Returns the directory, as an absolute path without links.
    pub fn root(&self) -> &Path {
        self.layout.root.path()
    }

    fn folder<'a>(&'a self, item: &'a Item) -> Result<Folder<'a>> {
        Folder::open(self.layout.shelf(item), item)
    }

    fn change<'a>(&'a self, item: &'a Item) -> Result<Change<'a>> {
        Change::begin(self.layout.shelf(item), &self.layout.locks, item)
    }

    /// Adds the items on a shelf to `entries`, and removes what interrupted changes have left there.
    fn collect(
        &self,
        shelf: &Handle,
        item: impl Fn(&str) -> Option<Item>,
        entries: &mut Vec<Entry>,
    ) -> Result<()> {
        for name in shelf.names()? {
            if let Some(item) = leftover_of(&name).and_then(&item) {
                // What cannot be removed is no reason to show nothing. The next change of the item
                // says why.
                let _ = Change::clean_idle(shelf, &self.layout.locks, &item);
            } else if let Some(item) = item(&name)
                && let Some(entry) = self.entry(&item)?
            {
                entries.push(entry);
            }
        }
        Ok(())
    }
}

impl Pool for Directory {
    fn label(&self) -> &str {
        &self.label
    }

    fn create(&self, item: &Item, len: u64) -> Result<()> {
        self.change(item)?.build(|folder| {
            let data = folder.make_data()?;
            data.set_len(item, len)?;
            data.set_untouched()?;
            data.sync()
        })
    }

    fn entry(&self, item: &Item) -> Result<Option<Entry>> {
        match self.folder(item).and_then(|folder| folder.entry()) {
            Err(Error::NotFound { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let Layout { volumes, snapshots, .. } = &self.layout;
        self.collect(volumes, |name| name.parse().ok().map(Item::Volume), &mut entries)?;
        self.collect(snapshots, |name| name.parse().ok().map(Item::Snapshot), &mut entries)?;
        entries.sort_by(|one, other| one.item.cmp(&other.item));
        Ok(entries)
    }

    fn path(&self, item: &Item) -> Result<PathBuf> {
        self.folder(item)?.data(OFlags::RDONLY).map(|data| data.path)
    }

    fn open(&self, item: &Item, access: Access) -> Result<Raw> {
        let flags = match access {
            Access::ReadOnly => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let data = self.folder(item)?.data(flags)?;
        Ok(Raw::from_file(data.file, data.path.display().to_string(), access)?)
    }

    fn grow(&self, item: &Item, len: u64) -> Result<()> {
        let change = self.change(item)?;
        let data = change.folder()?.data(OFlags::RDWR)?;
        if data.len()? < len { data.extend(item, len) } else { Ok(()) }
    }

    fn copy(&self, from: &Item, to: &Item, progress: &dyn CopyProgress) -> Result<()> {
        let source = self.folder(from)?;
        let bytes = source.data(OFlags::RDONLY)?;
        self.change(to)?.build(|folder| {
            copying::copy((from, &bytes), &folder.make_data()?, progress)?;
            // Read after the bytes: whoever formats marks first, so no formatted copy lacks its mark.
            match source.mark()? {
                Some(mark) => folder.write_mark(&mark),
                None => Ok(()),
            }
        })
    }

    fn copies_at_once(&self) -> Result<bool> {
        copying::can_share(&self.layout.volumes)
    }

    fn delete(&self, item: &Item) -> Result<()> {
        self.change(item)?.delete()
    }

    fn mark_format(&self, item: &Item, mark: &FormatMark) -> Result<()> {
        let change = self.change(item)?;
        let folder = change.folder()?;
        let Some(found) = folder.mark()? else { return folder.write_mark(mark) };
        if found.uuid != mark.uuid {
            let wanted = mark.uuid.clone();
            return Err(Error::AlreadyMarked { item: item.clone(), found: found.uuid, wanted });
        }
        match (found.stage, mark.stage) {
            (FormatStage::Begun, FormatStage::Finished) => folder.write_mark(mark),
            (FormatStage::Finished, FormatStage::Begun) => {
                Err(Error::AlreadyFormatted { item: item.clone() })
            }
            // Whoever wrote it may have been interrupted before its name was durable.
            _ => folder.sync(),
        }
    }

    fn format_mark(&self, item: &Item) -> Result<Option<FormatMark>> {
        self.folder(item)?.mark()
    }

    fn is_untouched(&self, item: &Item) -> Result<bool> {
        self.folder(item)?.data(OFlags::RDONLY)?.is_untouched()
    }

    fn try_lock(&self, item: &Item) -> Result<ItemGuard> {
        let name = format!("work-{}-{}", kind_name(item), item.name());
        let lock = Lock::try_take(&self.layout.locks, &name)?;
        lock.map(ItemGuard::new).ok_or_else(|| Error::Busy { item: item.clone() })
    }

    fn space(&self) -> Result<Space> {
        let root = &self.layout.root;
        let found = rustix::fs::fstatvfs(root.as_file())
            .map_err(|errno| failed("look at the room of", root.path(), errno.into()))?;
        Ok(Space {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            available: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests;
