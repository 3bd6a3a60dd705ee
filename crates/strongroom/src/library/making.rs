//! An image that is being made: one record and one folder, both half done until they are whole.

use strongroom_crypto::Hash;
use strongroom_disk::{Access, Raw};
use strongroom_model::{Checksum, ImageFormat};

use super::digest;
use super::folder::Folder;
use super::inspection::{Facts, allocated, examine};
use super::lock::Lock;
use super::{Image, ImageCondition, ImageProblem, Library, NewImage, label};
use crate::catalog::{Records, Stored};
use crate::images::Work;
use crate::{Error, ErrorKind, Result, hexadecimal};

/// An image that somebody wants: it is there, or this call makes it.
pub(super) enum Begun<'a> {
    Ready(Image),
    Making(Making<'a>),
}

/// An image that is being made by this call alone.
pub(super) struct Making<'a> {
    library: &'a Library,
    _lock: Lock,
    pub(super) folder: Folder,
    pub(super) stored: Stored<Image>,
}

/// What is known of the checksum of the bytes in a folder.
pub(super) enum Digest {
    /// Nothing yet.
    Unknown,
    /// SHA-512 in hexadecimal, and whether it is what it must be is known too.
    Known(String),
}

impl Library {
    /// Begins an image, or finds one that was begun in the same way: `origin` says how in words.
    ///
    /// # Errors
    ///
    /// [`ImageProblem::Exists`] when there is another one of that name.
    pub(super) fn begin(&self, new: &NewImage, origin: &str) -> Result<Begun<'_>> {
        self.begin_under(Lock::take(&self.root, &new.id)?, new, origin)
    }

    /// Does the same for one who has the image's lock already.
    pub(super) fn begin_under(
        &self,
        lock: Lock,
        new: &NewImage,
        origin: &str,
    ) -> Result<Begun<'_>> {
        let records = Records::<Image>::of(&*self.catalog);
        let folder = self.folder(&new.id);
        let mut found = records.load(new.id.as_str())?;
        if let Some(stored) = found.take_if(|it| it.record.condition == ImageCondition::Deleting) {
            self.delete_locked(stored)?;
        }
        let stored = match found {
            Some(stored) if stored.record.condition == ImageCondition::Ready => {
                refuse_difference(&stored.record, new, folder.origin()?.as_deref(), origin)?;
                return Ok(Begun::Ready(stored.record));
            }
            Some(stored) => stored,
            None if folder.has_data()? => {
                let difference =
                    "the library has its bytes, of which the catalog knows nothing: the \
                                  catalog is older than the image"
                        .to_owned();
                return Err(Error::image(&new.id, ImageProblem::Exists { difference }));
            }
            None => records.insert(Image {
                id: new.id.clone(),
                label: new.label.clone(),
                format: String::new(),
                condition: ImageCondition::Creating,
                len: 0,
                virtual_len: 0,
                real_len: 0,
                checksum: None,
                encryption: None,
                created: crate::now(),
            })?,
        };
        folder.begin(origin)?;
        Ok(Begun::Making(Making { library: self, _lock: lock, folder, stored }))
    }
}

impl<'a> Making<'a> {
    /// Returns an image that was begun before.
    pub(super) fn found(library: &'a Library, lock: Lock, stored: Stored<Image>) -> Self {
        let folder = library.folder(&stored.record.id);
        Self { library, _lock: lock, folder, stored }
    }

    /// Records that the image is ready, once its bytes are whole, durable, and what they must be. Bytes
    /// that are not are taken away.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(super) fn seal(
        self,
        new: &NewImage,
        format: Option<ImageFormat>,
        digest: Digest,
        work: &Work<'_>,
    ) -> Result<Image> {
        let data = self.folder.data();
        let checked = examine(&data, &new.id, format).and_then(|facts| {
            let sha512 = match digest {
                Digest::Known(sha512) => sha512,
                Digest::Unknown => {
                    let file = Raw::open(&data, Access::ReadOnly)?;
                    let sha512 = hexadecimal(&digest::hash(&file, Hash::Sha512, work, &())?);
                    if let Some(expected) = &new.checksum {
                        digest::check(&data, &label(&new.id), expected, &sha512, work)?;
                    }
                    sha512
                }
            };
            Ok((facts, sha512))
        });
        match checked {
            Ok((facts, sha512)) => self.ready(facts, sha512),
            Err(error) => {
                if error.kind() == ErrorKind::Image {
                    // Whoever tries again begins anew: the same bytes would fail in the same way.
                    let _ = self.folder.clear();
                }
                Err(error)
            }
        }
    }

    /// Records that the image is ready. Its bytes have been looked at.
    pub(super) fn ready(self, facts: Facts, sha512: String) -> Result<Image> {
        let mut stored = self.stored;
        stored.record.format = facts.format.name().to_owned();
        stored.record.condition = ImageCondition::Ready;
        stored.record.len = facts.len;
        stored.record.virtual_len = facts.virtual_len;
        stored.record.real_len = allocated(&self.folder.data())?;
        stored.record.checksum = Some(sha512);
        stored.record.encryption = facts.encryption;
        let image = Records::of(&*self.library.catalog).replace(stored)?.record;
        // The image is good whether they stay or not; deleting it takes them away.
        let _ = self.folder.clear_leftovers();
        Ok(image)
    }

    /// Changes what the catalog knows of the image while it is being made.
    pub(super) fn record(&mut self, change: impl FnOnce(&mut Image)) -> Result<()> {
        let mut stored = self.stored.clone();
        change(&mut stored.record);
        if stored.record != self.stored.record {
            self.stored = Records::of(&*self.library.catalog).replace(stored)?;
        }
        Ok(())
    }
}

/// Refuses an image that is ready, and not the one that is wanted.
fn refuse_difference(found: &Image, new: &NewImage, was: Option<&str>, origin: &str) -> Result<()> {
    let sha512 = new.checksum.as_ref().and_then(sha512_of);
    let difference = if was.is_some_and(|was| was != origin) {
        format!("was made by: {}", was.unwrap_or_default())
    } else if sha512.is_some() && sha512 != found.checksum {
        format!("has the checksum {}", found.checksum.as_deref().unwrap_or("of nothing"))
    } else {
        return Ok(());
    };
    Err(Error::image(&new.id, ImageProblem::Exists { difference }))
}

/// Returns the digits of a checksum, if it is one of SHA-512.
pub(super) fn sha512_of(checksum: &Checksum) -> Option<String> {
    let is_sha512 = checksum.algorithm() == strongroom_model::ChecksumAlgorithm::Sha512;
    is_sha512.then(|| hexadecimal(checksum.digest()))
}
