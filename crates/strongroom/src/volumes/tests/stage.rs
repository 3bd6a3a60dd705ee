//! A first stage, and every later one, as `attach` does them but for the devices.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_attach::Launcher;
use strongroom_crypto::Passphrase;
use strongroom_disk::{Access, Disk, Encrypted, Raw};
use strongroom_kms::{Credentials, KeyProvider, LocalKek};
use strongroom_model::{EncryptionSettings, KmsKind, KmsRequest, Pbkdf, Tuning, VolumeId};
use strongroom_pool::{Directory, Item, Pool};

use crate::catalog::{Catalog, SqliteCatalog};
use crate::volumes::ledger::item;
use crate::volumes::opening::{self, Opening};
use crate::volumes::{NewVolume, Volume, VolumeEncryption, VolumeOpener, Volumes};
use crate::{Error, Result};

/// What opens the volumes of a test.
pub(super) enum Key {
    Passphrase(Passphrase),
    Kms(Box<dyn KeyProvider>),
}

/// A pool and its catalog in a folder.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) id: VolumeId,
}

impl Key {
    /// Returns the key of a folder; `kms` for one that a KMS wraps.
    pub(super) fn of(folder: &Path, kms: bool) -> Self {
        if !kms {
            return Self::Passphrase(Passphrase::new(b"right".to_vec()));
        }
        let file = folder.join("kek");
        if !file.exists() {
            LocalKek::create(&file).unwrap();
        }
        let provider = strongroom_kms::open(&request(folder), Credentials::default());
        Self::Kms(provider.unwrap())
    }

    pub(super) fn opener<'a>(&'a self, settings: &'a EncryptionSettings) -> VolumeOpener<'a> {
        match self {
            Self::Passphrase(passphrase) => {
                VolumeOpener::Passphrase { passphrase, settings: Some(settings) }
            }
            Self::Kms(provider) => VolumeOpener::Kms(&**provider),
        }
    }
}

impl Place {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), id: "v".parse().unwrap() }
    }

    pub(super) fn catalog(&self) -> PathBuf {
        self.folder.join("catalog.sqlite")
    }

    /// Opens pool and catalog anew, as another process would.
    pub(super) fn volumes(&self) -> Volumes {
        let pool = Directory::open(&self.folder.join("pool")).unwrap();
        self.volumes_with(Arc::new(pool), Arc::new(SqliteCatalog::open(&self.catalog()).unwrap()))
    }

    pub(super) fn volumes_with(&self, pool: Arc<dyn Pool>, catalog: Arc<dyn Catalog>) -> Volumes {
        let launcher = Launcher { program: "/bin/false".into(), arguments: Vec::new() };
        Volumes::new(pool, catalog, launcher, self.folder.join("run"))
    }

    pub(super) fn wanted(&self, kms: bool) -> NewVolume {
        let encryption = match kms {
            true => VolumeEncryption::Kms(Box::new(request(&self.folder))),
            false => VolumeEncryption::Passphrase,
        };
        NewVolume {
            id: self.id.clone(),
            size: SIZE,
            encryption,
            tuning: Tuning::default(),
            source: None,
            parameters: Default::default(),
        }
    }

    pub(super) fn create(&self, kms: bool) -> Result<Volume> {
        self.volumes().create(&self.wanted(kms), &())
    }

    /// Returns the file with the bytes of the volume.
    pub(super) fn device(&self) -> PathBuf {
        self.volumes().pool.path(&Item::Volume(self.id.clone())).unwrap()
    }
}

/// Opens a volume as attaching it does, formats it when it never was, and lets `work` use it.
pub(super) fn stage(
    volumes: &Volumes,
    id: &VolumeId,
    opener: VolumeOpener<'_>,
    work: impl FnOnce(&Encrypted<Raw>),
) -> Result<()> {
    let _guard = volumes.lock(id)?;
    let ledger = volumes.ledger();
    let stored = volumes.load_ready(id)?;
    let Opening { stored, volume, forming } =
        opening::open(&ledger, stored, Some(opener), &volumes.policy)?;
    let disk = volumes.pool.open(&item(&stored.record), Access::ReadWrite)?;
    let encrypted = volume.encrypted.as_ref().unwrap();
    let cipher = encrypted.payload.cipher(&encrypted.key).map_err(Error::luks("test"))?;
    let range = encrypted.payload.offset..disk.len();
    let plain = Encrypted::new(disk, range, cipher, encrypted.payload.iv_tweak)?;
    if let Some(forming) = forming {
        // What stands for a file system: it is there when the volume is.
        plain.write_at(&FILE_SYSTEM, 0)?;
        plain.flush()?;
        forming.finish(&ledger, stored)?;
    }
    let mut found = [0; FILE_SYSTEM.len()];
    plain.read_at(&mut found, 0)?;
    assert_eq!(found, FILE_SYSTEM, "a volume was opened before it was whole");
    work(&plain);
    plain.flush()?;
    Ok(())
}

/// Returns settings with the cheapest derivation.
pub(super) fn cheap() -> EncryptionSettings {
    EncryptionSettings {
        cipher: "aes-xts-plain64".to_owned(),
        key_size_bits: 512,
        hash: "sha256".to_owned(),
        pbkdf: Pbkdf::Pbkdf2,
        pbkdf_memory_kib: None,
        pbkdf_iterations: Some(1000),
    }
}

fn request(folder: &Path) -> KmsRequest {
    KmsRequest { kek_file: Some(folder.join("kek")), ..KmsRequest::new(KmsKind::Local) }
}

/// How much of a volume can be used.
pub(super) const SIZE: u64 = 1 << 20;

const FILE_SYSTEM: [u8; 4096] = [0xf5; 4096];
