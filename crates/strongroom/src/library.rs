//! Images at rest: fetched, uploaded, cloned, exported from volumes, and read again.

mod image;

pub use image::{Image, ImageCondition, ImageEncryption, NewImage};

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_model::{Checksum, EncryptionRequest, ImageFormat, ImageId, VolumeId};

use crate::catalog::Catalog;
use crate::images::{Keys, Work};
use crate::volumes::{NewVolume, Volume, Volumes};
use crate::{Error, OwnedNewKey, OwnedOpener, Result};

/// The images in a directory, as a catalog knows them.
///
/// # Guarantees
///
/// - An image is ready when it is whole and durable, and never before. It does not change after that.
/// - Every method may be called from any number of threads at once, and again after a crash at any point;
///   it goes on with what is left of the earlier call.
/// - No temporary copy is made, and what is sparse stays so.
#[derive(Debug, Clone)]
pub struct Library {
    root: PathBuf,
    _catalog: Arc<dyn Catalog>,
}

/// What becomes of the contents of an image when it is cloned.
#[derive(Debug)]
pub enum Copying {
    /// The clone has the same bytes, header included where there is one.
    Ignore,
    /// A plain image becomes an encrypted one: a raw LUKS2 container.
    Encrypt {
        /// How.
        request: EncryptionRequest,
        /// What will open it.
        key: OwnedNewKey,
    },
    /// An encrypted image becomes a plain one, in the raw format.
    Decrypt {
        /// What opens it.
        opener: OwnedOpener,
    },
}

/// What a volume becomes when it is exported.
#[derive(Debug)]
pub struct Export {
    /// The format: raw or qcow2. An encrypted volume that stays so becomes a raw LUKS2 container with the
    /// same keyslots, or qcow2 with LUKS.
    pub format: ImageFormat,
    /// What opens the volume and will open the image; only needed where the contents are touched.
    pub keys: Keys,
    /// Whether the image of an encrypted volume is plain.
    pub contents: ExportedContents,
}

/// Whether the image of an encrypted volume is plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExportedContents {
    /// It is encrypted as the volume is.
    AsTheyAre,
    /// It is decrypted.
    Decrypted,
}

impl Library {
    /// Opens the images in a directory, which is made if there is none.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn open(root: &Path, catalog: Arc<dyn Catalog>) -> Result<Self> {
        Ok(Self { root: root.to_owned(), _catalog: catalog })
    }

    /// Returns an image.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn image(&self, id: &ImageId) -> Result<Image> {
        Err(self.unfinished(id))
    }

    /// Returns at most `limit` images with identifiers after `after`, in their order.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn list(&self, after: Option<&ImageId>, limit: usize) -> Result<Vec<Image>> {
        let _ = (after, limit);
        Err(Error::Request { problem: "images cannot be listed yet".to_owned() })
    }

    /// Makes an image of what a URL has, `http` or `https`; goes on where an interrupted call stopped.
    ///
    /// # Errors
    ///
    /// When it does not have the checksum that it must have; what the network says.
    pub fn fetch(&self, new: &NewImage, url: &str, work: &Work<'_>) -> Result<Image> {
        let _ = (url, work);
        Err(self.unfinished(&new.id))
    }

    /// Begins an upload of so many bytes, or finds one that was begun. Returns how many bytes of it are
    /// durable.
    ///
    /// # Errors
    ///
    /// When another one of that name was begun, with another length or checksum.
    pub fn begin_upload(&self, new: &NewImage, len: u64) -> Result<u64> {
        let _ = len;
        Err(self.unfinished(&new.id))
    }

    /// Adds what a reader has to an upload, at an offset that must be where it stands. Returns how many bytes
    /// are there by then. Whatever came before an error of the reader stays.
    ///
    /// # Errors
    ///
    /// When the offset is another one, or more comes than was announced.
    pub fn append(&self, id: &ImageId, offset: u64, from: &mut dyn Read) -> Result<u64> {
        let _ = (offset, from);
        Err(self.unfinished(id))
    }

    /// Ends an upload: what has come is whole, has its checksum, and is what its format says. The LUKS header
    /// of an encrypted image is checked and recorded.
    ///
    /// # Errors
    ///
    /// When anything of that is not so; then it stays as it is, to be deleted or gone on with.
    pub fn finish_upload(&self, id: &ImageId, work: &Work<'_>) -> Result<Image> {
        let _ = work;
        Err(self.unfinished(id))
    }

    /// Makes an image of another one.
    ///
    /// # Errors
    ///
    /// When the source is not ready, or not what the operation is for.
    pub fn clone_image(
        &self,
        new: &NewImage,
        from: &ImageId,
        how: Copying,
        work: &Work<'_>,
    ) -> Result<Image> {
        let _ = (from, how, work);
        Err(self.unfinished(&new.id))
    }

    /// Makes an image of a volume as it is now; one that is mounted is frozen for a moment.
    ///
    /// # Errors
    ///
    /// What the volume, or the pool, says.
    pub fn export(
        &self,
        new: &NewImage,
        volumes: &Volumes,
        volume: &VolumeId,
        how: Export,
        work: &Work<'_>,
    ) -> Result<Image> {
        let _ = (volumes, volume, how, work);
        Err(self.unfinished(&new.id))
    }

    /// Makes a volume of an image. One from an encrypted image is opened by what opens the image; from a plain
    /// one, an encrypted volume is encrypted on the way, which needs the key of `keys.target`.
    ///
    /// # Errors
    ///
    /// When the volume has no room for the image, when an encrypted image shall become a plain volume, and what
    /// the pool says.
    pub fn make_volume(
        &self,
        from: &ImageId,
        volumes: &Volumes,
        new: &NewVolume,
        keys: Keys,
        work: &Work<'_>,
    ) -> Result<Volume> {
        let _ = (volumes, new, keys, work);
        Err(self.unfinished(from))
    }

    /// Deletes an image, or what there is of one: bytes first, the record last. One that is gone succeeds.
    ///
    /// # Errors
    ///
    /// What the file system or the catalog says.
    pub fn delete(&self, id: &ImageId) -> Result<()> {
        Err(self.unfinished(id))
    }

    /// Returns the bytes of a ready image, as they are stored.
    ///
    /// # Errors
    ///
    /// When it is not ready.
    pub fn file(&self, id: &ImageId) -> Result<File> {
        Err(self.unfinished(id))
    }

    fn unfinished(&self, id: &ImageId) -> Error {
        Error::Request { problem: format!("{} has no image {id} yet", self.root.display()) }
    }
}

/// Returns the checksum of a file as Longhorn takes it: SHA-512 over the stored bytes.
///
/// # Errors
///
/// When it cannot be read, and when the work is cancelled.
pub fn checksum(file: &File, work: &Work<'_>) -> Result<Checksum> {
    let _ = (file, work);
    Err(Error::Request { problem: "no checksum can be taken yet".to_owned() })
}
