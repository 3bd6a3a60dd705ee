//! Longhorn's documents, and its encryption Secret: a Kubernetes Secret with `CRYPTO_…` keys, Longhorn 1.12's set.
//!
//! The manifest is taken as a Kubernetes API server would take it: `data` holds base64,
//! `stringData` holds text and wins over `data`, and neither takes a number. What upstream's own
//! sample gets wrong (plain text and a bare `256` under `data`) is therefore refused, with the
//! reason. An empty value counts as not given.

mod backing_image;
mod volume;

pub(super) use backing_image::check_url;
pub use backing_image::{BackingImage, CloneEncryption, ImageOrigin};
pub use volume::{LonghornVolume, VolumeDataSource, VolumeEncryption};

use std::fmt;

use zeroize::Zeroizing;

use super::manifest::{self, Document, Entries, Keys};
use crate::{EncryptionSettings, Error, Pbkdf};

/// The keys of the Secret. Any other that begins with `CRYPTO_` is refused, since it is most
/// likely one of these misspelt.
pub const KEYS: [&str; 8] = [
    Key::Value.name(),
    Key::Provider.name(),
    Key::Cipher.name(),
    Key::Hash.name(),
    Key::Size.name(),
    Key::Pbkdf.name(),
    Key::PbkdfForceIterations.name(),
    Key::PbkdfMemory.name(),
];

/// An encryption Secret, read from its manifest or from the map in it.
///
/// The passphrase is wiped on drop and never printed.
pub struct EncryptionSecret {
    name: String,
    namespace: Option<String>,
    settings: EncryptionSettings,
    passphrase: Zeroizing<Vec<u8>>,
}

impl EncryptionSecret {
    /// Reads a manifest, YAML or JSON, that holds exactly one encryption Secret and whatever
    /// other documents.
    ///
    /// # Guarantees
    ///
    /// - The passphrase is the exact bytes of the value, newline included.
    /// - Time and memory are bounded for any input, and no input panics.
    /// - No error holds a value of the Secret.
    ///
    /// # Errors
    ///
    /// [`Error::NoSecret`] and [`Error::SeveralSecrets`] when there is not one to take; otherwise
    /// what is wrong with the text, or with the key that is named.
    pub fn parse(manifest: &[u8]) -> Result<Self, Error> {
        let mut secrets: Vec<Document<CryptoKeys>> =
            manifest::read(manifest)?.into_iter().filter(Document::is_secret).collect();
        if secrets.len() > 1 {
            return Err(Error::SeveralSecrets {
                secrets: secrets.iter().map(Document::qualified_name).collect(),
            });
        }
        secrets.pop().ok_or(Error::NoSecret)?.try_into()
    }

    /// Reads the map of a Secret that is not there as a manifest. `name` is what errors call it.
    ///
    /// # Guarantees
    ///
    /// Those of [`parse`](Self::parse).
    ///
    /// # Errors
    ///
    /// [`Error::NoPassphrase`], or what is wrong with the key that is named.
    pub fn from_values<'a>(
        name: &str,
        values: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, Error> {
        let mut known = Vec::new();
        for (key, value) in values {
            match Key::ALL.into_iter().find(|known| known.name() == key) {
                Some(key) => known.push((key, Zeroizing::new(value.to_vec()))),
                None if CryptoKeys::resembles(key) => {
                    return Err(Error::UnknownKey { key: manifest::shown_key(key) });
                }
                None => {}
            }
        }
        let (settings, passphrase) = Values(known).read(name)?;
        Ok(Self { name: name.to_owned(), namespace: None, settings, passphrase })
    }

    /// Returns the name of the Secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the namespace of the Secret, `None` when the manifest leaves it to whoever
    /// applies it.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Returns how the Secret wants things to be encrypted, Longhorn's defaults filled in.
    pub fn settings(&self) -> &EncryptionSettings {
        &self.settings
    }

    /// Returns the settings and the passphrase.
    ///
    /// This crate has no secret types: make a passphrase of the bytes at once, taking them out
    /// with [`std::mem::take`] so that no copy is left.
    pub fn into_parts(self) -> (EncryptionSettings, Zeroizing<Vec<u8>>) {
        (self.settings, self.passphrase)
    }
}

impl TryFrom<Document<CryptoKeys>> for EncryptionSecret {
    type Error = Error;

    fn try_from(mut document: Document<CryptoKeys>) -> Result<Self, Error> {
        let secret = document.qualified_name();
        let name = document.name().ok_or(Error::NamelessSecret)?.to_owned();
        let namespace = document.namespace()?.map(str::to_owned);
        let mut data = document.take_data();
        let mut string_data = document.take_string_data();
        if let Some(key) = data.take_unknown().or_else(|| string_data.take_unknown()) {
            return Err(Error::UnknownKey { key });
        }
        let (settings, passphrase) = Values::new(&mut data, &mut string_data)?.read(&secret)?;
        Ok(Self { name, namespace, settings, passphrase })
    }
}

impl fmt::Debug for EncryptionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionSecret")
            .field("name", &self.name)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// The keys, for the reader of manifests.
struct CryptoKeys;

impl Keys for CryptoKeys {
    const NAMES: &'static [&'static str] = &KEYS;

    fn resembles(name: &str) -> bool {
        name.starts_with("CRYPTO_")
    }
}

/// A key of the Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Value,
    Provider,
    Cipher,
    Hash,
    Size,
    Pbkdf,
    PbkdfForceIterations,
    PbkdfMemory,
}

impl Key {
    const ALL: [Self; 8] = [
        Self::Value,
        Self::Provider,
        Self::Cipher,
        Self::Hash,
        Self::Size,
        Self::Pbkdf,
        Self::PbkdfForceIterations,
        Self::PbkdfMemory,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Value => "CRYPTO_KEY_VALUE",
            Self::Provider => "CRYPTO_KEY_PROVIDER",
            Self::Cipher => "CRYPTO_KEY_CIPHER",
            Self::Hash => "CRYPTO_KEY_HASH",
            Self::Size => "CRYPTO_KEY_SIZE",
            Self::Pbkdf => "CRYPTO_PBKDF",
            Self::PbkdfForceIterations => "CRYPTO_PBKDF_FORCE_ITERATIONS",
            Self::PbkdfMemory => "CRYPTO_PBKDF_MEMORY",
        }
    }
}

/// The values of the Secret as the API server would store them.
struct Values(Vec<(Key, Zeroizing<Vec<u8>>)>);

impl Values {
    /// Merges both maps. A bad value is refused even where the other map covers it, as the API
    /// server would.
    fn new(
        data: &mut Entries<CryptoKeys>,
        string_data: &mut Entries<CryptoKeys>,
    ) -> Result<Self, Error> {
        let mut values = Vec::new();
        for key in Key::ALL {
            let name = key.name();
            let decoded = data.take(name).map(|scalar| scalar.decoded(name)).transpose()?;
            let plain = string_data.take(name).map(|scalar| scalar.plain(name)).transpose()?;
            if let Some(value) = plain.or(decoded) {
                values.push((key, value));
            }
        }
        Ok(Self(values))
    }

    /// Returns what the values of a Secret of this name say.
    fn read(mut self, secret: &str) -> Result<(EncryptionSettings, Zeroizing<Vec<u8>>), Error> {
        let no_passphrase = || Error::NoPassphrase { secret: secret.to_owned() };
        let passphrase = self.take(Key::Value).ok_or_else(no_passphrase)?;
        if self.word(Key::Provider)?.is_some_and(|provider| *provider != "secret") {
            return Err(Error::InvalidValue {
                key: Key::Provider.name(),
                allowed: "the only provider is secret",
            });
        }
        let pbkdf = match self.word(Key::Pbkdf)? {
            None => DEFAULT_PBKDF,
            Some(name) => name.parse().map_err(|_| Error::InvalidValue {
                key: Key::Pbkdf.name(),
                allowed: "use argon2id, argon2i or pbkdf2",
            })?,
        };
        let settings = EncryptionSettings {
            cipher: self.word_or(Key::Cipher, DEFAULT_CIPHER)?,
            key_size_bits: self.number(Key::Size)?.unwrap_or(DEFAULT_KEY_SIZE_BITS),
            hash: self.word_or(Key::Hash, DEFAULT_HASH)?,
            pbkdf,
            // To cryptsetup, which Longhorn hands these to, 0 means that nothing was said.
            pbkdf_memory_kib: self.number(Key::PbkdfMemory)?.filter(|&kib| kib != 0),
            pbkdf_iterations: self.number(Key::PbkdfForceIterations)?.filter(|&n| n != 0),
        };
        Ok((settings, passphrase))
    }

    /// Returns a value unless it is missing or empty.
    fn take(&mut self, key: Key) -> Option<Zeroizing<Vec<u8>>> {
        let index = self.0.iter().position(|(held, _)| *held == key)?;
        Some(self.0.swap_remove(index).1).filter(|value| !value.is_empty())
    }

    /// Returns a value that is a name or a number.
    fn word(&mut self, key: Key) -> Result<Option<Zeroizing<String>>, Error> {
        let Some(mut value) = self.take(key) else {
            return Ok(None);
        };
        if value.ends_with(b"\n") {
            return Err(Error::TrailingNewline { key: key.name() });
        }
        if !value.iter().all(u8::is_ascii_graphic) {
            return Err(Error::InvalidValue {
                key: key.name(),
                allowed: "use visible ASCII characters without spaces",
            });
        }
        let word = String::from_utf8(std::mem::take(&mut *value)).expect("ASCII is UTF-8");
        Ok(Some(Zeroizing::new(word)))
    }

    fn word_or(&mut self, key: Key, default: &str) -> Result<String, Error> {
        Ok(self.word(key)?.map_or_else(|| default.to_owned(), |word| word.as_str().to_owned()))
    }

    fn number(&mut self, key: Key) -> Result<Option<u32>, Error> {
        let Some(word) = self.word(key)? else {
            return Ok(None);
        };
        // `parse` alone would take a sign.
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        word.parse().ok().filter(|_| digits).map(Some).ok_or(Error::InvalidValue {
            key: key.name(),
            allowed: "use a whole number in digits that fits into 32 bits",
        })
    }
}

// What Longhorn takes when the Secret does not say.
const DEFAULT_CIPHER: &str = "aes-xts-plain64";
const DEFAULT_HASH: &str = "sha256";
const DEFAULT_KEY_SIZE_BITS: u32 = 256;
const DEFAULT_PBKDF: Pbkdf = Pbkdf::Argon2i;

#[cfg(test)]
mod tests;
