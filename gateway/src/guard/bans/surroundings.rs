//! Decides what the host cannot do without: its own addresses, its gateways, its name servers, its upstreams.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _},
    path::Path,
};

use nix::ifaddrs::getifaddrs;

use super::safety::{Role, Surroundings};

impl Surroundings {
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
                    protected.extend(ipv4.or(ipv6).map(|address| (address, Role::Own)));
                }
            }
            Err(error) => unknown.push(format!("this host's addresses cannot be listed: {error}")),
        }
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        let gateways = gateways_ipv4(&read("/proc/net/route")).into_iter().map(IpAddr::V4);
        let gateways = gateways.chain(gateways_ipv6(&read("/proc/net/ipv6_route")).into_iter().map(IpAddr::V6));
        protected.extend(gateways.map(|address| (address, Role::Gateway)));
        protected.extend(resolvers(&read("/etc/resolv.conf")).into_iter().map(|address| (address, Role::Resolver)));
        for server in upstreams {
            if let Ok(address) = server.parse::<std::net::SocketAddr>() {
                protected.push((address.ip(), Role::Upstream));
            } else if resolve {
                match server.to_socket_addrs() {
                    Ok(found) => protected.extend(found.map(|address| (address.ip(), Role::Upstream))),
                    Err(error) => unknown.push(format!("{server} is not protected from bans: {error}")),
                }
            }
        }
        for (address, _) in &mut protected {
            *address = address.to_canonical();
        }
        (Self { protected }, unknown)
    }
}

impl super::Guard {
    /// Looks around again: addresses, routes and name servers change while a host runs. What names resolve to is found
    /// out at start and reload only.
    pub(crate) fn look_again(&mut self) {
        let (seen, unknown) = Surroundings::look(&[], false);
        // What could not be read protects as it did before.
        if unknown.is_empty() {
            self.surroundings.renew(seen);
        }
    }
}

impl Surroundings {
    fn renew(&mut self, seen: Self) {
        self.protected.retain(|(_, role)| *role == Role::Upstream);
        self.protected.extend(seen.protected);
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
        let mut known = Surroundings {
            protected: vec![(address("192.0.2.1"), Role::Own), (address("198.51.100.7"), Role::Upstream)],
        };
        known.renew(Surroundings { protected: vec![(address("192.0.2.2"), Role::Own)] });
        let expect = [(address("198.51.100.7"), Role::Upstream), (address("192.0.2.2"), Role::Own)];
        assert_eq!(known.protected, expect);
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
