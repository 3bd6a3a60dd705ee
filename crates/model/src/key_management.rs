//! Which KMS wraps data keys, and where it is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// The kinds of key management system (KMS).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum KmsKind {
    /// A passphrase, from a Secret for instance.
    Passphrase,
    /// A key in a file of this machine.
    Local,
    /// The Transit engine of OpenBao or HashiCorp Vault.
    Transit,
    /// A server that speaks KMIP (OASIS Key Management Interoperability Protocol).
    Kmip,
    /// A security module or smart card (PKCS #11).
    Pkcs11,
}

/// What is said of a KMS, besides secrets. What it needs depends on its kind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KmsRequest {
    /// Which kind it is.
    pub kind: KmsKind,
    /// Where it is, the first one that answers: URLs for Transit, `host:port` for KMIP, a
    /// `pkcs11:` URI (RFC 7512) for a module.
    pub endpoints: Vec<String>,
    /// The name or identifier of the key encryption key. An envelope names its own, so it may be
    /// missing where one is opened.
    pub key_id: Option<String>,
    /// The file with the key of the local kind.
    pub kek_file: Option<PathBuf>,
    /// The namespace in the KMS.
    pub namespace: Option<String>,
    /// Where the Transit engine is mounted; `None` for `transit`.
    pub mount: Option<String>,
    /// The name in the server's certificate, where it is another than the endpoint's.
    pub server_name: Option<String>,
    /// How to log in.
    pub login: KmsLogin,
}

/// How to log in to a KMS with tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KmsLogin {
    /// The secret is a token as it stands; without one, the certificate alone must do.
    #[default]
    Token,
    /// The secret is the secret identifier of an AppRole.
    AppRole {
        /// The role's identifier.
        role_id: String,
        /// Where the method is mounted; `None` for `approle`.
        mount: Option<String>,
    },
    /// The secret is the JSON web token of a Kubernetes service account.
    Kubernetes {
        /// The role.
        role: String,
        /// Where the method is mounted; `None` for `kubernetes`.
        mount: Option<String>,
    },
    /// The TLS certificate is the secret.
    Certificate {
        /// The role; `None` for whichever the certificate fits.
        role: Option<String>,
        /// Where the method is mounted; `None` for `cert`.
        mount: Option<String>,
    },
}

impl KmsRequest {
    /// Returns a request that says the kind alone.
    pub fn new(kind: KmsKind) -> Self {
        Self {
            kind,
            endpoints: Vec::new(),
            key_id: None,
            kek_file: None,
            namespace: None,
            mount: None,
            server_name: None,
            login: KmsLogin::default(),
        }
    }
}

impl KmsKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Passphrase, Self::Local, Self::Transit, Self::Kmip, Self::Pkcs11];

    /// Returns the name that envelopes and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::Local => "local",
            Self::Transit => "transit",
            Self::Kmip => "kmip",
            Self::Pkcs11 => "pkcs11",
        }
    }
}

impl fmt::Display for KmsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KmsKind {
    type Err = Error;

    /// Reads one of `passphrase`, `local`, `transit`, `kmip` and `pkcs11`.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| Error::UnknownKms { name: name.to_owned() })
    }
}
