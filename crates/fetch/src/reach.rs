//! Which hosts are talked to.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::Error;

/// Which hosts are talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reach {
    /// Any that a URL names: whoever names it may use the network of this machine.
    #[default]
    Anywhere,
    /// Neither this machine, by any of its addresses, nor what only its own link reaches, nor the services that
    /// clouds offer to their machines alone, whatever a name leads to and wherever a redirect goes: whoever names
    /// the URL is somewhere else. A proxy of the environment that is given by such a name cannot be used then.
    /// Another proxy looks names up itself, and only the addresses that stand in URLs are judged: it has to know
    /// where it may not go.
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

/// Tells whether one of the causes of an error is that something is not to be talked to.
pub(crate) fn is_refusal(cause: &(dyn std::error::Error + 'static)) -> bool {
    match cause.downcast_ref::<Error>() {
        Some(Error::Url { reason }) => reason.ends_with(OWN),
        _ => cause.is::<OwnHost>(),
    }
}

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
                || address == AWS_METADATA
                || mapped.is_some_and(is_own_v4)
                || is_of_interface(IpAddr::V6(address))
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
        || CLOUD.contains(&address)
        || is_of_interface(IpAddr::V4(address))
}

/// Tells whether an address is one of this machine's interfaces, as they are now.
fn is_of_interface(address: IpAddr) -> bool {
    // Nothing is sent. Most addresses end here: a socket is bound to this machine's alone.
    match UdpSocket::bind((address, 0)) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => return false,
        _ => {}
    }
    // But a machine may allow it for any address (ip_nonlocal_bind), so the kernel's lists decide. Without them it
    // counts as our own.
    let is_listed = match address {
        IpAddr::V4(address) => {
            fs::read_to_string("/proc/net/fib_trie").map(|routes| is_local_v4(&routes, address))
        }
        IpAddr::V6(address) => fs::read_to_string("/proc/net/if_inet6")
            .map(|interfaces| is_local_v6(&interfaces, address)),
    };
    is_listed.unwrap_or(true)
}

/// Tells whether an address is in a network that a table of routes, as `/proc/net/fib_trie` has it, calls local.
fn is_local_v4(routes: &str, address: Ipv4Addr) -> bool {
    let mut network = None;
    routes.lines().any(|line| {
        let line = line.trim_start();
        if let Some(found) = line.strip_prefix("|-- ") {
            network = found.trim_end().parse::<Ipv4Addr>().ok();
            return false;
        }
        let prefix = line.strip_prefix('/').filter(|line| line.contains("LOCAL"));
        let prefix = prefix.and_then(|line| line.split(' ').next()?.parse::<u32>().ok());
        let (Some(network), Some(prefix @ 0..=32)) = (network, prefix) else { return false };
        let differing = u32::from(network) ^ u32::from(address);
        differing.leading_zeros() >= prefix
    })
}

/// Tells whether an address is in a list of those of the interfaces, as `/proc/net/if_inet6` has it.
fn is_local_v6(interfaces: &str, address: Ipv6Addr) -> bool {
    let digits = format!("{:032x}", u128::from(address));
    interfaces.lines().any(|line| line.split(' ').next() == Some(&*digits))
}

/// Returns the IPv4 address that a translator reaches by an IPv6 one (RFC 6052, the well-known prefix).
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else { return None };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}

/// What is wrong with such a host.
const OWN: &str =
    "this machine, or on its own link, or its cloud's, from where nothing is fetched here";

/// Where clouds tell a machine about itself, and its credentials: Alibaba's, and Azure's. Others use an address of
/// the link.
const CLOUD: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
/// Amazon's.
const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

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
            "[fd00:ec2::254]",
            "100.100.100.200",
            "168.63.129.16",
            "[::ffff:168.63.129.16]",
        ];
        for host in own {
            let url = Url::parse(&format!("http://{host}:80/x")).unwrap();
            assert!(Reach::OtherHosts.check(&url).unwrap_err().is_out_of_reach(), "{host}");
            assert!(Reach::Anywhere.check(&url).is_ok(), "{host}");
        }
        for host in ["203.0.113.1", "198.51.100.1", "[2001:db8::1]", "example.org", "localhost"] {
            let url = Url::parse(&format!("http://{host}/x")).unwrap();
            assert!(Reach::OtherHosts.check(&url).is_ok(), "{host}");
        }
    }

    #[test]
    fn addresses_of_this_machines_interfaces_are_its_own() {
        // Nothing is sent: this asks from where it would be.
        let own = |local: &str, far: &str| {
            let socket = UdpSocket::bind(local)?;
            socket.connect(far)?;
            Ok::<_, io::Error>(socket.local_addr()?.ip())
        };
        // A machine without a network has no such address.
        for (local, far) in [("0.0.0.0:0", "203.0.113.1:9"), ("[::]:0", "[2001:db8::1]:9")] {
            let Ok(address) = own(local, far) else { continue };
            assert!(is_own(address), "{address}");
            assert!(other_hosts(&address.to_string()).unwrap().is_empty(), "{address}");
        }
    }

    #[test]
    fn the_kernels_lists_tell_local_addresses_from_their_neighbours() {
        let routes = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
                      +-- 203.0.113.0/24 2 0 2\n        |-- 203.0.113.0\n           /24 link UNICAST\n        \
                      |-- 203.0.113.7\n           /32 host LOCAL\n        |-- 203.0.113.64\n           \
                      /26 host LOCAL\n        |-- 203.0.113.255\n           /32 link BROADCAST\n";
        for (last, is_local) in [(7, true), (64, true), (127, true), (8, false), (128, false)] {
            let address = Ipv4Addr::new(203, 0, 113, last);
            assert_eq!(is_local_v4(routes, address), is_local, "{address}");
        }
        let interfaces = "20010db8000000000000000000000007 02 40 00 80     eth0\n";
        assert!(is_local_v6(interfaces, "2001:db8::7".parse().unwrap()));
        assert!(!is_local_v6(interfaces, "2001:db8::8".parse().unwrap()));
    }

    #[test]
    fn a_name_of_this_machine_has_no_address() {
        assert_eq!(other_hosts("localhost").unwrap(), []);
    }
}
