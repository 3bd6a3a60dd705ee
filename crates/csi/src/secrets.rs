//! The secrets of a call, and what they open.

use std::fmt;
use std::path::Path;

use strongroom::volumes::{Volume, VolumeEncryption, VolumeOpener};
use strongroom_crypto::Passphrase;
use strongroom_kms::{KeyProvider, Limits};
use strongroom_model::dialect::longhorn::EncryptionSecret;
use strongroom_model::dialect::osc::CredentialsSecret;
use strongroom_model::{EncryptionSettings, KmsKind, KmsRequest};
use tonic::Status;
use zeroize::Zeroize;

use crate::messages::Map;
use crate::status;

/// The map of a Secret. It is wiped on drop and never printed.
pub(crate) struct Secrets(Map);

impl Secrets {
    /// Takes the values over.
    pub(crate) fn new(values: Map) -> Self {
        Self(values)
    }

    /// Returns what opens a volume, `None` for one that is not encrypted. `kek_file` has the key of the
    /// local kind. A KMS over the network may be talked to, so this may block.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` when something is missing, otherwise what the KMS says.
    pub(crate) fn opener(
        self,
        volume: &Volume,
        kek_file: Option<&Path>,
    ) -> Result<Option<Opener>, Status> {
        match &volume.encryption {
            VolumeEncryption::None => Ok(None),
            VolumeEncryption::Passphrase => self.passphrase(volume).map(Some),
            VolumeEncryption::Kms(request) => self.provider(volume, request, kek_file).map(Some),
        }
    }

    fn passphrase(&self, volume: &Volume) -> Result<Opener, Status> {
        self.check_there(volume, "a passphrase")?;
        let secret = EncryptionSecret::from_values(CAME, self.values())
            .map_err(|error| wrong(volume, &error))?;
        let (settings, mut bytes) = secret.into_parts();
        Ok(Opener::Passphrase {
            passphrase: Passphrase::new(std::mem::take(&mut *bytes)),
            settings,
        })
    }

    fn provider(
        &self,
        volume: &Volume,
        request: &KmsRequest,
        kek_file: Option<&Path>,
    ) -> Result<Opener, Status> {
        let mut request = request.clone();
        if request.kind == KmsKind::Local {
            let file = kek_file.ok_or_else(|| {
                Status::failed_precondition(format!(
                    "volume {} is encrypted under a local key, and this node has none: start the \
                     driver with --kek-file",
                    volume.id
                ))
            })?;
            request.kek_file = Some(file.to_owned());
        } else {
            self.check_there(volume, "credentials for its KMS")?;
        }
        let parts = CredentialsSecret::from_values(CAME, self.values())
            .into_parts(request.kind)
            .map_err(|error| wrong(volume, &error))?;
        let credentials = strongroom::credentials(parts);
        let provider = strongroom_kms::open_within(&request, credentials, &Limits::default())
            .map_err(|error| status::of(&strongroom::Error::from(error)))?;
        Ok(Opener::Kms(provider))
    }

    /// Refuses a call without secrets, which is what a StorageClass without their names looks like.
    fn check_there(&self, volume: &Volume, what: &str) -> Result<(), Status> {
        if !self.0.is_empty() {
            return Ok(());
        }
        Err(Status::invalid_argument(format!(
            "volume {} is encrypted, and no Secret with {what} came with the call: the StorageClass names \
             it with csi.storage.k8s.io/node-stage-secret-name and \
             csi.storage.k8s.io/node-stage-secret-namespace",
            volume.id
        )))
    }

    fn values(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_bytes()))
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.0.values_mut().for_each(Zeroize::zeroize);
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// What opens a volume, held: it is wiped with this.
#[derive(Debug)]
pub(crate) enum Opener {
    /// A passphrase.
    Passphrase { passphrase: Passphrase, settings: EncryptionSettings },
    /// The KMS that wraps its data key.
    Kms(Box<dyn KeyProvider>),
}

impl Opener {
    /// Returns it for somebody to open with.
    pub(crate) fn opener(&self) -> VolumeOpener<'_> {
        match self {
            Self::Passphrase { passphrase, settings } => {
                VolumeOpener::Passphrase { passphrase, settings: Some(settings) }
            }
            Self::Kms(provider) => VolumeOpener::Kms(provider.as_ref()),
        }
    }
}

fn wrong(volume: &Volume, error: &strongroom_model::Error) -> Status {
    Status::invalid_argument(format!("volume {} cannot be opened: {error}", volume.id))
}

/// What errors call the Secret: its name does not come with it.
const CAME: &str = "that came with the call";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use strongroom::volumes::{Condition, FormatState};
    use strongroom_model::Tuning;
    use tonic::Code;

    use super::*;

    fn volume(encryption: VolumeEncryption) -> Volume {
        Volume {
            id: "pvc-1".parse().unwrap(),
            size: 1 << 20,
            encryption,
            format: FormatState::Blank,
            file_system: None,
            tuning: Tuning::default(),
            source: None,
            parameters: BTreeMap::new(),
            created: 0,
            grown_to: None,
            condition: Condition::Ready,
        }
    }

    fn secrets(values: &[(&str, &str)]) -> Secrets {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Secrets::new(values.collect())
    }

    fn refusal(encryption: VolumeEncryption, values: &[(&str, &str)]) -> Status {
        let secrets = secrets(values);
        assert_eq!(format!("{secrets:?}"), "Secrets");
        let refusal = secrets.opener(&volume(encryption), None).unwrap_err();
        assert!(!format!("{refusal:?}").contains("canary"), "{refusal:?}");
        refusal
    }

    #[test]
    fn a_volume_that_is_not_encrypted_needs_none() {
        let opener = secrets(&[]).opener(&volume(VolumeEncryption::None), None).unwrap();
        assert!(opener.is_none());
    }

    #[test]
    fn a_passphrase_is_the_exact_value() {
        let secrets = secrets(&[("CRYPTO_KEY_VALUE", " canary\n"), ("CRYPTO_PBKDF", "pbkdf2")]);
        let opener = secrets.opener(&volume(VolumeEncryption::Passphrase), None).unwrap();
        assert!(!format!("{opener:?}").contains("canary"));
        let Some(Opener::Passphrase { passphrase, settings }) = opener else { unreachable!() };
        assert_eq!(passphrase.expose_bytes(), b" canary\n");
        assert_eq!(settings.pbkdf, strongroom_model::Pbkdf::Pbkdf2);
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = refusal(VolumeEncryption::Passphrase, &[]);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("csi.storage.k8s.io/node-stage-secret-name"));
        let refused = refusal(VolumeEncryption::Passphrase, &[("password", "canary")]);
        assert!(refused.message().contains("CRYPTO_KEY_VALUE is missing or empty"), "{refused:?}");
        let vault = [("CRYPTO_KEY_VALUE", "canary"), ("CRYPTO_KEY_PROVIDER", "vault-canary")];
        let refused = refusal(VolumeEncryption::Passphrase, &vault);
        assert!(refused.message().contains("the only provider is secret"), "{refused:?}");
    }

    #[test]
    fn a_kms_gets_the_credentials_of_its_kind() {
        let transit = || {
            let endpoints = vec!["https://127.0.0.1:1".to_owned()];
            VolumeEncryption::Kms(Box::new(KmsRequest {
                endpoints,
                key_id: Some("kek".to_owned()),
                ..KmsRequest::new(KmsKind::Transit)
            }))
        };
        let refused = refusal(transit(), &[]);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("credentials for its KMS"), "{refused:?}");
        let refused = refusal(transit(), &[("tls.key", "canary")]);
        assert!(refused.message().contains("has no token"), "{refused:?}");
        let opener = secrets(&[("token", "canary")]).opener(&volume(transit()), None).unwrap();
        assert!(matches!(opener, Some(Opener::Kms(_))));
    }

    #[test]
    fn a_local_key_is_in_the_file_of_the_node() {
        let local = VolumeEncryption::Kms(Box::new(KmsRequest::new(KmsKind::Local)));
        let refused = refusal(local, &[]);
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("--kek-file"), "{refused:?}");
    }
}
