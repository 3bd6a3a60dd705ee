//! Images at rest: fetched, uploaded, cloned, exported from volumes, and read again.

mod cloning;
mod digest;
mod exporting;
mod folder;
mod image;
mod inspection;
mod lock;
mod making;
mod problem;
mod uploading;
mod volume;

pub(crate) use lock::Lock;

pub use digest::checksum;
pub use exporting::{Export, ExportedContents};
pub use image::{Image, ImageCondition, ImageEncryption, NewImage};
pub use problem::ImageProblem;

use std::fs::{DirBuilder, File};
use std::num::NonZeroU64;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_model::{EncryptionRequest, EncryptionSettings, ImageFormat, ImageId, Reach};
use strongroom_pool::Space;

use self::folder::{Folder, failed};
use crate::catalog::{Catalog, Error as CatalogError, Kind, Records, Stored};
use crate::{Error, OwnedNewKey, OwnedOpener, Result};

/// The images in a directory, as a catalog knows them.
///
/// # Guarantees
///
/// - An image is ready when it is whole and durable, and never before. It does not change after that.
/// - Every method may be called from any number of threads and processes at once; what somebody else is at
///   work on is refused with [`ErrorKind::Busy`](crate::ErrorKind::Busy).
/// - Every method may be called again after a crash at any point; it goes on with what is left of the
///   earlier call.
/// - No temporary copy is made, and what is sparse stays so.
#[derive(Debug, Clone)]
pub struct Library {
    root: PathBuf,
    catalog: Arc<dyn Catalog>,
    rate_limit: Option<NonZeroU64>,
    settings: Option<EncryptionSettings>,
    downloads: Downloads,
}

/// From where images may be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Downloads {
    /// Which hosts are talked to.
    pub reach: Reach,
    /// Certificates to trust beside the system's own, in PEM.
    pub ca_file: Option<PathBuf>,
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

impl Library {
    /// Opens the images in a directory, which is made if there is none, and deletes those whose deletion
    /// was interrupted.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn open(root: &Path, catalog: Arc<dyn Catalog>) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(|source| failed(root, source))?;
        let root = root.canonicalize().map_err(|source| failed(root, source))?;
        let downloads = Downloads::default();
        let library = Self { root, catalog, rate_limit: None, settings: None, downloads };
        let mut after = None;
        loop {
            let page = library.list(after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(library) };
            after = Some(last.id.clone());
            for image in &page {
                if image.condition == ImageCondition::Deleting {
                    library.delete(&image.id)?;
                }
            }
        }
    }

    /// Returns the same images, of whose bytes no call on what is returned moves more than so many in a
    /// second.
    #[must_use]
    pub fn with_rate_limit(mut self, bytes: Option<NonZeroU64>) -> Self {
        self.rate_limit = bytes;
        self
    }

    /// Returns the same images, of which others are fetched from there alone.
    #[must_use]
    pub fn with_downloads(mut self, downloads: Downloads) -> Self {
        self.downloads = downloads;
        self
    }

    /// Returns an image.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn image(&self, id: &ImageId) -> Result<Image> {
        self.load(id).map(|stored| stored.record)
    }

    /// Returns at most `limit` images with identifiers after `after`, in their order.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn list(&self, after: Option<&ImageId>, limit: usize) -> Result<Vec<Image>> {
        let found = Records::of(&*self.catalog).list(after.map(ImageId::as_str), limit)?;
        Ok(found.into_iter().map(|stored| stored.record).collect())
    }

    /// Deletes an image, or what there is of one: bytes first, the record last. One that is gone succeeds.
    ///
    /// # Errors
    ///
    /// What the file system or the catalog says; [`ImageProblem::AtWork`] while it is being made.
    pub fn delete(&self, id: &ImageId) -> Result<()> {
        let _lock = Lock::take(&self.root, id)?;
        match Records::<Image>::of(&*self.catalog).load(id.as_str())? {
            Some(stored) => self.delete_locked(stored),
            None => Ok(()),
        }
    }

    /// Returns the bytes of a ready image, as they are stored.
    ///
    /// # Errors
    ///
    /// When it is not ready.
    pub fn file(&self, id: &ImageId) -> Result<File> {
        self.ready_image(id)?;
        let path = self.folder(id).data();
        File::open(&path).map_err(|source| failed(&path, source))
    }

    /// Returns the room where the images lie.
    ///
    /// # Errors
    ///
    /// When the file system does not tell.
    pub fn usage(&self) -> Result<Space> {
        let found = rustix::fs::statvfs(&self.root);
        let found = found.map_err(|errno| failed(&self.root, errno.into()))?;
        Ok(Space {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            available: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    fn load(&self, id: &ImageId) -> Result<Stored<Image>> {
        let found = Records::of(&*self.catalog).load(id.as_str())?;
        found.ok_or_else(|| Error::image(id, ImageProblem::NotFound))
    }

    fn folder(&self, id: &ImageId) -> Folder {
        Folder::new(self.root.join(id.as_str()))
    }

    /// Deletes an image of which the caller holds the lock.
    fn delete_locked(&self, mut stored: Stored<Image>) -> Result<()> {
        let records = Records::<Image>::of(&*self.catalog);
        if stored.record.condition != ImageCondition::Deleting {
            stored.record.condition = ImageCondition::Deleting;
            stored = records.replace(stored)?;
        }
        self.folder(&stored.record.id).remove()?;
        Ok(records.remove(&stored)?)
    }
}

/// Returns the format that the catalog knows of an image.
fn format_of(image: &Image) -> Result<ImageFormat> {
    image.format.parse().map_err(|error: strongroom_model::Error| {
        let (kind, id, problem) = (Kind::Image, image.id.to_string(), error.to_string());
        CatalogError::Malformed { kind, id, problem }.into()
    })
}

/// Returns what errors call an image.
fn label(id: &ImageId) -> String {
    format!("image {id}")
}

/// How many images are looked at together.
const PAGE: usize = 256;

#[cfg(test)]
mod tests;
