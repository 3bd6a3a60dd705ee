//! The trait, and what a pool says about itself.

use std::fmt;
use std::path::PathBuf;

use strongroom_disk::{Access, Raw};
use strongroom_model::{SnapshotId, VolumeId};

use crate::Result;

/// A place in which volumes and snapshots live, each a number of bytes under a name.
///
/// # Guarantees
///
/// - Every method may be called from any number of threads and processes at once.
/// - After a crash at any point each item is there as a whole or not at all, and what an interrupted
///   call has left is cleaned up by the next call about the same item, or by [`list`](Self::list).
/// - What is new reads as zeros and takes no room (thin).
/// - The contents of an item are never looked at.
pub trait Pool: fmt::Debug + Send + Sync {
    /// Returns what errors and people call this pool.
    fn label(&self) -> &str;

    /// Makes an item of `len` bytes that reads as zeros.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) when there is one of that name.
    fn create(&self, item: &Item, len: u64) -> Result<()>;

    /// Returns what is known of an item, `None` when there is none of that name.
    fn entry(&self, item: &Item) -> Result<Option<Entry>>;

    /// Returns every item, sorted.
    fn list(&self) -> Result<Vec<Entry>>;

    /// Returns the file or block device that bears the bytes of an item.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    fn path(&self, item: &Item) -> Result<PathBuf>;

    /// Opens the bytes of an item.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound), or what the disk says.
    fn open(&self, item: &Item, access: Access) -> Result<Raw>;

    /// Makes an item `len` bytes long. One that is as long or longer stays as it is.
    fn grow(&self, item: &Item, len: u64) -> Result<()>;

    /// Makes `to` with the bytes that `from` has at one moment: sharing them where the file system
    /// can, else by a copy in which holes stay holes. The mark of formatting goes with it.
    ///
    /// # Assumptions
    ///
    /// Nobody writes to `from` while it is copied, unless the medium freezes it: a copy that is made
    /// under writes is of no one moment. Whoever calls this has flushed or frozen what is above.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) when `to` is there;
    /// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) when `progress` says so.
    fn copy(&self, from: &Item, to: &Item, progress: &dyn CopyProgress) -> Result<()>;

    /// Tells whether [`copy`](Self::copy) takes the bytes of one moment even while they are written, and
    /// takes no time that grows with the item.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    fn copies_at_once(&self) -> Result<bool>;

    /// Deletes an item. Deleting what is not there succeeds.
    fn delete(&self, item: &Item) -> Result<()>;

    /// Records, durably and beside the bytes, that an item is about to be formatted, or was. There is
    /// one mark for the life of an item: it outlives every loss of a catalog. The same again succeeds,
    /// and so does what was begun and is finished now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) when it bears the mark of another
    /// UUID, or is finished and would be begun again.
    fn mark_format(&self, item: &Item, mark: &FormatMark) -> Result<()>;

    /// Returns the mark of an item that was, or was about to be, formatted.
    fn format_mark(&self, item: &Item) -> Result<Option<FormatMark>>;

    /// Tells whether no byte of an item was ever written, by the medium's own books and not by
    /// reading it; `false` where the medium keeps none.
    fn is_untouched(&self, item: &Item) -> Result<bool>;

    /// Keeps everybody else, in this process and others, from working on an item.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when somebody does.
    fn try_lock(&self, item: &Item) -> Result<ItemGuard>;

    /// Returns how much room there is.
    fn space(&self) -> Result<Space>;
}

/// What a pool holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A volume.
    Volume(VolumeId),
    /// A snapshot, which nobody writes to.
    Snapshot(SnapshotId),
}

/// What is known of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which it is.
    pub item: Item,
    /// Its length in bytes.
    pub len: u64,
    /// How many bytes it takes on the medium, what it shares included.
    pub allocated: u64,
}

/// What is written beside an item that is formatted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatMark {
    /// The UUID that its header, or its file system, has or will have, as text.
    pub uuid: String,
    /// How far that has come.
    pub stage: FormatStage,
}

/// How far formatting has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatStage {
    /// It was begun, and nobody has used the item yet.
    Begun,
    /// It is done: whatever the item holds may be somebody's data.
    Finished,
}

/// The room of a pool, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What can still be written.
    pub available: u64,
}

/// Watches a copy.
pub trait CopyProgress: Sync {
    /// Is told how many bytes were copied, holes included, of how many.
    fn copied(&self, done: u64, of: u64);

    /// Tells whether the copy shall end.
    fn is_cancelled(&self) -> bool;
}

/// Nobody watches.
impl CopyProgress for () {
    fn copied(&self, _: u64, _: u64) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Holds an item; dropped, it lets go.
#[derive(Debug)]
#[must_use = "the item is free again when this is dropped"]
pub struct ItemGuard {
    _lock: Box<dyn Lock>,
}

/// Whatever a pool holds an item by.
trait Lock: fmt::Debug + Send + Sync {}

impl<T: fmt::Debug + Send + Sync> Lock for T {}

impl ItemGuard {
    /// Returns a guard that drops `lock` when it is dropped, and whose lock must go when the process
    /// ends, however it ends.
    pub fn new(lock: impl fmt::Debug + Send + Sync + 'static) -> Self {
        Self { _lock: Box::new(lock) }
    }
}

impl Item {
    /// Returns its name, without what kind of item it is.
    pub fn name(&self) -> &str {
        match self {
            Self::Volume(id) => id.as_str(),
            Self::Snapshot(id) => id.as_str(),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(id) => write!(f, "volume {id}"),
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}
