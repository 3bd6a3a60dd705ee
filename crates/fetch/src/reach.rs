//! Which hosts are talked to.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::Error;

/// Which hosts are talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reach {
    /// Any that a URL names: whoever names it may use the network of this machine.
    #[default]
    Anywhere,
    /// Neither this machine nor what only its own link reaches, whatever a name leads to and wherever a
    /// redirect goes: whoever names the URL is somewhere else. A proxy of the environment that is
    /// given by such a name cannot be used then.
    OtherHosts,
}

impl Reach {
    /// Refuses a URL with an address that is not to be talked to. Names are judged when they are looked up.
    ///
    /// # Errors
    ///
    /// [`Error::Url`], which does not repeat the URL.
    pub(crate) fn check(self, url: &Url) -> Result<(), Error> {
        // As the URL's parser writes them: one spelling for each address.
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match host.parse() {
            Ok(address) if self == Self::OtherHosts && is_own(address) => {
                Err(Error::Url { reason: format!("{address} is {OWN}") })
            }
            _ => Ok(()),
        }
    }
}

/// Looks names up and leaves out the addresses that are not to be talked to.
pub(crate) struct OtherHosts;

impl Resolve for OtherHosts {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let looked_up = tokio::task::spawn_blocking(move || {
                let found = other_hosts(&name)?;
                if found.is_empty() { Err(OwnHost { name }.into()) } else { Ok(found) }
            });
            let found: Result<_, Box<dyn std::error::Error + Send + Sync>> = looked_up.await?;
            Ok(Box::new(found?.into_iter()) as Addrs)
        })
    }
}

fn other_hosts(name: &str) -> io::Result<Vec<SocketAddr>> {
    // The port is the caller's affair.
    let mut found: Vec<SocketAddr> = (name, 0).to_socket_addrs()?.collect();
    found.retain(|address| !is_own(address.ip()));
    Ok(found)
}

/// A name that leads nowhere else.
#[derive(Debug)]
pub(crate) struct OwnHost {
    name: String,
}

impl fmt::Display for OwnHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {OWN}", self.name)
    }
}

impl std::error::Error for OwnHost {}

/// Tells whether an address is this machine's, or reached on its own link alone.
fn is_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_own_v4(address),
        IpAddr::V6(address) => {
            let link_local = address.segments()[0] & 0xffc0 == 0xfe80;
            let mapped = address.to_ipv4_mapped().or_else(|| translated(address));
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || link_local
                || mapped.is_some_and(is_own_v4)
        }
    }
}

fn is_own_v4(address: Ipv4Addr) -> bool {
    address.is_loopback()
        // 0.0.0.0/8, of which Linux takes some for itself.
        || address.octets()[0] == 0
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
}

/// Returns the IPv4 address that a translator reaches by an IPv6 one (RFC 6052, the well-known prefix).
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else { return None };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}

/// What is wrong with such a host.
const OWN: &str = "this machine, or on its own link, from where nothing is fetched here";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_known_in_every_spelling() {
        let own = [
            "127.0.0.1",
            "127.8.9.1",
            "2130706433",
            "0x7f.1",
            "0",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
            "[fe80::1]",
            "255.255.255.255",
            "224.0.0.1",
            "[ff02::1]",
        ];
        for host in own {
            let url = Url::parse(&format!("http://{host}:80/x")).unwrap();
            assert!(Reach::OtherHosts.check(&url).is_err(), "{host}");
            assert!(Reach::Anywhere.check(&url).is_ok(), "{host}");
        }
        for host in ["192.0.2.1", "10.0.0.1", "[2001:db8::1]", "example.org", "localhost"] {
            let url = Url::parse(&format!("http://{host}/x")).unwrap();
            assert!(Reach::OtherHosts.check(&url).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_name_of_this_machine_has_no_address() {
        assert_eq!(other_hosts("localhost").unwrap(), []);
    }
}
