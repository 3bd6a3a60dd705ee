//! How to fetch.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::Reach;

/// How a resource is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// A PEM file with certificates to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// How many requests run at once. More than six are taken for six.
    pub connections: NonZeroUsize,
    /// How often a request is repeated in a row when the network or the server fails. After each
    /// 64 KiB that came a new row begins.
    pub retries: u32,
    /// How long to wait for a connection, an answer or the next byte.
    pub timeout: Duration,
    /// How long to wait before the first repetition, about. Each further one waits twice as long,
    /// up to ten seconds.
    pub backoff: Duration,
    /// Which proxies are asked.
    pub proxy: Proxy,
    /// Which hosts are talked to.
    pub reach: Reach,
}

/// Which proxies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// Those that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name, in capitals or not.
    Environment,
    /// None.
    Direct,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ca_file: None,
            connections: DEFAULT_CONNECTIONS,
            retries: 5,
            timeout: Duration::from_secs(30),
            backoff: Duration::from_millis(250),
            proxy: Proxy::Environment,
            reach: Reach::Anywhere,
        }
    }
}

impl Options {
    /// Returns how many requests run at once, so that their buffers stay within bounds.
    pub(crate) fn bounded_connections(&self) -> usize {
        self.connections.get().min(MOST_CONNECTIONS)
    }
}

const DEFAULT_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(4).expect("four is not zero");

const MOST_CONNECTIONS: usize = 6;
