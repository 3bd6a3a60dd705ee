//! Values of secrets that a libvirt daemon has.

#[cfg(feature = "libvirt")]
mod daemon;

use clap::Args;
use strongroom::libvirt::Libvirt;

use crate::command_error::CommandError;

/// Where the values of secrets come from
#[derive(Debug, Args)]
pub(super) struct ConnectionArgs {
    /// Take the values of secrets from this libvirt daemon, and not from our own: qemu:///system
    #[arg(long, value_name = "URI")]
    connect: Option<String>,
}

impl ConnectionArgs {
    /// Returns the secrets and volumes with the values of the daemon, if one was named.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or this program was built without what speaks to it.
    pub(super) fn values_for(&self, libvirt: Libvirt) -> Result<Libvirt, CommandError> {
        match &self.connect {
            None => Ok(libvirt),
            Some(uri) => connected(uri, libvirt),
        }
    }
}

#[cfg(feature = "libvirt")]
fn connected(uri: &str, libvirt: Libvirt) -> Result<Libvirt, CommandError> {
    Ok(libvirt.with_values_of(std::sync::Arc::new(daemon::Daemon::at(uri))))
}

#[cfg(not(feature = "libvirt"))]
fn connected(uri: &str, _libvirt: Libvirt) -> Result<Libvirt, CommandError> {
    Err(CommandError::request(format!(
        "{uri} cannot be asked: this program was built without libvirt's library"
    ))
    .hinted("build it with the cargo feature `libvirt`, or give the value with secret-set-value"))
}
