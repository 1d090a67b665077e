//! Which addresses the gateway connects to when a name, or a document that somebody else wrote, says where a server is:
//! none by which it could be made to speak to its own host, its network, or a cloud's metadata (SSRF).
//!
//! *Invariant:* what is judged is the address that is connected to. An IPv6 address that stands for an IPv4 address is
//! judged as that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// On the internet.
    Global,
    /// This host.
    Loopback,
    /// In a network that is not the internet, and which.
    Private(&'static str),
    /// No server is ever asked there, and why.
    Never(&'static str),
}

/// Cloud metadata: whoever can ask there has the credentials of the machine, or of the container. No server that the gateway
/// asks is there.
const METADATA: [IpAddr; 11] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 253)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// IPv4: network, bits, what it is (RFC 6890 and its registry).
const IPV4: [(Ipv4Addr, u32, Reach); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, Reach::Never("is this network (0.0.0.0/8)")),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Reach::Private("is private")),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Reach::Private("is behind a carrier's NAT")),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Reach::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Reach::Private("is link-local")),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Reach::Private("is private")),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Reach::Private("is reserved for protocols")),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Reach::Private("is for documentation")),
    (Ipv4Addr::new(192, 88, 99, 0), 24, Reach::Private("is a relay of 6to4")),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Reach::Private("is private")),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Reach::Private("is for benchmarks")),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Reach::Private("is for documentation")),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Reach::Private("is for documentation")),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Reach::Never("is multicast")),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Reach::Never("is reserved")),
];

/// IPv6 that stands for no IPv4 address.
const IPV6: [(Ipv6Addr, u32, Reach); 11] = [
    (Ipv6Addr::UNSPECIFIED, 128, Reach::Never("is no address")),
    (Ipv6Addr::LOCALHOST, 128, Reach::Loopback),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, Reach::Private("is behind a local NAT64")),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, Reach::Never("is for discarding")),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, Reach::Private("is in a Teredo tunnel")),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Reach::Private("is for documentation")),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Reach::Private("is for documentation")),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Reach::Private("is private (ULA)")),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Reach::Private("is link-local")),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, Reach::Private("is site-local")),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Reach::Never("is multicast")),
];

/// What an address is.
pub(crate) fn reach(address: IpAddr) -> Reach {
    let address = match address {
        IpAddr::V6(address) => embedded(address).map_or(IpAddr::V6(address), IpAddr::V4),
        address @ IpAddr::V4(_) => address,
    };
    if METADATA.contains(&address) {
        return Reach::Never("is a cloud's metadata service");
    }
    match address {
        IpAddr::V4(address) => {
            let is_in = |network: Ipv4Addr, bits: u32| (address.to_bits() ^ network.to_bits()) >> (32 - bits) == 0;
            IPV4.iter().find(|(network, bits, _)| is_in(*network, *bits)).map_or(Reach::Global, |(.., reach)| *reach)
        }
        IpAddr::V6(address) => {
            let is_in = |network: Ipv6Addr, bits: u32| (address.to_bits() ^ network.to_bits()) >> (128 - bits) == 0;
            IPV6.iter().find(|(network, bits, _)| is_in(*network, *bits)).map_or(Reach::Global, |(.., reach)| *reach)
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, by NAT64 (RFC 6052), by 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let joined = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(joined(g, h)),
        [0, 0, 0, 0, 0, 0] if g != 0 || h > 1 => Some(joined(g, h)),
        [0x2002, ..] => Some(joined(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let private = |text| (text, "private");
        let never = |text| (text, "never");
        let loopback = |text| (text, "loopback");
        let global = |text| (text, "global");
        for (text, expect) in [
            global("1.1.1.1"),
            global("11.0.0.0"),
            global("9.255.255.255"),
            global("100.63.255.255"),
            global("100.128.0.0"),
            global("172.15.255.255"),
            global("172.32.0.0"),
            global("192.167.255.255"),
            global("198.17.255.255"),
            global("223.255.255.255"),
            global("2606:4700::1111"),
            global("2a00:1450:4001::"),
            global("::ffff:8.8.8.8"),
            global("64:ff9b::808:808"),
            global("2002:808:808::1"),
            loopback("127.0.0.1"),
            loopback("127.255.255.254"),
            loopback("::1"),
            loopback("::ffff:127.0.0.1"),
            loopback("64:ff9b::7f00:1"),
            loopback("2002:7f00:1::"),
            loopback("::127.0.0.1"),
            private("10.0.0.1"),
            private("100.64.0.1"),
            private("169.254.1.1"),
            private("172.16.0.1"),
            private("172.31.255.255"),
            private("192.168.1.1"),
            private("192.0.0.8"),
            private("192.0.2.1"),
            private("198.19.0.1"),
            private("203.0.113.7"),
            private("::ffff:10.0.0.1"),
            private("::ffff:0:192.168.0.1"),
            private("64:ff9b::a00:1"),
            private("64:ff9b:1::1"),
            private("2002:a00:1::1"),
            private("2001:0:1::1"),
            private("2001:db8::1"),
            private("fc00::1"),
            private("fdff::1"),
            private("fe80::1"),
            private("febf::1"),
            private("fec0::1"),
            never("0.0.0.0"),
            never("0.1.2.3"),
            never("::"),
            never("224.0.0.1"),
            never("239.255.255.255"),
            never("240.0.0.1"),
            never("255.255.255.255"),
            never("ff02::1"),
            never("100::1"),
            never("64:ff9b::"),
            never("169.254.169.254"),
            never("::ffff:169.254.169.254"),
            never("64:ff9b::a9fe:a9fe"),
            never("2002:a9fe:a9fe::1"),
            never("169.254.170.2"),
            never("::ffff:169.254.170.2"),
            never("169.254.170.23"),
            never("192.0.0.192"),
            never("fd00:ec2::23"),
            never("100.100.100.200"),
            never("168.63.129.16"),
            never("fd00:ec2::254"),
            never("fd20:ce::254"),
        ] {
            let found = match reach(text.parse().unwrap()) {
                Reach::Global => "global",
                Reach::Loopback => "loopback",
                Reach::Private(_) => "private",
                Reach::Never(_) => "never",
            };
            assert_eq!(found, expect, "{text}");
        }
    }
}
