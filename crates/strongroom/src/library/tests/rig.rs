//! A library in a folder of its own, and images to put into it.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_attach::Launcher;
use strongroom_clone::Progress;
use strongroom_crypto::{CostPolicy, Hash, Passphrase};
use strongroom_disk::{Access, Disk, Raw};
use strongroom_kms::{Credentials, KeyProvider, LocalKek};
use strongroom_model::{
    CloneRequest, EncryptionRequest, EncryptionSettings, ImageFormat, ImageId, ImageOperation,
    ImageSource, ImageTarget, KmsKind, KmsRequest, LuksFormat, Pbkdf,
};
use strongroom_testkit::{Pattern, Reply, Server};

use crate::catalog::SqliteCatalog;
use crate::images::{self, DetachedHeaders, Keys, Observer, Side, Work};
use crate::library::{Copying, Image, Library, NewImage};
use crate::volumes::{NewVolume, Volume, VolumeEncryption, Volumes};
use crate::{Opener, OwnedNewKey, OwnedOpener, Result};

/// A library, and a folder for what is beside it.
pub(super) struct Rig {
    pub(super) directory: tempfile::TempDir,
    pub(super) library: Library,
    cancelled: Arc<AtomicBool>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = library(directory.path()).with_settings(Some(settings()));
        Self { directory, library, cancelled: Arc::default() }
    }

    pub(super) fn work(&self) -> Work<'_> {
        work(&self.cancelled)
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the file of an image.
    pub(super) fn data(&self, id: &str) -> PathBuf {
        self.at("images").join(id).join("data")
    }

    /// Puts a file into the library as it is, over HTTP.
    pub(super) fn import(&self, id: &str, path: &Path) -> Result<Image> {
        self.import_as(&new(id), path)
    }

    pub(super) fn import_as(&self, new: &NewImage, path: &Path) -> Result<Image> {
        let server = serve(fs::read(path).unwrap());
        self.library.fetch(new, &server.url("/image"), &self.work())
    }

    /// Makes an image of one of the library.
    pub(super) fn clone(&self, id: &str, from: &str, how: Copying) -> Result<Image> {
        self.library.clone_image(&new(id), &image_id(from), how, &self.work())
    }

    /// Makes a file of a format with the contents of [`pattern`], and `key` as its passphrase.
    pub(super) fn file(&self, format: ImageFormat) -> PathBuf {
        let raw = self.at("contents.raw");
        if !raw.exists() {
            let (disk, _) = Raw::create_new(&raw).unwrap();
            disk.set_len(LEN).unwrap();
            pattern().write_to(&disk).unwrap();
        }
        let path = self.at(&format!("file.{format}"));
        if path.exists() {
            return path;
        }
        let operation = match format.luks() {
            None => ImageOperation::Copy,
            Some(version) => {
                ImageOperation::Encrypt(EncryptionRequest { format: version, ..cheap() })
            }
        };
        let key = format.luks().map(|_| OwnedNewKey::Passphrase(key()));
        let request = CloneRequest {
            source_format: Some(ImageFormat::Raw),
            target_format: Some(format),
            ..CloneRequest::new(ImageSource::File(raw), ImageTarget::File(path.clone()), operation)
        };
        let keys = Keys { source: None, target: key };
        images::clone(&request, DetachedHeaders::default(), keys, &self.work()).unwrap();
        path
    }

    /// Returns the volumes beside the library.
    pub(super) fn volumes(&self) -> Volumes {
        volumes(self.directory.path())
    }

    /// Makes a volume of an image.
    pub(super) fn volume(&self, from: &str, new: &NewVolume, keys: Keys) -> Result<Volume> {
        self.library.make_volume(&image_id(from), &self.volumes(), new, keys, &self.work())
    }

    /// Returns what a volume shows to whoever opens it with a passphrase.
    pub(super) fn shown(&self, volume: &str, passphrase: &[u8]) -> Result<Arc<dyn Disk>> {
        let volumes = self.volumes();
        let volume = volumes.volume(&volume.parse().unwrap()).unwrap();
        let key = Passphrase::new(passphrase.to_vec());
        let encrypted = volume.encryption.is_encrypted();
        let side = Side {
            path: &volumes.device_path(&volume.id).unwrap(),
            format: Some(if encrypted { ImageFormat::Luks2 } else { ImageFormat::Raw }),
            header: None,
            opener: encrypted.then(|| Opener::from(&key)),
        };
        Ok(images::open(side, &[], &self.work())?.into_disk())
    }

    /// Does a piece of work that is told to stop as soon as it has moved something.
    pub(super) fn cancel_at_first_bytes<T>(&self, job: impl FnOnce(&Work<'_>) -> Result<T>) {
        let observer = Stopping(Arc::clone(&self.cancelled));
        let result = job(&Work { observer: &observer, ..self.work() });
        let error = result.err().unwrap();
        assert_eq!(error.kind(), crate::ErrorKind::Interrupted, "{error}");
        self.cancelled.store(false, Ordering::Relaxed);
    }

    pub(super) fn cancelled(&self) -> &AtomicBool {
        &self.cancelled
    }

    /// Returns what is wrong with the contents of an image, if anything.
    pub(super) fn difference(&self, image: &Image) -> Option<u64> {
        let key = key();
        let side = Side {
            path: &self.data(image.id.as_str()),
            format: Some(image.format.parse().unwrap()),
            header: None,
            opener: image.encryption.as_ref().map(|_| Opener::from(&key)),
        };
        let opened = images::open(side, &[], &self.work()).unwrap();
        pattern().first_difference(&*opened.into_disk()).unwrap()
    }
}

/// Tells a job to stop at the first piece that is done.
struct Stopping(Arc<AtomicBool>);

impl Progress for Stopping {
    fn advance(&self, bytes: u64) {
        self.0.store(bytes > 0, Ordering::Relaxed);
    }
}

impl Observer for Stopping {
    fn begin(&self, _bytes: Option<u64>) {}

    fn as_progress(&self) -> &dyn Progress {
        self
    }
}

/// Returns the library in a folder, as another process would open it.
pub(super) fn library(folder: &Path) -> Library {
    let catalog = SqliteCatalog::open(&folder.join("catalog.sqlite")).unwrap();
    Library::open(&folder.join("images"), Arc::new(catalog)).unwrap()
}

/// Returns the volumes in a folder, as another process would open them.
pub(super) fn volumes(folder: &Path) -> Volumes {
    let launcher = Launcher { program: "/bin/false".into(), arguments: Vec::new() };
    Volumes::open(&folder.join("pool"), launcher).unwrap()
}

/// Returns a volume that is wanted.
pub(super) fn wanted(id: &str, size: u64, encryption: VolumeEncryption) -> NewVolume {
    NewVolume {
        id: id.parse().unwrap(),
        size,
        encryption,
        tuning: Default::default(),
        source: None,
        parameters: Default::default(),
    }
}

/// Returns a key of the kind that is local, and how a volume says that it has one.
pub(super) fn kms(folder: &Path) -> (Box<dyn KeyProvider>, VolumeEncryption) {
    let file = folder.join("kek");
    if !file.exists() {
        LocalKek::create(&file).unwrap();
    }
    let request = KmsRequest { kek_file: Some(file), ..KmsRequest::new(KmsKind::Local) };
    let provider = strongroom_kms::open(&request, Credentials::default()).unwrap();
    (provider, VolumeEncryption::Kms(Box::new(request)))
}

/// Returns settings with the cheapest derivation.
pub(super) fn settings() -> EncryptionSettings {
    EncryptionSettings {
        cipher: "aes-xts-plain64".to_owned(),
        key_size_bits: 256,
        hash: "sha256".to_owned(),
        pbkdf: Pbkdf::Pbkdf2,
        pbkdf_memory_kib: None,
        pbkdf_iterations: Some(1000),
    }
}

pub(super) fn work(cancelled: &Arc<AtomicBool>) -> Work<'_> {
    Work { policy: CostPolicy::default(), observer: &(), cancelled }
}

/// Serves bytes, in parts when asked for.
pub(super) fn serve(bytes: Vec<u8>) -> Server {
    let len = bytes.len() as u64;
    let part = move |range: Range<u64>| bytes[range.start as usize..range.end as usize].to_vec();
    Server::serving(part, move |request| Reply::ranged(request, len, "\"one\""))
}

pub(super) fn new(id: &str) -> NewImage {
    NewImage { id: image_id(id), label: format!("test/{id}"), format: None, checksum: None }
}

pub(super) fn image_id(id: &str) -> ImageId {
    id.parse().unwrap()
}

pub(super) fn encrypt() -> Copying {
    Copying::Encrypt { request: cheap(), key: OwnedNewKey::Passphrase(key()) }
}

pub(super) fn decrypt() -> Copying {
    Copying::Decrypt { opener: OwnedOpener::Passphrase(key()) }
}

pub(super) fn key() -> Passphrase {
    Passphrase::new(b"key of the image".to_vec())
}

/// Returns a request with the cheapest derivation.
pub(super) fn cheap() -> EncryptionRequest {
    EncryptionRequest {
        format: LuksFormat::Luks2,
        pbkdf: Some(Pbkdf::Pbkdf2),
        pbkdf_iterations: Some(1000),
        ..EncryptionRequest::default()
    }
}

/// Returns the contents of every image of a test: some blocks of it are zeros.
pub(super) fn pattern() -> Pattern {
    Pattern::sparse(11, 64 << 10)
}

pub(super) fn sha512(path: &Path) -> String {
    let digest = Hash::Sha512.digest(&[&fs::read(path).unwrap()]);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn len_of(path: &Path) -> u64 {
    Raw::open(path, Access::ReadOnly).unwrap().len()
}

/// The length of the contents.
pub(super) const LEN: u64 = 6 << 20;
