//! A key encryption key in a file of this machine.
//!
//! The file has a line for each version of the key, the newest last, and mode 0600:
//!
//! ```text
//! strongroom-kek 1 ID BASE64-OF-32-BYTES
//! strongroom-kek 2 ID BASE64-OF-32-BYTES
//! ```

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strongroom_model::{KmsKind, KmsRequest};
use zeroize::Zeroizing;

use crate::kek::{Kek, Provider};
use crate::{Error, ErrorKind, Expiry, KeyProvider, Probe, Result, Wrapped};

/// The key in a file.
pub struct LocalKek {
    path: PathBuf,
    id: String,
    /// By version, from 1.
    versions: Vec<Zeroizing<[u8; 32]>>,
}

/// Returns the provider of the file that a request names.
pub(crate) fn open(request: &KmsRequest) -> Result<Box<dyn KeyProvider>> {
    let path = request.kek_file.as_deref().ok_or_else(|| {
        Error::new(ErrorKind::Misconfigured, "local", "the file of the key is missing")
            .hinted("name it with --kms-kek-file; `strongroom kms init-local FILE` makes one")
    })?;
    Ok(Box::new(Provider::new(LocalKek::read(path)?)))
}

impl LocalKek {
    /// Creates a file with a new key, mode 0600, and makes it durable. Returns the key's identifier.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misconfigured`] when the file exists or cannot be written; one that exists is
    /// never touched.
    pub fn create(path: &Path) -> Result<String> {
        let failed = |problem: &str, error: std::io::Error| {
            Error::new(ErrorKind::Misconfigured, label(path), problem).with_source(error)
        };
        let mut id = [0; 8];
        fill(&mut id, path)?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = line(1, &id, &*new_key(path)?);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| failed("the file of the key cannot be created", error))?;
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_folder(path))
            .map_err(|error| failed("the file of the key cannot be written", error))?;
        Ok(id)
    }

    /// Reads the file of a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is none; [`ErrorKind::Misconfigured`] when others may
    /// read it or it is no such file.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |problem: &str| Error::new(ErrorKind::Misconfigured, label(path), problem);
        let mut file = std::fs::File::open(path).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Misconfigured,
            };
            Error::new(kind, label(path), "the file of the key cannot be opened").with_source(error)
        })?;
        let metadata = file
            .metadata()
            .map_err(|error| wrong("the file of the key cannot be read").with_source(error))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(wrong("others than the owner may read the file of the key")
                .hinted(format!("take that from them: chmod 600 {}", path.display())));
        }
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
        Read::take(&mut file, MAX_LEN as u64 + 1)
            .read_to_end(&mut text)
            .map_err(|error| wrong("the file of the key cannot be read").with_source(error))?;
        let (id, versions) =
            parse(&text).ok_or_else(|| wrong("it is no file that `kms init-local` makes"))?;
        Ok(Self { path: path.to_owned(), id, versions })
    }

    fn cipher(&self, version: &str) -> Result<Aes256Gcm> {
        let key = version
            .parse::<usize>()
            .ok()
            .and_then(|version| self.versions.get(version.checked_sub(1)?))
            .ok_or_else(|| {
                let problem = format!("the file has no version {version} of the key");
                Error::new(ErrorKind::NotFound, self.label(), problem)
            })?;
        Ok(Aes256Gcm::new((&**key).into()))
    }

    fn newest(&self) -> String {
        self.versions.len().to_string()
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
        let version = self.newest();
        let mut nonce = [0; 12];
        fill(&mut nonce, &self.path)?;
        let mut bytes = plaintext.to_vec();
        let tag = self
            .cipher(&version)?
            .encrypt_inout_detached(&Nonce::from(nonce), &[], bytes.as_mut_slice().into())
            .map_err(|_| Error::new(ErrorKind::Corrupt, self.label(), "it is too much to wrap"))?;
        Ok(Wrapped {
            key_id: self.id.clone(),
            key_version: Some(version),
            algorithm: ALGORITHM.to_owned(),
            iv: Some(nonce.to_vec()),
            tag: Some(tag.to_vec()),
            ciphertext: STANDARD.encode(bytes),
            ..Wrapped::default()
        })
    }

    fn decrypt(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        let corrupt = |problem: &str| Error::new(ErrorKind::Corrupt, self.label(), problem);
        if wrapped.key_id != self.id {
            let problem = format!("the envelope was made by another key, {}", wrapped.key_id);
            return Err(Error::new(ErrorKind::NotFound, self.label(), problem));
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
            server: Some(self.label()),
            key_version: Some(self.newest()),
            oldest_key_version: Some("1".to_owned()),
            credentials: Expiry::Never,
            allowed: ["encrypt", "decrypt", "rewrap"].map(str::to_owned).to_vec(),
            findings: Vec::new(),
        })
    }
}

impl std::fmt::Debug for LocalKek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalKek").field("path", &self.path).field("id", &self.id).finish()
    }
}

/// Returns the identifier and the versions in the text of a file.
fn parse(text: &[u8]) -> Option<(String, Vec<Zeroizing<[u8; 32]>>)> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_LEN)?;
    let (mut id, mut versions) = (None, Vec::new());
    for line in text.lines() {
        let mut words = line.split(' ');
        let (magic, version, own, key) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let number = (versions.len() + 1).to_string();
        if magic != MAGIC || version != number || words.next().is_some() || own.is_empty() {
            return None;
        }
        if id.get_or_insert(own) != &own {
            return None;
        }
        let mut bytes = Zeroizing::new([0; 32]);
        // The estimate of the decoder wants a little more than there is.
        let mut room = Zeroizing::new([0; 36]);
        let len = STANDARD.decode_slice(key, &mut *room).ok()?;
        bytes.copy_from_slice(room.get(..len).filter(|key| key.len() == 32)?);
        versions.push(bytes);
    }
    Some((id?.to_owned(), versions))
}

fn line(version: usize, id: &str, key: &[u8; 32]) -> Zeroizing<String> {
    let mut line = Zeroizing::new(String::with_capacity(128));
    line.push_str(&format!("{MAGIC} {version} {id} "));
    STANDARD.encode_string(key, &mut line);
    line.push('\n');
    line
}

fn new_key(path: &Path) -> Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    fill(&mut *key, path)?;
    Ok(key)
}

fn fill(bytes: &mut [u8], path: &Path) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::new(ErrorKind::Unavailable, label(path), "the system gives no random bytes")
            .with_source(error)
    })
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn label(path: &Path) -> String {
    format!("local key {}", path.display())
}

const MAGIC: &str = "strongroom-kek";

const ALGORITHM: &str = "aes256-gcm";

/// The longest file in bytes: some hundred versions.
const MAX_LEN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    struct File(tempfile::TempDir);

    impl conformance::Harness for File {
        fn provider(&self) -> Box<dyn KeyProvider> {
            let path = self.0.path().join("kek");
            open(&KmsRequest { kek_file: Some(path), ..KmsRequest::new(KmsKind::Local) }).unwrap()
        }
    }

    #[test]
    fn does_what_every_provider_does() {
        let file = File(tempfile::tempdir().unwrap());
        LocalKek::create(&file.0.path().join("kek")).unwrap();
        conformance::run(&file);
    }

    #[test]
    fn refuses_a_file_that_others_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        LocalKek::create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = LocalKek::read(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().ends_with("others than the owner may read the file of the key"));
    }

    #[test]
    fn never_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        LocalKek::create(&path).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(LocalKek::create(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
