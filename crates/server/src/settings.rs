//! How a server is started.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use strongroom::jobs::Limits;
use strongroom::library::Downloads;
use strongroom_attach::Launcher;
use strongroom_crypto::CostPolicy;

use crate::{Error, Log, Result};

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory with everything that it keeps; made when it is not there.
    pub data: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The certificate that it shows; without one it listens on the loopback device alone.
    pub tls: Option<TlsFiles>,
    /// Where the volumes of libvirt's documents lie; in the data directory where nothing is said.
    pub libvirt_pool: Option<PathBuf>,
    /// From where images may be fetched.
    pub downloads: Downloads,
    /// How much goes on at once.
    pub limits: Limits,
    /// The most bytes that a job copies in a second, where its document says nothing else.
    pub rate_limit: Option<NonZeroU64>,
    /// What deriving a key may cost.
    pub policy: CostPolicy,
    /// How servers of attached volumes are started.
    pub launcher: Launcher,
    /// What an operator is told.
    pub log: Log,
}

/// A certificate with its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead from it to a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Settings {
    /// Refuses what would send tokens and documents over a network in the clear.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`].
    pub fn check(&self) -> Result<()> {
        if self.tls.is_some() || self.listen.ip().is_loopback() {
            return Ok(());
        }
        let problem = format!(
            "{} is not on the loopback device: without a certificate, tokens would pass over the \
             network in the clear",
            self.listen
        );
        Err(Error::Settings { problem })
    }
}
