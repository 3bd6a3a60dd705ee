//! OSC's encrypted StorageClass, whose volumes have keys that a KMS wraps, and the Secret with the
//! credentials for that KMS.
//!
//! Both are taken as a Kubernetes API server would take them: parameters are text, so
//! `encryptionEnabled: true` without quotes is refused; `data` holds base64, and `stringData` wins
//! over it. Parameters that say nothing of encryption are the pool's and not looked at.
//!
//! Longhorn's and Harvester's StorageClass says `encrypted: "true"` instead; the passphrase is in
//! the Secret that [`longhorn`](super::longhorn) reads.

mod credentials;

pub use self::credentials::{CredentialParts, CredentialsSecret};

use zeroize::Zeroizing;

use super::manifest::{self, Document, Entries, Keys, Scalar};
use crate::{Error, KmsKind, KmsRequest};
use core::net::IpAddr;

/// The parameters of a StorageClass that say how its volumes are encrypted. Those of the mount and
/// the namespace are ours.
pub const PARAMETERS: [&str; 7] =
    [ENABLED, TYPE, ENDPOINT, KEY_ID, MOUNT, NAMESPACE, LONGHORN_ENCRYPTED];

/// A StorageClass, as far as it says how its volumes are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageClass {
    name: String,
    encryption: Encryption,
}

/// How the volumes of a StorageClass are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    None,
    /// As Longhorn does it: with the passphrase in a Secret with `CRYPTO_…` keys.
    Passphrase,
    /// As OSC does it: with keys of their own that this KMS wraps. Of the local kind, which is ours, the
    /// class does not name the file with the key: whoever uses the class has to.
    Kms(Box<KmsRequest>),
}

impl StorageClass {
    /// Reads a manifest, YAML or JSON, with one StorageClass that says something of encryption, or
    /// one that does not, and whatever other documents.
    ///
    /// # Guarantees
    ///
    /// - Time and memory are bounded for any input, and no input panics.
    /// - A StorageClass that is meant to be encrypted is never taken for one that is not because a
    ///   word is misspelt.
    ///
    /// # Errors
    ///
    /// [`Error::NoStorageClass`] and [`Error::SeveralStorageClasses`] when there is not one to
    /// take; otherwise what is wrong with the text, or with the parameter that is named.
    pub fn parse(manifest: &[u8]) -> Result<Self, Error> {
        let classes: Vec<Document<Parameters>> =
            manifest::read(manifest)?.into_iter().filter(Document::is_storage_class).collect();
        let (mut encrypted, others): (Vec<_>, Vec<_>) =
            classes.into_iter().partition(Document::has_parameters);
        if encrypted.is_empty() {
            encrypted = others;
        }
        if encrypted.len() > 1 {
            let classes = encrypted.iter().map(Document::qualified_name).collect();
            return Err(Error::SeveralStorageClasses { classes });
        }
        let mut class = encrypted.pop().ok_or(Error::NoStorageClass)?;
        let name = class.qualified_name();
        let encryption = encryption(&name, class.take_parameters())?;
        Ok(Self { name, encryption })
    }

    /// Returns the name of the StorageClass, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how its volumes are encrypted.
    pub fn encryption(&self) -> &Encryption {
        &self.encryption
    }
}

/// Returns how volumes with these parameters are encrypted. `class` is what errors call them.
pub(super) fn encryption_of<'a>(
    class: &str,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Encryption, Error> {
    encryption(class, Entries::of_texts(parameters))
}

/// The keys, for the reader of manifests.
struct Parameters;

impl Keys for Parameters {
    const NAMES: &'static [&'static str] = &PARAMETERS;

    fn resembles(name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        name.starts_with("encryptionkms")
            || name.starts_with("encryptionenable")
            || name == LONGHORN_ENCRYPTED
    }
}

fn encryption(class: &str, mut parameters: Entries<Parameters>) -> Result<Encryption, Error> {
    if let Some(key) = parameters.take_unknown() {
        return Err(Error::UnknownParameter { key });
    }
    let ours = flag(&mut parameters, ENABLED)?;
    let longhorns = flag(&mut parameters, LONGHORN_ENCRYPTED)?;
    let kms = KmsParameters::take(&mut parameters)?;
    match (ours, longhorns) {
        (Some(true), Some(true)) => Err(Error::TwoEncryptions { class: class.to_owned() }),
        (Some(true), _) => kms.request(class).map(Box::new).map(Encryption::Kms),
        // Whoever names a KMS wants encryption, and must not get none.
        (None, _) if kms.any() => {
            Err(Error::MissingParameter { key: ENABLED, class: class.to_owned() })
        }
        (_, Some(true)) => Ok(Encryption::Passphrase),
        (_, _) => Ok(Encryption::None),
    }
}

/// What a StorageClass says of a KMS.
struct KmsParameters {
    kind: Option<KmsKind>,
    endpoint: Option<String>,
    key_id: Option<String>,
    mount: Option<String>,
    namespace: Option<String>,
}

impl KmsParameters {
    fn take(parameters: &mut Entries<Parameters>) -> Result<Self, Error> {
        let kind = match word(parameters, TYPE)?.as_deref() {
            None => None,
            Some("transit") => Some(KmsKind::Transit),
            Some("kmip") => Some(KmsKind::Kmip),
            Some("local") => Some(KmsKind::Local),
            Some(_) => {
                return Err(Error::InvalidValue {
                    key: TYPE,
                    allowed: "use transit, kmip or local",
                });
            }
        };
        Ok(Self {
            kind,
            endpoint: word(parameters, ENDPOINT)?,
            key_id: word(parameters, KEY_ID)?,
            mount: word(parameters, MOUNT)?,
            namespace: word(parameters, NAMESPACE)?,
        })
    }

    fn any(&self) -> bool {
        let texts = [&self.endpoint, &self.key_id, &self.mount, &self.namespace];
        self.kind.is_some() || texts.into_iter().any(Option::is_some)
    }

    fn request(self, class: &str) -> Result<KmsRequest, Error> {
        let missing = |key| Error::MissingParameter { key, class: class.to_owned() };
        let kind = self.kind.ok_or_else(|| missing(TYPE))?;
        for (key, value) in [(MOUNT, &self.mount), (NAMESPACE, &self.namespace)] {
            if kind != KmsKind::Transit && value.is_some() {
                return Err(Error::InvalidValue {
                    key,
                    allowed: "leave it out: only transit has one",
                });
            }
        }
        if kind == KmsKind::Local {
            return match self.endpoint {
                None => Ok(KmsRequest { key_id: self.key_id, ..KmsRequest::new(kind) }),
                Some(_) => Err(Error::InvalidValue {
                    key: ENDPOINT,
                    allowed: "leave it out: a local key is in a file of the machine",
                }),
            };
        }
        let endpoint = self.endpoint.ok_or_else(|| missing(ENDPOINT))?;
        check_endpoint(kind, &endpoint)?;
        Ok(KmsRequest {
            endpoints: vec![endpoint],
            key_id: Some(self.key_id.ok_or_else(|| missing(KEY_ID))?),
            mount: self.mount,
            namespace: self.namespace,
            ..KmsRequest::new(kind)
        })
    }
}

/// Refuses what is the endpoint of another kind.
fn check_endpoint(kind: KmsKind, endpoint: &str) -> Result<(), Error> {
    let invalid = |allowed| Err(Error::InvalidValue { key: ENDPOINT, allowed });
    match kind {
        KmsKind::Transit => {
            let host = endpoint
                .strip_prefix("https://")
                .or_else(|| endpoint.strip_prefix("http://"))
                .filter(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#']));
            match host {
                Some(rest) if rest.contains(['?', '#', '@']) => {
                    invalid("use a URL without a user, a query or a fragment")
                }
                Some(rest) if endpoint.starts_with("http://") && !is_on_this_machine(rest) => {
                    invalid(
                        "use https://: the token and the data keys would cross the network readable",
                    )
                }
                Some(_) => Ok(()),
                None => invalid("transit needs a URL, https://HOST:8200 for instance"),
            }
        }
        _ if endpoint.contains(['/', '?', '#', '@', ',']) => {
            invalid("kmip needs HOST:PORT, without a scheme or a path")
        }
        _ => match endpoint.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && is_port(port) => Ok(()),
            _ => invalid("kmip needs HOST:PORT, with port 5696 for instance"),
        },
    }
}

/// Returns whether the host of a URL without its scheme is the machine that reads it.
fn is_on_this_machine(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or(bracketed),
        None => authority.split(':').next().unwrap_or(authority),
    };
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || host.eq_ignore_ascii_case("localhost")
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Returns a parameter that says yes or no.
fn flag(parameters: &mut Entries<Parameters>, key: &'static str) -> Result<Option<bool>, Error> {
    let Some(value) = parameters.take(key) else {
        return Ok(None);
    };
    match text(&value, key)? {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        _ => {
            Err(Error::InvalidValue { key, allowed: "use \"true\" or \"false\", in small letters" })
        }
    }
}

/// Returns a parameter that is a name or an address, `None` when it is missing or empty.
fn word(parameters: &mut Entries<Parameters>, key: &'static str) -> Result<Option<String>, Error> {
    let Some(value) = parameters.take(key) else {
        return Ok(None);
    };
    let value = text(&value, key)?;
    if value.ends_with('\n') {
        return Err(Error::TrailingNewline { key });
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        let allowed = "use visible ASCII characters without spaces";
        return Err(Error::InvalidValue { key, allowed });
    }
    Ok(Some(value.to_owned()).filter(|value| !value.is_empty()))
}

/// Returns the text of a parameter. Null is the empty text there, as in Kubernetes.
fn text<'a>(value: &'a Scalar, key: &'static str) -> Result<&'a str, Error> {
    match value {
        Scalar::Text(text) => Ok(Zeroizing::as_ref(text)),
        Scalar::Null => Ok(""),
        Scalar::Other(found) => Err(Error::ParameterNotText { key, found }),
    }
}

const ENABLED: &str = "encryptionEnabled";
const TYPE: &str = "encryptionKMSType";
const ENDPOINT: &str = "encryptionKMSEndpoint";
const KEY_ID: &str = "encryptionKMSKeyID";
const MOUNT: &str = "encryptionKMSMount";
const NAMESPACE: &str = "encryptionKMSNamespace";
const LONGHORN_ENCRYPTED: &str = "encrypted";

#[cfg(test)]
mod tests;
