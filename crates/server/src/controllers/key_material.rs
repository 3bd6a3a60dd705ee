//! Keys out of Secrets, each use in the audit log before it happens.

use std::path::PathBuf;
use std::sync::Arc;

use strongroom::OwnedOpener;
use strongroom::audit::{Act, Audit};
use strongroom::volumes::{VolumeEncryption, VolumeOpener};
use strongroom_crypto::Passphrase;
use strongroom_kms::{KeyProvider, Limits};
use strongroom_model::dialect::admission::{Known, SecretValues};
use strongroom_model::dialect::kubernetes::SecretReference;
use strongroom_model::dialect::longhorn::EncryptionSecret;
use strongroom_model::dialect::osc::CredentialsSecret;
use strongroom_model::{EncryptionSettings, KmsKind, KmsRequest, Pbkdf};

use super::turn::Trouble;
use crate::store::Store;

/// What keys are read from.
#[derive(Debug, Clone)]
pub(crate) struct KeyMaterial {
    pub(crate) store: Store,
    pub(crate) audit: Arc<Audit>,
    pub(crate) kek_file: PathBuf,
    /// Who uses them, for the audit log.
    pub(crate) actor: String,
}

/// A passphrase, and how its Secret wants things to be encrypted.
#[derive(Debug)]
pub(crate) struct HeldPassphrase {
    pub(crate) passphrase: Passphrase,
    pub(crate) settings: EncryptionSettings,
}

/// The key of a volume, held: it is wiped with this.
#[derive(Debug)]
pub(crate) enum VolumeKeys {
    /// The volume is not encrypted.
    None,
    /// A passphrase.
    Passphrase(HeldPassphrase),
    /// The KMS that wraps its data key.
    Kms(Box<dyn KeyProvider>),
}

impl VolumeKeys {
    /// Returns it for somebody to open with, `None` for a volume that is not encrypted.
    pub(crate) fn opener(&self) -> Option<VolumeOpener<'_>> {
        match self {
            Self::None => None,
            Self::Passphrase(HeldPassphrase { passphrase, settings }) => {
                Some(VolumeOpener::Passphrase { passphrase, settings: Some(settings) })
            }
            Self::Kms(provider) => Some(VolumeOpener::Kms(provider.as_ref())),
        }
    }

    /// Returns it for somebody to open a copy with, `None` for a volume that is not encrypted.
    pub(crate) fn into_opener(self) -> Option<OwnedOpener> {
        match self {
            Self::None => None,
            Self::Passphrase(held) => Some(OwnedOpener::Passphrase(held.passphrase)),
            // The envelope is in the header.
            Self::Kms(provider) => Some(OwnedOpener::Kms { provider, envelope: None }),
        }
    }
}

impl KeyMaterial {
    /// Returns the passphrase of a Secret. `purpose` is what it opens, for the audit log.
    ///
    /// # Errors
    ///
    /// [`Trouble::Waiting`] when there is no such Secret, or not with what it should have.
    pub(crate) fn passphrase(
        &self,
        secret: &SecretReference,
        purpose: &str,
    ) -> Result<HeldPassphrase, Trouble> {
        let values = self.values(secret)?;
        let found = encryption_secret(secret, &values)?;
        self.record(&format!("secrets {secret}"), purpose)?;
        let (settings, mut bytes) = found.into_parts();
        Ok(HeldPassphrase { passphrase: Passphrase::new(std::mem::take(&mut *bytes)), settings })
    }

    /// Returns what opens a volume that is encrypted so. A KMS over the network may be talked to.
    ///
    /// # Errors
    ///
    /// [`Trouble::Waiting`] when the Secret is not there, or not what it should be; what the KMS says.
    pub(crate) fn volume_keys(
        &self,
        encryption: &VolumeEncryption,
        secret: Option<&SecretReference>,
        purpose: &str,
    ) -> Result<VolumeKeys, Trouble> {
        match encryption {
            VolumeEncryption::None => Ok(VolumeKeys::None),
            VolumeEncryption::Passphrase => {
                let secret = secret.ok_or_else(no_secret)?;
                self.passphrase(secret, purpose).map(VolumeKeys::Passphrase)
            }
            VolumeEncryption::Kms(request) => {
                self.provider(request, secret, purpose).map(VolumeKeys::Kms)
            }
        }
    }

    /// Tells whether what a volume needs is there, without using it.
    ///
    /// # Errors
    ///
    /// [`Trouble::Waiting`] when it is not.
    pub(crate) fn check(
        &self,
        encryption: &VolumeEncryption,
        secret: Option<&SecretReference>,
    ) -> Result<(), Trouble> {
        match encryption {
            VolumeEncryption::None => Ok(()),
            VolumeEncryption::Passphrase => {
                let secret = secret.ok_or_else(no_secret)?;
                encryption_secret(secret, &self.values(secret)?).map(drop)
            }
            VolumeEncryption::Kms(request) => match (request.kind, secret) {
                (KmsKind::Local, None) => Ok(()),
                (_, None) => Err(no_secret()),
                (kind, Some(secret)) => {
                    credentials_secret(secret, &self.values(secret)?, kind).map(drop)
                }
            },
        }
    }

    /// Tells whether two Secrets have the same passphrase. They have not when one of them is not there, or has
    /// none: whoever reads the answer is not told which Secrets there are in other namespaces.
    pub(crate) fn is_same_passphrase(
        &self,
        one: &SecretReference,
        other: &SecretReference,
    ) -> bool {
        if one == other {
            return true;
        }
        let passphrase = |secret: &SecretReference| {
            let values = self.values(secret).ok()?;
            let (_, mut bytes) = encryption_secret(secret, &values).ok()?.into_parts();
            Some(Passphrase::new(std::mem::take(&mut *bytes)))
        };
        // In constant time, as all secrets compare.
        matches!((passphrase(one), passphrase(other)), (Some(one), Some(other)) if one == other)
    }

    /// Returns how many bytes of memory it takes to derive a key from the passphrase of a Secret; `None`
    /// when there is none.
    pub(crate) fn derivation_memory(&self, secret: &SecretReference) -> Option<u64> {
        let values = self.store.secret(&secret.namespace, &secret.name)?;
        let found = EncryptionSecret::from_values(&secret.to_string(), pairs(&values)).ok()?;
        let settings = found.settings();
        match settings.pbkdf {
            Pbkdf::Pbkdf2 => None,
            Pbkdf::Argon2i | Pbkdf::Argon2id => {
                Some(settings.pbkdf_memory_kib.map_or(USUAL_DERIVATION, |kib| u64::from(kib) << 10))
            }
        }
    }

    fn provider(
        &self,
        request: &KmsRequest,
        secret: Option<&SecretReference>,
        purpose: &str,
    ) -> Result<Box<dyn KeyProvider>, Trouble> {
        let mut request = request.clone();
        let subject = match secret {
            Some(secret) => format!("secrets {secret}"),
            None => format!("kms {}", request.kind),
        };
        if request.kind == KmsKind::Local {
            request.kek_file = Some(self.kek_file.clone());
        }
        let parts = match secret {
            Some(secret) => credentials_secret(secret, &self.values(secret)?, request.kind)?,
            None if request.kind == KmsKind::Local => Default::default(),
            None => return Err(no_secret()),
        };
        self.record(&subject, purpose)?;
        let credentials = strongroom::credentials(parts);
        let provider = strongroom_kms::open_within(&request, credentials, &Limits::default());
        Ok(provider.map_err(strongroom::Error::from)?)
    }

    fn values(&self, secret: &SecretReference) -> Result<SecretValues, Trouble> {
        self.store.secret(&secret.namespace, &secret.name).ok_or_else(|| {
            let message = format!("Secret {secret} is not there: it goes on once it is");
            Trouble::waiting("SecretMissing", message)
        })
    }

    fn record(&self, subject: &str, purpose: &str) -> Result<(), Trouble> {
        let act = Act {
            actor: self.actor.clone(),
            verb: "open-key".to_owned(),
            subject: subject.to_owned(),
            detail: purpose.to_owned(),
        };
        Ok(self.audit.record(&act)?)
    }
}

fn no_secret() -> Trouble {
    let message = "the class names no Secret with the key of its volumes: add the parameters \
                   csi.storage.k8s.io/node-stage-secret-name and \
                   csi.storage.k8s.io/node-stage-secret-namespace";
    Trouble::waiting("SecretNotNamed", message)
}

fn encryption_secret(
    secret: &SecretReference,
    values: &SecretValues,
) -> Result<EncryptionSecret, Trouble> {
    EncryptionSecret::from_values(&secret.to_string(), pairs(values)).map_err(|error| {
        let message = format!("Secret {secret} does not tell how to encrypt: {error}");
        Trouble::waiting("SecretInvalid", message)
    })
}

fn credentials_secret(
    secret: &SecretReference,
    values: &SecretValues,
    kind: KmsKind,
) -> Result<strongroom_model::dialect::osc::CredentialParts, Trouble> {
    CredentialsSecret::from_values(&secret.to_string(), pairs(values)).into_parts(kind).map_err(
        |error| {
            let message = format!("Secret {secret} has no credentials for the KMS: {error}");
            Trouble::waiting("SecretInvalid", message)
        },
    )
}

fn pairs(values: &SecretValues) -> impl Iterator<Item = (&str, &[u8])> {
    values.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
}

/// What Argon2 takes in memory where nobody says, in bytes.
const USUAL_DERIVATION: u64 = 512 << 20;
