//! Secrets at rest: sealed in the catalog, under a key that the local KEK wraps.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use strongroom_crypto::{DataKey, leaving_no_trace};
use strongroom_kms::{Binding, Credentials, Envelope, KeyProvider, LocalKek};
use strongroom_model::{KmsKind, KmsRequest};
use zeroize::Zeroizing;

use crate::catalog::{self, Catalog, Kind, Record, Records, Stored};
use crate::{Error, Result};

/// Seals and opens what a catalog keeps of secrets.
///
/// # Guarantees
///
/// - What is sealed for one place opens for no other.
/// - The key that seals is in the catalog only as an envelope, under the key in a file that is its
///   owner's alone.
///
/// # Assumptions
///
/// One process at a time makes the KEK: whoever calls [`open`](Self::open) holds the lock of the directory.
pub struct Sealer {
    key: DataKey,
}

impl Sealer {
    /// Opens the sealing key of a catalog; makes the KEK, and the key, where there are none. A catalog
    /// that has a key which this KEK does not open is refused. An envelope under an older version of the
    /// KEK is wrapped again under the newest.
    ///
    /// # Errors
    ///
    /// [`Error::SealingKey`], and what the catalog says.
    pub fn open(kek_file: &Path, catalog: &dyn Catalog) -> Result<Self> {
        let records = Records::<SealingKey>::of(catalog);
        let mut stored = records.load(SETTING)?;
        if stored.is_none() {
            make_kek(kek_file)?;
        }
        let kek = Kek::open(kek_file)?;
        if stored.is_none() {
            let record = kek.new_key()?;
            match records.insert(record) {
                // Somebody else may just have made one.
                Ok(_) | Err(catalog::Error::Exists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            // What seals is what can be read of it afterwards.
            stored = records.load(SETTING)?;
        }
        let stored = stored.ok_or_else(|| catalog::Error::Changed {
            kind: Kind::Setting,
            id: SETTING.to_owned(),
        })?;
        let (key, envelope) = kek.unwrap(&stored.record)?;
        kek.renew(&records, stored, &envelope)?;
        Ok(Self { key })
    }

    /// Seals a value for a place (`secrets/lab/key/CRYPTO_KEY_VALUE`). Returns text.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn seal(&self, place: &str, value: &[u8]) -> Result<String> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| Error::Request {
            problem: format!("{place} cannot be sealed: the system gives no random bytes: {error}"),
        })?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(NONCE + value.len() + TAG));
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(value);
        let tag = leaving_no_trace(|| {
            let contents = bytes.get_mut(NONCE..).unwrap_or_default();
            self.cipher().encrypt_inout_detached(
                &Nonce::from(nonce),
                place.as_bytes(),
                contents.into(),
            )
        });
        let tag = tag.map_err(|_| Error::Request {
            problem: format!("{place} is too large to be sealed"),
        })?;
        bytes.extend_from_slice(&tag);
        Ok(format!("{VERSION}{}", URL_SAFE_NO_PAD.encode(&*bytes)))
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`] when it was sealed for another one, or changed since.
    pub fn unseal(&self, place: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let wrong = |problem| Error::Sealed { place: place.to_owned(), problem };
        let foreign = || wrong("it is not what is sealed here");
        let text = sealed.strip_prefix(VERSION).ok_or_else(foreign)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| foreign())?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE>().ok_or_else(foreign)?;
        let (contents, tag) = rest.split_last_chunk::<TAG>().ok_or_else(foreign)?;
        let mut contents = Zeroizing::new(contents.to_vec());
        leaving_no_trace(|| {
            self.cipher().decrypt_inout_detached(
                &Nonce::from(*nonce),
                place.as_bytes(),
                contents.as_mut_slice().into(),
                &Tag::from(*tag),
            )
        })
        .map_err(|_| wrong("it was changed, or sealed for something else or by another key"))?;
        Ok(contents)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new_from_slice(self.key.expose_bytes()).expect("a sealing key has 32 bytes")
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

/// What the catalog knows of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SealingKey {
    id: String,
    /// The envelope, as its own JSON text.
    envelope: String,
}

impl Record for SealingKey {
    const KIND: Kind = Kind::Setting;

    fn id(&self) -> &str {
        &self.id
    }
}

/// The key that wraps the sealing key.
struct Kek {
    file: PathBuf,
    provider: Box<dyn KeyProvider>,
}

impl Kek {
    fn open(file: &Path) -> Result<Self> {
        let request =
            KmsRequest { kek_file: Some(file.to_owned()), ..KmsRequest::new(KmsKind::Local) };
        let provider =
            strongroom_kms::open(&request, Credentials::default()).map_err(failed(file))?;
        Ok(Self { file: file.to_owned(), provider })
    }

    fn new_key(&self) -> Result<SealingKey> {
        let key = DataKey::random(KEY, &mut crate::system_rng());
        let envelope = self.provider.wrap(&key, &binding()).map_err(failed(&self.file))?;
        Ok(SealingKey { id: SETTING.to_owned(), envelope: envelope.to_json() })
    }

    fn unwrap(&self, record: &SealingKey) -> Result<(DataKey, Envelope)> {
        let envelope = Envelope::parse(record.envelope.as_bytes(), "the sealing key")
            .map_err(failed(&self.file))?;
        let key = self.provider.unwrap(&envelope, &binding()).map_err(failed(&self.file))?;
        if key.len() == KEY {
            return Ok((key, envelope));
        }
        let place = "the sealing key".to_owned();
        Err(Error::Sealed { place, problem: "it does not have 256 bits" })
    }

    /// Wraps the sealing key under the newest version of the KEK, so that older ones may go.
    fn renew(
        &self,
        records: &Records<'_, SealingKey>,
        mut stored: Stored<SealingKey>,
        envelope: &Envelope,
    ) -> Result<()> {
        let newest = self.provider.probe().map_err(failed(&self.file))?.key_version;
        if newest == envelope.wrapped.key_version {
            return Ok(());
        }
        let renewed = self.provider.rewrap(envelope).map_err(failed(&self.file))?;
        stored.record.envelope = renewed.to_json();
        match records.replace(stored) {
            // Somebody else has done so, then.
            Ok(_) | Err(catalog::Error::Changed { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Makes the file of the KEK where there is none. It is only called for a catalog without a sealing key:
/// one that has a key needs the KEK that it was wrapped by, and no new one.
fn make_kek(file: &Path) -> Result<()> {
    if file.symlink_metadata().is_ok() {
        return Ok(());
    }
    // Whole or not at all: half a key would be in the way of the next start.
    let mut name = OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(".making");
    let making = file.with_file_name(name);
    let io = |error: std::io::Error| {
        let problem = "the file of the key cannot be created";
        let kind = strongroom_kms::ErrorKind::Misconfigured;
        failed(file)(strongroom_kms::Error::new(kind, "local key", problem).with_source(error))
    };
    match std::fs::remove_file(&making) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    LocalKek::create(&making).map_err(failed(file))?;
    std::fs::rename(&making, file).map_err(io)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(io)
}

fn binding() -> Binding {
    Binding::setting(SETTING)
}

fn failed(file: &Path) -> impl Fn(strongroom_kms::Error) -> Error + '_ {
    |source| Error::SealingKey { file: file.to_owned(), source }
}

/// The setting in the catalog.
const SETTING: &str = "sealing";

/// What sealed text begins with.
const VERSION: &str = "v1.";

/// The lengths of AES-256-GCM, in bytes (NIST SP 800-38D).
const KEY: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;

#[cfg(test)]
mod tests;
