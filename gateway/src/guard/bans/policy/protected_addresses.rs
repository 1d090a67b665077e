//! Finds the addresses that the host cannot do without: its own, its gateways, its name servers, its upstreams, its
//! identity providers, and whoever is logged in to look after it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _},
    path::Path,
};

use nix::ifaddrs::getifaddrs;

use super::safety::{ProtectedAddresses, Protection};

impl ProtectedAddresses {
    /// Looks around. What cannot be read protects nothing and is told.
    ///
    /// Names of upstreams are resolved if `resolve` says so: that may take seconds and is done at start and reload.
    pub(crate) fn look(upstreams: &[String], resolve: bool) -> (Self, Vec<String>) {
        let mut protected = Vec::new();
        let mut unknown = Vec::new();
        match getifaddrs() {
            Ok(interfaces) => {
                for address in interfaces.filter_map(|interface| interface.address) {
                    let ipv4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
                    let ipv6 = address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
                    protected.extend(ipv4.or(ipv6).map(|address| (address, Protection::Own)));
                }
            }
            Err(error) => unknown.push(format!("this host's addresses cannot be listed: {error}")),
        }
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        let gateways = gateways_ipv4(&read("/proc/net/route")).into_iter().map(IpAddr::V4);
        let gateways = gateways.chain(gateways_ipv6(&read("/proc/net/ipv6_route")).into_iter().map(IpAddr::V6));
        protected.extend(gateways.map(|address| (address, Protection::Gateway)));
        protected
            .extend(resolvers(&read("/etc/resolv.conf")).into_iter().map(|address| (address, Protection::Resolver)));
        for server in upstreams {
            if let Ok(address) = server.parse::<std::net::SocketAddr>() {
                protected.push((address.ip(), Protection::Upstream));
            } else if resolve {
                match server.to_socket_addrs() {
                    Ok(found) => protected.extend(found.map(|address| (address.ip(), Protection::Upstream))),
                    Err(error) => unknown.push(format!("{server} is not protected from bans: {error}")),
                }
            }
        }
        if resolve {
            protected.extend(operators().0);
        }
        for (address, _) in &mut protected {
            *address = address.to_canonical();
        }
        (Self { protected }, unknown)
    }
}

/// The addresses of identity providers, by their URLs. Takes as long as resolving names takes. One that has none is
/// left out.
pub(crate) fn identity_providers(urls: &[String]) -> Vec<IpAddr> {
    let found = urls.iter().filter_map(|url| host_and_port(url)?.to_socket_addrs().ok());
    found.flatten().map(|address| address.ip().to_canonical()).collect()
}

/// The host of a URL with its port, as names are resolved. What is no URL of the web names no host.
fn host_and_port(url: &str) -> Option<String> {
    let (rest, port) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (rest, 443),
        (None, Some(rest)) => (rest, 80),
        (None, None) => return None,
    };
    let authority = rest.split(['/', '?', '#']).next().filter(|authority| !authority.is_empty())?;
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { authority.to_owned() } else { format!("{authority}:{port}") })
}

/// Who is logged in, as far as can be seen.
#[derive(Debug, Default)]
pub(crate) struct LoggedIn(pub(in crate::guard::bans) Vec<(IpAddr, Protection)>);

/// Who is logged in by SSH: the other ends of connections to its ports, and whoever started this process. Takes as long
/// as the tables of connections are.
pub(crate) fn operators() -> LoggedIn {
    let started = std::env::var("SSH_CONNECTION").ok().and_then(|text| started_from(&text));
    let ports = [Some(SSH), started.map(|(_, port)| port)];
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let peers = tables.iter().flat_map(|table| peers(table, &ports));
    let mut all: Vec<_> = peers.chain(started.map(|(address, _)| address)).map(|peer| peer.to_canonical()).collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(OPERATORS);
    LoggedIn(all.into_iter().map(|address| (address, Protection::Operator)).collect())
}

/// Where sshd listens unless told otherwise. Where it does else, `SSH_CONNECTION` says so.
const SSH: u16 = 22;

/// The most operators that are protected: more than that are not logged in to one host.
const OPERATORS: usize = 100;

/// From where, and to which port, in an `SSH_CONNECTION`.
fn started_from(text: &str) -> Option<(IpAddr, u16)> {
    let mut fields = text.split_ascii_whitespace();
    let from = fields.next()?.split('%').next()?.parse().ok()?;
    Some((from, fields.nth(2)?.parse().ok()?))
}

/// The other ends of established connections to these ports in `/proc/net/tcp` or `/proc/net/tcp6`.
fn peers(table: &str, ports: &[Option<u16>]) -> Vec<IpAddr> {
    const ESTABLISHED: &str = "01";
    let read = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        let is_session = fields.next()? == ESTABLISHED && ports.contains(&Some(port));
        is_session.then(|| address(remote.rsplit_once(':')?.0)).flatten()
    };
    table.lines().filter_map(read).collect()
}

/// An address in the form of those tables: words of four bytes, hexadecimal, each in this machine's byte order.
fn address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(8 * at..8 * at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => word(0).map(|octets| IpAddr::V4(octets.into())),
        32 => {
            let octets: Vec<u8> = (0..4).filter_map(word).flatten().collect();
            <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
        }
        _ => None,
    }
}

impl ProtectedAddresses {
    /// As another look has seen them. What names resolve to is found out at start and reload only.
    pub(in crate::guard::bans) fn renew(&mut self, seen: Self) {
        self.protected.retain(|(_, role)| {
            matches!(role, Protection::IdentityProvider | Protection::Operator | Protection::Upstream)
        });
        self.protected.extend(seen.protected);
    }

    fn replace(&mut self, role: Protection, those: Vec<(IpAddr, Protection)>) {
        self.protected.retain(|(_, known)| *known != role);
        self.protected.extend(those);
    }

    /// Those are logged in by now.
    pub(in crate::guard::bans) fn operators_are(&mut self, operators: LoggedIn) {
        self.replace(Protection::Operator, operators.0);
    }

    /// Identity providers have these addresses by now; where none was found, those of before stay.
    pub(in crate::guard::bans) fn identity_providers_are(&mut self, addresses: Vec<IpAddr>) {
        if !addresses.is_empty() {
            let those = addresses.into_iter().map(|address| (address, Protection::IdentityProvider)).collect();
            self.replace(Protection::IdentityProvider, those);
        }
    }

    /// Those of a new configuration. Identity providers are resolved later, and are known until then.
    pub(in crate::guard::bans) fn replace_all(&mut self, new: Self) {
        let old = std::mem::replace(self, new);
        let known = old.protected.into_iter().filter(|(_, role)| *role == Protection::IdentityProvider);
        self.protected.extend(known);
    }
}

/// Gateways of default routes in `/proc/net/route`: hexadecimal words in this machine's byte order.
fn gateways_ipv4(table: &str) -> Vec<Ipv4Addr> {
    let read = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let mask = fields.nth(4)?;
        let gateway = u32::from_str_radix(gateway, 16).ok().filter(|gateway| *gateway != 0)?;
        (destination == "00000000" && mask == "00000000").then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    };
    table.lines().filter_map(read).collect()
}

/// Gateways of default routes in `/proc/net/ipv6_route`: 32 hexadecimal digits each, in network order.
fn gateways_ipv6(table: &str) -> Vec<Ipv6Addr> {
    let read = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (destination, length) = (fields.next()?, fields.next()?);
        let gateway = u128::from_str_radix(fields.nth(2)?, 16).ok().filter(|gateway| *gateway != 0)?;
        (destination.bytes().all(|digit| digit == b'0') && length == "00").then(|| Ipv6Addr::from_bits(gateway))
    };
    table.lines().filter_map(read).collect()
}

/// Name servers in a `resolv.conf`. A zone is left out: the address is what packets come from.
fn resolvers(text: &str) -> Vec<IpAddr> {
    let read = |line: &str| {
        let server = line.trim().strip_prefix("nameserver")?.split_ascii_whitespace().next()?;
        server.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_look_keeps_what_names_resolved_to() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut known = ProtectedAddresses {
            protected: vec![(address("192.0.2.1"), Protection::Own), (address("198.51.100.7"), Protection::Upstream)],
        };
        known.renew(ProtectedAddresses { protected: vec![(address("192.0.2.2"), Protection::Own)] });
        let expect = [(address("198.51.100.7"), Protection::Upstream), (address("192.0.2.2"), Protection::Own)];
        assert_eq!(known.protected, expect);
    }

    #[test]
    fn hosts_of_identity_providers() {
        for (url, expect) in [
            ("https://issuer.example", Some("issuer.example:443")),
            ("https://issuer.example/realms/a?b#c", Some("issuer.example:443")),
            ("http://issuer.example:8080/", Some("issuer.example:8080")),
            ("http://issuer.example", Some("issuer.example:80")),
            ("https://[2001:db8::1]/", Some("[2001:db8::1]:443")),
            ("https://[2001:db8::1]:8443", Some("[2001:db8::1]:8443")),
            ("https://", None),
            ("issuer", None),
            ("urn:issuer", None),
            ("", None),
        ] {
            assert_eq!(host_and_port(url).as_deref(), expect, "{url}");
        }
        let urls = ["https://192.0.2.7/", "https://[2001:db8::1]:8443", "mine"].map(str::to_owned);
        let expect = ["192.0.2.7", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(identity_providers(&urls), expect);
    }

    #[test]
    fn who_is_logged_in() {
        let word = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
        let line = |local: &str, remote: &str, state: &str| format!("   0: {local} {remote} {state} 0:0 0:0 0 0 0 0\n");
        let (own, peer) = (word([192, 0, 2, 1]), word([203, 0, 113, 7]));
        let wide = format!("{}{}{}{}", word([0x20, 1, 0x0d, 0xb8]), word([0; 4]), word([0; 4]), word([0, 0, 0, 9]));
        let table = [
            "  sl  local_address rem_address   st tx_queue rx_queue\n".to_owned(),
            line(&format!("{own}:0016"), &format!("{peer}:9C40"), "01"),
            // Listening, another port, half open, and to port 22 of somebody else.
            line(&format!("{own}:0016"), "00000000:0000", "0A"),
            line(&format!("{own}:01BB"), &format!("{}:9C40", word([203, 0, 113, 8])), "01"),
            line(&format!("{own}:0016"), &format!("{}:9C40", word([203, 0, 113, 9])), "03"),
            line(&format!("{own}:9C40"), &format!("{}:0016", word([203, 0, 113, 10])), "01"),
            line(&format!("{wide}:0016"), &format!("{wide}:9C40"), "01"),
            line(&format!("{own}:08AE"), &format!("{}:9C40", word([203, 0, 113, 11])), "01"),
            line("0016", "x", "01"),
            line("00:0016", "01:1", "01"),
        ]
        .concat();
        let found = |ports: &[Option<u16>]| peers(&table, ports).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(found(&[Some(22), None]), ["203.0.113.7", "2001:db8::9"]);
        assert_eq!(found(&[Some(2222)]), ["203.0.113.11"]);
        for (text, expect) in [
            ("203.0.113.7 40000 192.0.2.1 22", Some(("203.0.113.7", 22))),
            ("fe80::1%eth0 40000 fe80::2%eth0 2222", Some(("fe80::1", 2222))),
            ("203.0.113.7 40000 192.0.2.1", None),
            ("somewhere 1 2 3", None),
            ("", None),
        ] {
            let expect = expect.map(|(address, port)| (address.parse::<IpAddr>().unwrap(), port));
            assert_eq!(started_from(text), expect, "{text}");
        }
    }

    #[test]
    fn reads_the_kernels_tables() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(gateways_ipv4(table), [Ipv4Addr::from(0x0100_000a_u32.to_ne_bytes())]);
        let zeros = "0".repeat(32);
        let table = format!(
            "{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
             {zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 lo\n"
        );
        assert_eq!(gateways_ipv6(&table), ["fe80::1".parse::<Ipv6Addr>().unwrap()]);
        let text = "# nameserver 1.1.1.1\nnameserver 9.9.9.9\n nameserver fe80::1%eth0\nsearch x\nnameserver\n";
        assert_eq!(resolvers(text), ["9.9.9.9".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
    }
}
