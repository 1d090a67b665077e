//! Who a packet or a request comes from: one key type for kernel and userspace.
//!
//! *Invariant:* a [`Source`] carries no host bits and never an IPv4-mapped IPv6 address, so equal sources compare equal.

use core::{
    fmt,
    net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The prefix length, in bits, by which IPv6 clients are told apart unless the configuration says otherwise: the
/// smallest network that a subscriber is given (RFC 6177).
pub const IPV6_PREFIX: u8 = 64;

/// An IPv4 address or an IPv6 prefix of at most 64 bits as one word: the key of the kernel's exact-match maps.
///
/// IPv4 lives under `ff…::/8`, which is multicast and can never be a source address in IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct SourceKey(pub u64);

impl SourceKey {
    const IPV4: u64 = 0xffff_0000_0000_0000;

    /// The key of an IPv4 address given in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn ipv4(address: u32) -> Self {
        Self(Self::IPV4 | address as u64)
    }

    /// The key of an IPv6 address: its upper 64 bits, in host byte order, under `mask` (see [`Self::ipv6_mask`]).
    #[inline(always)]
    #[must_use]
    pub const fn ipv6(upper: u64, mask: u64) -> Self {
        Self(upper & mask)
    }

    /// The mask that keeps the first `length` bits of an address' upper half. `length` over 64 counts as 64.
    #[must_use]
    pub const fn ipv6_mask(length: u8) -> u64 {
        match length {
            0 => 0,
            1..64 => u64::MAX << (64 - length),
            _ => u64::MAX,
        }
    }
}

/// Who a packet or a request comes from: an IPv4 address, an IPv6 prefix, or a wider network of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    network: IpAddr,
    length: u8,
}

/// Why a text is no [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceError {
    /// Not an IP address, or an IPv6 address with a zone.
    Address,
    /// The prefix length is no number, or over 32 (IPv4) or 128 (IPv6).
    Length,
    /// Bits are set to the right of the prefix length: the text means two things.
    HostBits,
}

impl fmt::Display for SourceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Address => "not an IP address or CIDR prefix, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
            Self::Length => "the prefix length must be 0 to 32 for IPv4, 0 to 128 for IPv6",
            Self::HostBits => "bits are set beyond the prefix length: leave them 0, or make it longer",
        })
    }
}

impl core::error::Error for SourceError {}

impl Source {
    /// The source that a client at `address` is: the address itself in IPv4, its first `ipv6_prefix` bits in IPv6.
    /// IPv4-mapped IPv6 addresses (RFC 4291 2.5.5.2) are the IPv4 address.
    #[must_use]
    pub fn of(address: IpAddr, ipv6_prefix: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self { network: IpAddr::V4(address), length: 32 },
            IpAddr::V6(address) => Self::truncated(IpAddr::V6(address), ipv6_prefix.min(128)),
        }
    }

    /// A network, host bits cleared. `None` where `length` exceeds the family's width.
    #[must_use]
    pub fn network(address: IpAddr, length: u8) -> Option<Self> {
        let (address, length) = match (address, address.to_canonical()) {
            // A mapped prefix counts its bits from the mapped address' start.
            (IpAddr::V6(_), mapped @ IpAddr::V4(_)) => (mapped, length.checked_sub(96)?),
            (_, plain) => (plain, length),
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        (length <= width).then(|| Self::truncated(address, length))
    }

    fn truncated(address: IpAddr, length: u8) -> Self {
        let network = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { network, length }
    }

    /// The first address of the network.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.network
    }

    /// The prefix length in bits.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The key in the kernel's exact-match maps, if this source is what clients are told apart by: a single IPv4
    /// address, or an IPv6 prefix of exactly `ipv6_prefix` bits (64 at most). Everything else is matched by prefix.
    #[must_use]
    pub fn key(&self, ipv6_prefix: u8) -> Option<SourceKey> {
        match self.network {
            IpAddr::V4(address) if self.length == 32 => Some(SourceKey::ipv4(address.to_bits())),
            IpAddr::V6(address) if self.length == ipv6_prefix && ipv6_prefix <= 64 => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Some(SourceKey::ipv6(u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::MAX))
            }
            _ => None,
        }
    }

    /// The source behind a key of the exact-match maps; the inverse of [`Self::key`].
    #[must_use]
    pub fn from_key(key: SourceKey, ipv6_prefix: u8) -> Self {
        if key.0 & SourceKey::IPV4 == SourceKey::IPV4 {
            let [.., a, b, c, d] = key.0.to_be_bytes();
            Self { network: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length: 32 }
        } else {
            Self::truncated(IpAddr::V6(Ipv6Addr::from_bits(u128::from(key.0) << 64)), ipv6_prefix)
        }
    }

    /// Whether `address` belongs to this source.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && Self::truncated(address, self.length).network == self.network
    }

    /// Whether every address of `other` belongs to this source.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.network)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network {
            IpAddr::V4(address) if self.length == 32 => write!(out, "{address}"),
            IpAddr::V6(address) if self.length == 128 => write!(out, "{address}"),
            address => write!(out, "{address}/{}", self.length),
        }
    }
}

impl From<AddrParseError> for SourceError {
    fn from(_: AddrParseError) -> Self {
        Self::Address
    }
}

impl FromStr for Source {
    type Err = SourceError;

    /// Reads `203.0.113.7`, `203.0.113.0/24`, `2001:db8::1` or `2001:db8::/32`. Zones are refused.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let Some((address, length)) = text.split_once('/') else {
            let address: IpAddr = text.parse()?;
            let width = if address.is_ipv4() { 32 } else { 128 };
            return Self::network(address, width).ok_or(SourceError::Length);
        };
        if length.is_empty() || length.len() > 3 || !length.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(SourceError::Length);
        }
        let address: IpAddr = address.parse()?;
        let length = length.parse().map_err(|_overflow: core::num::ParseIntError| SourceError::Length)?;
        let source = Self::network(address, length).ok_or(SourceError::Length)?;
        if source.network != address.to_canonical() {
            return Err(SourceError::HostBits);
        }
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString as _;

    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<&str, SourceError>) {
        let read = text.parse::<Source>().map(|source| source.to_string());
        assert_eq!(read.as_deref().map_err(|error| *error), expect, "{text}");
    }

    #[test]
    fn x10_texts() {
        check("203.0.113.7", Ok("203.0.113.7"));
        check("203.0.113.7/32", Ok("203.0.113.7"));
        check("203.0.113.0/24", Ok("203.0.113.0/24"));
        check("0.0.0.0/0", Ok("0.0.0.0/0"));
        check("203.0.113.7/24", Err(SourceError::HostBits));
        check("203.0.113.0/33", Err(SourceError::Length));
        check("203.0.113.0/", Err(SourceError::Length));
        check("203.0.113.0/+8", Err(SourceError::Length));
        check("2001:db8::1", Ok("2001:db8::1"));
        check("2001:db8::/32", Ok("2001:db8::/32"));
        check("2001:db8::/129", Err(SourceError::Length));
        check("::ffff:203.0.113.7", Ok("203.0.113.7"));
        check("::ffff:203.0.113.0/120", Ok("203.0.113.0/24"));
        check("::ffff:203.0.113.0/24", Err(SourceError::Length));
        check("fe80::1%eth0", Err(SourceError::Address));
        check("example.com", Err(SourceError::Address));
        check("", Err(SourceError::Address));
    }

    #[test]
    fn keys_name_their_source() {
        for (text, prefix) in [("203.0.113.7", 64), ("0.0.0.0", 64), ("2001:db8:1:2::/64", 64), ("2001:db8::/56", 56)] {
            let source: Source = text.parse().unwrap();
            let key = source.key(prefix).unwrap();
            assert_eq!(Source::from_key(key, prefix), source, "{text}");
        }
        for text in ["203.0.113.0/24", "2001:db8::/32", "2001:db8::1"] {
            assert_eq!(text.parse::<Source>().unwrap().key(64), None, "{text}");
        }
    }

    #[test]
    fn membership() {
        let network: Source = "2001:db8::/32".parse().unwrap();
        assert!(network.contains("2001:db8:ffff::1".parse().unwrap()));
        assert!(!network.contains("2001:db9::1".parse().unwrap()));
        assert!(!network.contains("203.0.113.7".parse().unwrap()));
        assert!(network.covers(&"2001:db8:1::/48".parse().unwrap()));
        assert!(!network.covers(&"2001::/16".parse().unwrap()));
        assert_eq!(Source::of("2001:db8:1:2:3::4".parse().unwrap(), 64).to_string(), "2001:db8:1:2::/64");
        assert_eq!(Source::of("::ffff:192.0.2.1".parse().unwrap(), 64).to_string(), "192.0.2.1");
    }
}
