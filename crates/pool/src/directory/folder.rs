//! The folder of one item: its bytes, and the mark that it was to be formatted.

use std::io::Read;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::data::Data;
use super::handle::{Handle, failed};
use crate::{Entry, Error, FormatMark, FormatStage, Item, Result};

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder<'a> {
    handle: Handle,
    shelf: &'a Handle,
    item: &'a Item,
}

impl<'a> Folder<'a> {
    /// Opens the folder of an item.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub(super) fn open(shelf: &'a Handle, item: &'a Item) -> Result<Self> {
        let handle = shelf.child(item.name())?;
        let handle = handle.ok_or_else(|| Error::NotFound { item: item.clone() })?;
        Ok(Self { handle, shelf, item })
    }

    /// Returns a folder that is being made, of any name.
    pub(super) fn unfinished(handle: Handle, shelf: &'a Handle, item: &'a Item) -> Self {
        Self { handle, shelf, item }
    }

    /// Makes the file for the bytes.
    pub(super) fn make_data(&self) -> Result<Data> {
        let path = self.handle.path().join(DATA);
        self.handle.make_file(DATA).map(|file| Data { file, path })
    }

    /// Opens the bytes.
    pub(super) fn data(&self, flags: OFlags) -> Result<Data> {
        let path = self.handle.path().join(DATA);
        if let Some(file) = self.handle.file(DATA, flags)? {
            return Ok(Data { file, path });
        }
        self.check_in_place()?;
        Err(Error::Damaged { path, problem: "it is missing, with the bytes of its item".into() })
    }

    pub(super) fn entry(&self) -> Result<Entry> {
        let data = self.data(OFlags::RDONLY)?;
        Ok(Entry { item: self.item.clone(), len: data.len()?, allocated: data.allocated()? })
    }

    /// Returns the mark, `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it cannot be read: that is no reason to believe that there is none.
    pub(super) fn mark(&self) -> Result<Option<FormatMark>> {
        let Some(file) = self.handle.file(MARK, OFlags::RDONLY)? else {
            // It may just have been deleted with everything else.
            self.check_in_place()?;
            return Ok(None);
        };
        let path = self.handle.path().join(MARK);
        let mut text = Vec::new();
        file.take(LONGEST_MARK)
            .read_to_end(&mut text)
            .map_err(|source| failed("read", &path, source))?;
        let stored: StoredMark = serde_json::from_slice(&text)
            .map_err(|error| Error::Damaged { path, problem: error.to_string() })?;
        Ok(Some(FormatMark { uuid: stored.uuid, stage: stored.stage.into() }))
    }

    /// Writes the mark. Nobody else may do so at the same time.
    pub(super) fn write_mark(&self, mark: &FormatMark) -> Result<()> {
        let stored = StoredMark { uuid: mark.uuid.clone(), stage: mark.stage.into() };
        let mut text = serde_json::to_vec(&stored).expect("texts become JSON");
        text.push(b'\n');
        self.handle.replace_file(MARK, &text)
    }

    /// Makes sure that the folder is that of its item, which has not been deleted meanwhile.
    pub(super) fn check_in_place(&self) -> Result<()> {
        if self.shelf.is_named(self.item.name(), self.handle.as_file())? {
            return Ok(());
        }
        Err(Error::NotFound { item: self.item.clone() })
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.handle.sync()
    }
}

/// A mark as it is written. What a newer program adds is passed over: marked is marked.
#[derive(Serialize, Deserialize)]
struct StoredMark {
    uuid: String,
    stage: StoredStage,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredStage {
    Begun,
    Finished,
}

impl From<FormatStage> for StoredStage {
    fn from(stage: FormatStage) -> Self {
        match stage {
            FormatStage::Begun => Self::Begun,
            FormatStage::Finished => Self::Finished,
        }
    }
}

impl From<StoredStage> for FormatStage {
    fn from(stage: StoredStage) -> Self {
        match stage {
            StoredStage::Begun => Self::Begun,
            StoredStage::Finished => Self::Finished,
        }
    }
}

/// The file with the bytes.
const DATA: &str = "data";

const MARK: &str = "format.json";

const LONGEST_MARK: u64 = 64 << 10;
