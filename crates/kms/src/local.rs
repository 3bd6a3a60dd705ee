//! A key encryption key in a file of this machine.

mod file;

use std::fmt;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strongroom_model::{KmsKind, KmsRequest};
use zeroize::Zeroizing;

use self::file::{Versions, label};
use crate::kek::{Kek, Provider};
use crate::{Error, ErrorKind, Expiry, KeyProvider, Probe, Result, Wrapped, random};

/// The key in a file, in all its versions.
pub struct LocalKek {
    path: PathBuf,
    versions: Versions,
}

/// Returns the provider of the file that a request names.
pub(crate) fn open(request: &KmsRequest) -> Result<Box<dyn KeyProvider>> {
    let path = request.kek_file.as_deref().ok_or_else(|| {
        Error::new(ErrorKind::Misconfigured, "local", "the file of the key is missing")
            .hinted("name it with --kms-kek-file; `strongroom kms init-local FILE` makes one")
    })?;
    let kek = LocalKek::read(path)?;
    if let Some(wanted) = request.key_id.as_deref().filter(|id| *id != kek.versions.id) {
        let problem = format!("the file holds the key {}, not {wanted}", kek.versions.id);
        return Err(Error::new(ErrorKind::NotFound, kek.label(), problem)
            .hinted("leave --kms-key-id out, or name another file with --kms-kek-file"));
    }
    Ok(Box::new(Provider::new(kek)))
}

impl LocalKek {
    /// Creates a file with a new key, mode 0600, and makes it durable. Returns the key's identifier.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misconfigured`] when the file exists or cannot be written; one that exists is
    /// never touched.
    pub fn create(path: &Path) -> Result<String> {
        file::create(path)
    }

    /// Adds a version to the key in a file, which new data keys are wrapped under from then on.
    /// The older ones stay, so that everything still opens. Returns the number of the new version.
    ///
    /// The file is replaced as a whole: whoever reads it meanwhile, or after a crash, finds the old
    /// or the new one. Owner and mode stay. Several calls at once each add a version.
    ///
    /// # Errors
    ///
    /// As [`LocalKek::read`]; and [`ErrorKind::Misconfigured`] when the path is a symbolic link, or
    /// the folder cannot be written to.
    pub fn rotate(path: &Path) -> Result<u64> {
        file::rotate(path)
    }

    /// Reads the file of a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is none; [`ErrorKind::Misconfigured`] when others may
    /// read or have made it, or it is no such file; [`ErrorKind::Corrupt`] when a line is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), versions: file::read(path)? })
    }

    fn cipher(&self, version: &str) -> Result<Aes256Gcm> {
        let key = self.versions.key(version).ok_or_else(|| {
            let problem = format!("the file has no version {version} of the key");
            Error::new(ErrorKind::NotFound, self.label(), problem)
                .hinted("take the newest copy of the file: an older one lacks newer versions")
        })?;
        Ok(Aes256Gcm::new_from_slice(key).expect("a version has 32 bytes"))
    }
}

impl Kek for LocalKek {
    fn kind(&self) -> KmsKind {
        KmsKind::Local
    }

    fn label(&self) -> String {
        label(&self.path)
    }

    fn encrypt(&self, plaintext: &[u8]) -> Result<Wrapped> {
        let version = self.versions.newest().to_string();
        let mut nonce = [0; 12];
        random::fill(&mut nonce, &self.label())?;
        let mut bytes = Zeroizing::new(plaintext.to_vec());
        let tag = self
            .cipher(&version)?
            .encrypt_inout_detached(&Nonce::from(nonce), &[], bytes.as_mut_slice().into())
            .expect("a data key is short");
        Ok(Wrapped {
            key_id: self.versions.id.clone(),
            key_version: Some(version),
            algorithm: ALGORITHM.to_owned(),
            iv: Some(nonce.to_vec()),
            tag: Some(tag.to_vec()),
            ciphertext: STANDARD.encode(&bytes),
            ..Wrapped::default()
        })
    }

    fn decrypt(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        let corrupt = |problem: &str| Error::new(ErrorKind::Corrupt, self.label(), problem);
        if wrapped.key_id != self.versions.id {
            let problem = format!(
                "the envelope was made by the key {}, and the file holds {}",
                wrapped.key_id, self.versions.id
            );
            return Err(Error::new(ErrorKind::NotFound, self.label(), problem)
                .hinted("name the file of that key with --kms-kek-file"));
        }
        let nonce = wrapped.iv.as_deref().and_then(|iv| Nonce::try_from(iv).ok());
        let tag = wrapped.tag.as_deref().and_then(|tag| tag.try_into().ok());
        let (Some(nonce), Some(tag), ALGORITHM) = (nonce, tag, wrapped.algorithm.as_str()) else {
            return Err(corrupt("the envelope lacks what its algorithm needs"));
        };
        let cipher = self.cipher(wrapped.key_version.as_deref().unwrap_or_default())?;
        let mut bytes = Zeroizing::new(wrapped.ciphertext_bytes(&self.label())?);
        cipher
            .decrypt_inout_detached(&nonce, &[], bytes.as_mut_slice().into(), &tag)
            .map_err(|_| corrupt("the envelope was altered: it does not authenticate"))?;
        Ok(bytes)
    }

    fn probe(&self) -> Result<Probe> {
        Ok(Probe {
            server: None,
            key_version: Some(self.versions.newest().to_string()),
            oldest_key_version: Some(self.versions.oldest().to_string()),
            credentials: Expiry::Never,
            allowed: ["encrypt", "decrypt", "rewrap"].map(str::to_owned).to_vec(),
            findings: file::findings(&self.path),
        })
    }
}

impl fmt::Debug for LocalKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("LocalKek");
        debug.field("path", &self.path).field("id", &self.versions.id).finish_non_exhaustive()
    }
}

const ALGORITHM: &str = "aes256-gcm";

#[cfg(test)]
mod tests;
