//! Which secret a command means.

use clap::Args;
use strongroom_model::dialect::libvirt::{SecretName, canonical_uuid};

use crate::command_error::CommandError;

/// Which secret
#[derive(Debug, Args)]
#[group(id = "secret", required = true, multiple = false)]
pub(super) struct SecretArgs {
    /// Its UUID
    #[arg(value_name = "UUID")]
    uuid: Option<String>,

    /// The path of the volume that it is for
    #[arg(long, value_name = "PATH")]
    usage: Option<String>,
}

impl SecretArgs {
    /// Returns which secret is meant.
    ///
    /// # Errors
    ///
    /// When the UUID is none.
    pub(super) fn name(&self) -> Result<SecretName, CommandError> {
        match (&self.uuid, &self.usage) {
            (Some(uuid), _) => canonical_uuid(uuid).map(SecretName::Uuid).ok_or_else(|| {
                CommandError::request(format!("{uuid:?} is no UUID"))
                    .hinted("`strongroom libvirt secret-list` shows those that there are")
            }),
            (None, usage) => Ok(SecretName::Usage(usage.clone().unwrap_or_default())),
        }
    }
}
