//! The folder of an image: its bytes, and what says how far they have come.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use strongroom_disk::{NewFile, Operation};

use crate::{Error, Result};

/// The folder of an image.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns where the bytes of an image are when they are whole.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Returns where the bytes of an upload are until they are whole.
    pub(super) fn upload(&self) -> PathBuf {
        self.path.join(UPLOAD)
    }

    /// Returns where it stands how far an upload has come.
    pub(super) fn upload_journal(&self) -> PathBuf {
        self.path.join(UPLOAD_JOURNAL)
    }

    /// Returns where bytes are that are shared with another file, until that is durable.
    pub(super) fn shared(&self) -> PathBuf {
        self.path.join(SHARED)
    }

    /// Tells whether the bytes are whole.
    pub(super) fn has_data(&self) -> Result<bool> {
        exists(&self.data())
    }

    /// Tells whether an interrupted job has left something to go on with.
    pub(super) fn has_partial(&self) -> bool {
        NewFile::leftover(self.data()).is_ok_and(|found| found.is_some())
    }

    /// Makes the folder if there is none, and takes away what another way to make the image has left:
    /// `origin` says in words which way it is.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(super) fn begin(&self, origin: &str) -> Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|source| failed(&self.path, source))?;
        if let Some(above) = self.path.parent() {
            sync_directory(above)?;
        }
        if self.origin()?.as_deref() == Some(origin) {
            return Ok(());
        }
        self.clear_but(&[])?;
        write_anew(&self.path.join(ORIGIN), origin.as_bytes())
    }

    /// Returns how the image is made, or was; `None` when nobody has begun.
    pub(super) fn origin(&self) -> Result<Option<String>> {
        let path = self.path.join(ORIGIN);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(|source| failed(&path, source)),
        }
    }

    /// Takes everything away that was begun; how the image is made stays known.
    pub(super) fn clear(&self) -> Result<()> {
        self.clear_but(&[ORIGIN])
    }

    /// Takes everything away that a whole image does not need.
    pub(super) fn clear_leftovers(&self) -> Result<()> {
        self.clear_but(&[ORIGIN, DATA])
    }

    /// Takes the folder away with all that is in it. One that is gone succeeds.
    pub(super) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            removed => removed.map_err(|source| failed(&self.path, source))?,
        }
        self.path.parent().map_or(Ok(()), sync_directory)
    }

    /// Gives a file of the folder, which is durable, the name of the whole image.
    pub(super) fn take_name(&self, from: &Path) -> Result<()> {
        let data = self.data();
        fs::rename(from, &data).map_err(|source| failed(&data, source))?;
        sync_directory(&self.path)
    }

    fn clear_but(&self, kept: &[&str]) -> Result<()> {
        let listed = fs::read_dir(&self.path).map_err(|source| failed(&self.path, source))?;
        for entry in listed {
            let entry = entry.map_err(|source| failed(&self.path, source))?;
            if kept.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            fs::remove_file(entry.path()).map_err(|source| failed(&entry.path(), source))?;
        }
        Ok(())
    }
}

/// Writes a small file in place of whatever has its name, durably and at once.
pub(super) fn write_anew(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push("~");
    let beside = PathBuf::from(beside);
    let written = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|source| failed(path, source))?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Tells whether there is something of that name.
pub(super) fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, error)),
    }
}

/// Returns the error of a file of the library.
pub(super) fn failed(path: &Path, source: io::Error) -> Error {
    let label = path.display().to_string();
    strongroom_disk::Error::from_io(Operation::Open, label, source).into()
}

fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|source| failed(path, source))
}

/// The bytes of an image that are whole.
const DATA: &str = "data";

/// How the image is made, in words.
const ORIGIN: &str = "origin";

/// The bytes of an upload.
const UPLOAD: &str = "upload";

/// How far an upload has come.
const UPLOAD_JOURNAL: &str = "upload.json";

/// Bytes that are shared with another file.
const SHARED: &str = "shared";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_way_has_left_is_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("image"));
        folder.begin("upload").unwrap();
        fs::write(folder.upload(), b"bytes").unwrap();
        folder.begin("upload").unwrap();
        assert!(folder.upload().exists());
        folder.begin("fetch http://h/x").unwrap();
        assert!(!folder.upload().exists());
        assert_eq!(folder.origin().unwrap().as_deref(), Some("fetch http://h/x"));
        folder.remove().unwrap();
        folder.remove().unwrap();
        assert!(!root.path().join("image").exists());
    }
}
