//! The Secret with what proves to a KMS who is asking.

use std::fmt;

use zeroize::Zeroizing;

use crate::dialect::manifest::{self, Document, Keys};
use crate::{Error, KmsKind};

/// A Secret with credentials for a KMS, read from its manifest: `token` and perhaps `ca.crt` for
/// Transit; `ca.crt`, `tls.crt` and `tls.key` for KMIP. Other keys do not matter.
///
/// Everything in it is wiped on drop and never printed.
pub struct CredentialsSecret {
    name: String,
    parts: CredentialParts,
}

/// The values of such a Secret, each the exact bytes, newline included.
///
/// This crate has no secret types: make them of the bytes at once, taking them out with
/// [`std::mem::take`] so that no copy is left.
#[derive(Default)]
pub struct CredentialParts {
    /// The token.
    pub token: Option<Zeroizing<Vec<u8>>>,
    /// The certificates of authorities, in PEM form.
    pub authorities: Option<Zeroizing<Vec<u8>>>,
    /// The client's certificate, in PEM form.
    pub certificate: Option<Zeroizing<Vec<u8>>>,
    /// The key of that certificate, in PEM form.
    pub private_key: Option<Zeroizing<Vec<u8>>>,
}

impl CredentialsSecret {
    /// Reads a manifest, YAML or JSON, that holds exactly one Secret with credentials and whatever
    /// other documents.
    ///
    /// # Guarantees
    ///
    /// - Time and memory are bounded for any input, and no input panics.
    /// - No error holds a value of the Secret.
    ///
    /// # Errors
    ///
    /// [`Error::NoCredentials`] and [`Error::SeveralCredentials`] when there is not one to take;
    /// otherwise what is wrong with the text, or with the key that is named.
    pub fn parse(manifest: &[u8]) -> Result<Self, Error> {
        let mut secrets: Vec<Document<CredentialKeys>> =
            manifest::read(manifest)?.into_iter().filter(Document::is_secret).collect();
        if secrets.len() > 1 {
            return Err(Error::SeveralCredentials {
                secrets: secrets.iter().map(Document::qualified_name).collect(),
            });
        }
        let mut secret = secrets.pop().ok_or(Error::NoCredentials)?;
        let (mut data, mut string_data) = (secret.take_data(), secret.take_string_data());
        let mut value = |key: &'static str| -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
            // A bad value is refused even where the other map covers it, as the API server would.
            let decoded = data.take(key).map(|scalar| scalar.decoded(key)).transpose()?;
            let plain = string_data.take(key).map(|scalar| scalar.plain(key)).transpose()?;
            Ok(plain.or(decoded).filter(|value| !value.is_empty()))
        };
        let parts = CredentialParts {
            token: value(TOKEN)?,
            authorities: value(AUTHORITIES)?,
            certificate: value(CERTIFICATE)?,
            private_key: value(PRIVATE_KEY)?,
        };
        Ok(Self { name: secret.qualified_name(), parts })
    }

    /// Reads the map of a Secret that is not there as a manifest. `name` is what errors call it.
    pub fn from_values<'a>(
        name: &str,
        values: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let mut parts = CredentialParts::default();
        for (key, value) in values {
            let part = match key {
                TOKEN => &mut parts.token,
                AUTHORITIES => &mut parts.authorities,
                CERTIFICATE => &mut parts.certificate,
                PRIVATE_KEY => &mut parts.private_key,
                _ => continue,
            };
            *part = Some(Zeroizing::new(value.to_vec())).filter(|value| !value.is_empty());
        }
        Self { name: name.to_owned(), parts }
    }

    /// Returns the name of the Secret with its namespace, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the values, if they are all that a KMS of this kind asks for.
    ///
    /// # Errors
    ///
    /// [`Error::NoCredential`] names the key that is missing or empty.
    pub fn into_parts(self, kind: KmsKind) -> Result<CredentialParts, Error> {
        let parts = &self.parts;
        let needed: &[_] = match kind {
            KmsKind::Transit => &[(TOKEN, &parts.token)],
            KmsKind::Kmip => &[
                (AUTHORITIES, &parts.authorities),
                (CERTIFICATE, &parts.certificate),
                (PRIVATE_KEY, &parts.private_key),
            ],
            KmsKind::Passphrase | KmsKind::Local | KmsKind::Pkcs11 => &[],
        };
        match needed.iter().find(|(_, value)| value.is_none()) {
            Some((key, _)) => Err(Error::NoCredential { key, secret: self.name, kind }),
            None => Ok(self.parts),
        }
    }
}

impl fmt::Debug for CredentialsSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for CredentialParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialParts")
    }
}

/// The keys, for the reader of manifests.
struct CredentialKeys;

impl Keys for CredentialKeys {
    const NAMES: &'static [&'static str] = &[TOKEN, AUTHORITIES, CERTIFICATE, PRIVATE_KEY];

    fn resembles(_: &str) -> bool {
        false
    }
}

const TOKEN: &str = "token";
const AUTHORITIES: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";
