//! A libvirt daemon, asked through libvirt's library.

use strongroom::Error;
use strongroom::libvirt::{LibvirtProblem, SecretValues};
use strongroom_crypto::Passphrase;
use strongroom_model::dialect::libvirt::SecretName;
use virt::connect::Connect;
use virt::secret::Secret;

/// The secrets of a daemon. Each is asked for when it is needed.
#[derive(Debug)]
pub(super) struct Daemon {
    uri: String,
}

impl Daemon {
    /// Returns those of the daemon with this URI.
    pub(super) fn at(uri: &str) -> Self {
        // What went wrong is said once, by us.
        virt::error::clear_error_callback();
        Self { uri: uri.to_owned() }
    }

    fn ask(&self, name: &SecretName) -> Result<(String, u32, Vec<u8>), virt::error::Error> {
        let mut connection = Connect::open(Some(&self.uri))?;
        let secret = match name {
            SecretName::Uuid(uuid) => Secret::lookup_by_uuid_string(&connection, uuid)?,
            SecretName::Usage(path) => Secret::lookup_by_usage(&connection, FOR_VOLUMES, path)?,
        };
        let (uuid, usage) = (secret.get_uuid_string()?, secret.get_usage_type()?);
        let value = secret.get_value(0)?;
        drop(secret);
        connection.close()?;
        Ok((uuid, usage, value))
    }
}

impl SecretValues for Daemon {
    fn value(&self, name: &SecretName) -> strongroom::Result<(String, Passphrase)> {
        let refused = |problem| Error::Libvirt(Box::new(problem));
        let (uuid, usage, value) = self.ask(name).map_err(|error| {
            let (uri, problem) = (self.uri.clone(), error.message().to_owned());
            refused(LibvirtProblem::Daemon { uri, problem })
        })?;
        let value = Passphrase::new(value);
        if i32::try_from(usage) != Ok(FOR_VOLUMES) {
            let found = "for something else than a volume".to_owned();
            return Err(refused(LibvirtProblem::NotForVolumes { uuid, found }));
        }
        Ok((uuid, value))
    }
}

/// What a secret of the type volume is for libvirt's library (`VIR_SECRET_USAGE_TYPE_VOLUME`).
const FOR_VOLUMES: i32 = 1;
