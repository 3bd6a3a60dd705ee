//! Where a server is.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{io, thread};

use rustls::pki_types::ServerName;

use crate::{Error, ErrorKind, Result};

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Reads `HOST` or `HOST:PORT`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misconfigured`] when it is neither.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            let problem = format!("the endpoint {text:?} is no HOST:PORT");
            Error::new(ErrorKind::Misconfigured, "kmip", problem).hinted(
                "give --kms-endpoint a host, without a scheme or path: kms.example.com:5696 or \
                 [2001:db8::1]:5696",
            )
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or_else(wrong)?),
                };
                (address, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            // "+1" is a number as well, but nobody's port.
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
            None => PORT,
        };
        let endpoint = Self { host: host.to_owned(), port };
        endpoint.server_name().ok_or_else(wrong)?;
        Ok(endpoint)
    }

    /// Returns the name that the server's certificate has to bear.
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).ok()
    }

    /// Returns the addresses of the host, at least one.
    pub(crate) fn addresses(&self, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        // The system's resolver knows no time limit, so a thread waits for it that may be left.
        let (sender, receiver) = mpsc::channel();
        let (host, port) = (self.host.clone(), self.port);
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
            // Nobody may be waiting any more.
            let _ = sender.send(found);
        })?;
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let found = receiver.recv_timeout(left).map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "the name of the host is not resolved in time")
        })??;
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
        }
        Ok(found)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The port that is registered for KMIP.
const PORT: u16 = 5696;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        Endpoint::parse(text).ok().map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn a_port_may_be_left_out() {
        assert_eq!(shown("kms.example.com").as_deref(), Some("kms.example.com:5696"));
        assert_eq!(shown("127.0.0.1").as_deref(), Some("127.0.0.1:5696"));
        assert_eq!(shown("[::1]").as_deref(), Some("[::1]:5696"));
        assert_eq!(shown("[2001:db8::1]:9").as_deref(), Some("[2001:db8::1]:9"));
        assert_eq!(shown("kms:65535").as_deref(), Some("kms:65535"));
    }

    #[test]
    fn refuses_what_is_no_host_and_port() {
        let wrong = [
            "",
            ":5696",
            "kms:",
            "kms:0",
            "kms:65536",
            "kms:+1",
            "kms:5696/path",
            "https://kms:5696",
            "kmip://kms",
            "::1",
            "2001:db8::1",
            "[::1",
            "[::1]5696",
            "[kms]:5696",
            "kms example:1",
            "user@kms:1",
        ];
        for text in wrong {
            let error = Endpoint::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{text}");
            assert!(error.hint().unwrap().contains("--kms-endpoint"), "{text}");
        }
    }

    #[test]
    fn resolves_the_names_of_this_machine() {
        let deadline = Instant::now() + Duration::from_secs(10);
        let found = Endpoint::parse("localhost:7").unwrap().addresses(deadline).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
    }
}
