//! The one form that wrapped data keys have, whatever KMS wrapped them.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strongroom_crypto::DataKey;
use strongroom_model::KmsKind;
use subtle::ConstantTimeEq;

use crate::{Error, ErrorKind, Result, error};

/// A wrapped data key, with everything that is needed to find the key that unwraps it. Not secret.
///
/// As JSON it is readable for ever: a reader knows every version there was, and members that it does
/// not know are kept out of what it writes but do not hurt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Envelope {
    version: u64,
    /// Which kind of KMS has wrapped it.
    #[serde(with = "kind_name")]
    pub kind: KmsKind,
    /// How, and the result.
    #[serde(flatten)]
    pub wrapped: Wrapped,
    /// Tells whether a data key is the one that was wrapped.
    pub fingerprint: Fingerprint,
    /// When it was wrapped first (RFC 3339).
    pub created: String,
}

/// What a KMS has made of a data key, and which of its keys did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wrapped {
    /// Where the KMS was. Only for people: nobody is talked to because an envelope says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The namespace in the KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where in the KMS the engine is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// The name or identifier of the key encryption key.
    pub key_id: String,
    /// The version of that key, where it has versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<String>,
    /// How it is wrapped.
    pub algorithm: String,
    /// How the key encryption key comes from a passphrase, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derivation: Option<Derivation>,
    /// The initialisation vector or nonce.
    #[serde(default, with = "base64_bytes", skip_serializing_if = "Option::is_none")]
    pub iv: Option<Vec<u8>>,
    /// The authentication tag, where it stands apart.
    #[serde(default, with = "base64_bytes", skip_serializing_if = "Option::is_none")]
    pub tag: Option<Vec<u8>>,
    /// The wrapped bytes: as the KMS writes them where that is text, else in base64.
    pub ciphertext: String,
}

/// Argon2id with which a passphrase becomes a key encryption key (RFC 9106).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Derivation {
    /// The salt, in base64.
    pub salt: String,
    /// Passes.
    pub time: u32,
    /// Memory in KiB.
    pub memory: u32,
    /// Lanes.
    pub lanes: u32,
}

/// A salted hash of a data key. The key has 256 random bits, so nobody guesses it from this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    salt: String,
    sha256: String,
}

impl Envelope {
    /// Returns an envelope, made now.
    pub(crate) fn new(kind: KmsKind, wrapped: Wrapped, fingerprint: Fingerprint) -> Self {
        let created = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self { version: VERSION, kind, wrapped, fingerprint, created }
    }

    /// Reads an envelope from JSON.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] when it is none, or of a version that a later release writes. `label`
    /// says where it was found.
    pub fn parse(json: &[u8], label: &str) -> Result<Self> {
        let corrupt = |problem: String| Error::new(ErrorKind::Corrupt, label, problem);
        if json.len() > MAX_LEN {
            return Err(corrupt(format!("an envelope has at most {MAX_LEN} bytes")));
        }
        // The parser's words may quote the envelope at length.
        let cause = |error: serde_json::Error| error::shown(error.to_string());
        let version: Versioned = serde_json::from_slice(json)
            .map_err(|error| corrupt("it is no envelope".to_owned()).with_source(cause(error)))?;
        match version.version {
            VERSION => {
                let damaged = || corrupt("the envelope is damaged".to_owned());
                let envelope: Self = serde_json::from_slice(json)
                    .map_err(|error| damaged().with_source(cause(error)))?;
                match envelope.flaw() {
                    Some(flaw) => Err(damaged().with_source(flaw)),
                    None => Ok(envelope),
                }
            }
            other => Err(corrupt(format!(
                "the envelope has version {other}, and this release knows version {VERSION} only"
            ))
            .hinted("use a newer release")),
        }
    }

    /// Returns what no envelope of ours has, if anything.
    fn flaw(&self) -> Option<&'static str> {
        let Wrapped { endpoint, namespace, mount, key_id, key_version, algorithm, .. } =
            &self.wrapped;
        let optional = [endpoint, namespace, mount, key_version].into_iter().flatten();
        let salt = self.wrapped.derivation.iter().map(|derivation| &derivation.salt);
        let others = [key_id, algorithm, &self.wrapped.ciphertext, &self.created];
        let mut texts = optional.chain(salt).chain(others);
        // They are shown to people, and become parts of paths.
        let moves = |c: char| c.is_control() || error::is_bidirectional(c);
        if texts.any(|text| text.contains(moves)) {
            return Some("a text has control characters");
        }
        if humantime::parse_rfc3339(&self.created).is_err() {
            return Some("the time of its creation is none");
        }
        let Fingerprint { salt, sha256 } = &self.fingerprint;
        let [salt, sha256] = [salt, sha256].map(|text| STANDARD.decode(text).ok());
        if salt.is_none_or(|salt| salt.is_empty()) || sha256.is_none_or(|hash| hash.len() != 32) {
            return Some("the fingerprint is none");
        }
        None
    }

    /// Returns the envelope as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }

    /// Returns the same envelope with what a newer version of the key has made of it.
    pub(crate) fn rewrapped(&self, wrapped: Wrapped) -> Self {
        Self { wrapped, ..self.clone() }
    }
}

impl Wrapped {
    /// Returns ciphertext that is bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] when it is not base64.
    pub(crate) fn ciphertext_bytes(&self, label: &str) -> Result<Vec<u8>> {
        STANDARD.decode(&self.ciphertext).map_err(|error| {
            Error::new(ErrorKind::Corrupt, label, "the envelope's ciphertext is not base64")
                .with_source(error)
        })
    }
}

impl Fingerprint {
    /// Returns the fingerprint of a data key.
    pub(crate) fn of(key: &DataKey, salt: &[u8; 16]) -> Self {
        Self { salt: STANDARD.encode(salt), sha256: STANDARD.encode(hash(key, salt)) }
    }

    /// Returns whether it is the fingerprint of this data key.
    pub fn matches(&self, key: &DataKey) -> bool {
        match (STANDARD.decode(&self.salt), STANDARD.decode(&self.sha256)) {
            (Ok(salt), Ok(sha256)) => hash(key, &salt).ct_eq(&sha256[..]).into(),
            _ => false,
        }
    }
}

/// As little as tells whether the rest can be read.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

fn hash(key: &DataKey, salt: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(key.expose_bytes()).finalize().into()
}

mod kind_name {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use strongroom_model::KmsKind;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde says so")]
    pub(super) fn serialize<S: Serializer>(
        kind: &KmsKind,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<KmsKind, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[allow(clippy::ref_option, reason = "serde says so")]
    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| STANDARD.decode(text)).transpose().map_err(de::Error::custom)
    }
}

const VERSION: u64 = 1;

/// The longest envelope in bytes: many times what any KMS makes of a data key.
const MAX_LEN: usize = 64 << 10;

#[cfg(test)]
mod tests;
