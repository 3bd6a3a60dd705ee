//! Envelopes in files of their own.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use strongroom_disk::{Disk, ErrorKind, NewFile, Overwrite};
use strongroom_kms::Envelope;

use crate::{Error, Result, envelopes};

/// A file for an envelope. It has no name before the image is about to get its own.
#[derive(Debug)]
pub(crate) struct EnvelopeFile {
    path: PathBuf,
    /// `None` where an earlier job has written it.
    file: Option<NewFile>,
}

/// A file of an envelope that has got its name.
#[derive(Debug)]
pub(crate) struct NamedEnvelope {
    path: PathBuf,
    /// The file, where it is a new one. While it is open, no other file can be taken for it.
    made: Option<File>,
}

/// A file that is about to get a name.
#[derive(Debug)]
pub(crate) struct Naming {
    path: PathBuf,
    identity: (u64, u64),
}

impl EnvelopeFile {
    /// Creates a file for an envelope.
    ///
    /// # Errors
    ///
    /// [`Error::EnvelopeExists`] when there is one already.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let (file, permit) =
            NewFile::create(path, Overwrite::Refuse, &[]).map_err(|error| taken(path, error))?;
        // An envelope is no volume: nothing is formatted with this permit.
        drop(permit);
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// Creates a file for the envelope of a job that another one has begun, and which may have
    /// written it already.
    ///
    /// # Errors
    ///
    /// [`Error::EnvelopeExists`] when there is another one already.
    pub(crate) fn create_again(path: &Path, envelope: &Envelope) -> Result<Self> {
        match Self::create(path) {
            Err(Error::EnvelopeExists { .. })
                if envelopes::read_file(path).is_ok_and(|found| found == *envelope) =>
            {
                Ok(Self { path: path.to_owned(), file: None })
            }
            created => {
                let created = created?;
                created.store(envelope)?;
                Ok(created)
            }
        }
    }

    /// Writes the envelope, makes it durable, and reads it back. Returns what was read.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub(crate) fn store(&self, envelope: &Envelope) -> Result<Envelope> {
        let json = format!("{}\n", envelope.to_json());
        let Some(file) = &self.file else { return Ok(envelope.clone()) };
        let disk = file.disk();
        disk.set_len(json.len() as u64)?;
        disk.write_at(json.as_bytes(), 0)?;
        disk.flush()?;
        let mut found = vec![0; json.len()];
        disk.read_at(&mut found, 0)?;
        Ok(Envelope::parse(&found, disk.label())?)
    }

    /// Refuses a file that would get the name of another one.
    ///
    /// # Errors
    ///
    /// [`Error::Request`].
    pub(crate) fn refuse_place_of(&self, other: &NewFile) -> Result<()> {
        match &self.file {
            Some(file) if file.is_same_place(other)? => Err(Error::Request {
                problem: format!(
                    "{} cannot be both the image or its header and its envelope",
                    self.path.display()
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Gives the file its name, durably, for everybody to read.
    ///
    /// # Errors
    ///
    /// [`Error::EnvelopeExists`] when somebody else has taken the name meanwhile.
    pub(crate) fn commit(self) -> Result<NamedEnvelope> {
        let Self { path, file } = self;
        let mut made = None;
        if let Some(file) = file {
            file.let_all_read()?;
            let identity = file.disk().identity()?;
            file.commit().map_err(|error| taken(&path, error))?;
            made = File::open(&path).ok().filter(|file| identity_of(file) == Some(identity));
        }
        Ok(NamedEnvelope { path, made })
    }
}

impl NamedEnvelope {
    /// Removes the file again if none of `images` has got its name. An error does not say so by
    /// itself: a name can be given that is not durable yet, and then this may be all that opens what
    /// bears it.
    pub(crate) fn take_back(self, images: &[Naming]) {
        let is_ours =
            self.made.as_ref().is_some_and(|made| identity_of(made) == identity(&self.path));
        if is_ours && !images.iter().any(Naming::was_given) {
            // Nobody is left to tell: the error that led here is on its way already.
            let _ = fs::remove_file(self.path);
        }
    }
}

impl Naming {
    /// Takes note of a file before it gets its name.
    ///
    /// # Errors
    ///
    /// When it cannot be asked who it is.
    pub(crate) fn of(file: &NewFile) -> Result<Self> {
        Ok(Self { path: file.target().to_owned(), identity: file.disk().identity()? })
    }

    fn was_given(&self) -> bool {
        identity(&self.path) == Some(self.identity)
    }
}

/// Returns device and inode of an open file.
fn identity_of(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Returns device and inode of the file of a name, if it has one.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn taken(path: &Path, error: strongroom_disk::Error) -> Error {
    match error.kind() {
        ErrorKind::AlreadyExists => Error::EnvelopeExists { path: path.to_owned() },
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(folder: &Path) -> (NamedEnvelope, PathBuf) {
        let path = folder.join("image.json");
        let created = EnvelopeFile::create(&path).unwrap();
        (created.commit().unwrap(), path)
    }

    fn image(folder: &Path) -> NewFile {
        NewFile::create(folder.join("image"), Overwrite::Refuse, &[]).unwrap().0
    }

    #[test]
    fn is_taken_back_where_no_image_has_got_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (envelope, path) = named(folder.path());
        let image = image(folder.path());
        let naming = Naming::of(&image).unwrap();
        drop(image);
        envelope.take_back(&[naming]);
        assert!(!path.exists());
    }

    #[test]
    fn stays_where_an_image_has_got_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (envelope, path) = named(folder.path());
        let image = image(folder.path());
        let naming = Naming::of(&image).unwrap();
        image.commit().unwrap();
        envelope.take_back(&[naming]);
        assert!(path.exists());
    }

    #[test]
    fn somebody_elses_file_is_not_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let (envelope, path) = named(folder.path());
        fs::remove_file(&path).unwrap();
        fs::write(folder.path().join("other"), b"theirs").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        envelope.take_back(&[]);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
    }
}
