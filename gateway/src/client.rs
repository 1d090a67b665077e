//! The address of a client: that of the other end of the connection, or the one that a trusted proxy there names.
//!
//! *Invariant:* only what a trusted proxy wrote is read: the one header that is configured, from right to left, up to
//! the first address that is not a trusted proxy's. The client may have written what stands left of it.

use std::net::{IpAddr, SocketAddr};

use gateway_common::source::Source;
use http::{HeaderMap, header};

use crate::{
    refusal::{Refusal, Reject},
    settings::proxy::{ClientHeader, Trust},
};

pub(crate) mod forwarded;

use forwarded::ForwardedInfo;

/// The most trusted proxies in a row.
const MAX_HOPS: usize = 16;

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The port is 0 if it is not known.
    pub(crate) address: SocketAddr,
    /// What limits, bans and signals are about.
    pub(crate) source: Source,
    /// The trusted proxy at the other end of the connection, if the client is another.
    pub(crate) relay: Option<IpAddr>,
    /// The client is a trusted proxy itself: it named nobody else.
    pub(crate) is_trusted: bool,
}

impl Client {
    /// Where it is; `None`: it is a trusted proxy, and whom it speaks for is not known.
    pub(crate) fn named(&self) -> Option<IpAddr> {
        (!self.is_trusted).then(|| self.address.ip())
    }
}

/// The trusted proxies, and the header that they name clients by.
#[derive(Debug)]
pub struct Trusted {
    proxies: Box<[Source]>,
    header: Option<ClientHeader>,
    ipv6_prefix: u8,
}

impl Trusted {
    pub(crate) fn new(settings: &Trust, ipv6_prefix: u8) -> Self {
        Self { proxies: settings.proxies.as_slice().into(), header: settings.header, ipv6_prefix }
    }

    /// The client at the other end.
    pub(crate) fn peer(&self, address: SocketAddr) -> Client {
        self.client(address, None)
    }

    /// Whether what was said of a client at the begin of its connection would be said again.
    pub(crate) fn agrees_on(&self, client: &Client) -> bool {
        let trusts = |address| self.proxies.iter().any(|network| network.contains(address));
        trusts(client.address.ip()) == client.is_trusted && client.relay.is_none_or(trusts)
    }

    /// The client that the trusted `relay` names.
    pub(crate) fn relayed(&self, address: SocketAddr, relay: Client) -> Client {
        self.client(address, Some(relay.relay.unwrap_or_else(|| relay.address.ip().to_canonical())))
    }

    fn client(&self, address: SocketAddr, relay: Option<IpAddr>) -> Client {
        let ip = address.ip().to_canonical();
        let is_trusted = self.proxies.iter().any(|network| network.contains(ip));
        Client {
            address: SocketAddr::new(ip, address.port()),
            source: Source::of(ip, self.ipv6_prefix),
            relay,
            is_trusted,
        }
    }

    /// The client of a request that came over a connection of `peer`, and what else trusted proxies say of the request.
    /// Without the header the client is the peer.
    ///
    /// # Errors
    /// [`Reject::BadRequest`]: what trusted proxies wrote is malformed.
    pub(crate) fn read(
        &self,
        peer: Client,
        headers: &HeaderMap,
    ) -> Result<(Client, Option<Box<ForwardedInfo>>), Refusal> {
        let Some(header) = self.header.filter(|_| peer.is_trusted) else { return Ok((peer, None)) };
        let name = match header {
            ClientHeader::Forwarded => header::FORWARDED.as_str(),
            ClientHeader::XForwardedFor => "x-forwarded-for",
        };
        let malformed = || Refusal::new(Reject::BadRequest, format!("a trusted proxy sent a malformed {name}"));
        let mut client = peer;
        let mut hops = 0;
        let mut last = None;
        for line in headers.get_all(name).iter().rev() {
            let mut rest = Some(line.as_bytes());
            while let Some(bytes) = rest {
                let (element, before) = last_element(bytes, header).ok_or_else(malformed)?;
                rest = before;
                // RFC 9110 5.6.1: empty elements do not count.
                if element.trim_ascii().is_empty() {
                    continue;
                }
                let address = address(element, header).ok_or_else(malformed)?;
                client = self.relayed(address, client);
                hops += 1;
                last = Some(element);
                if !client.is_trusted {
                    return Ok((client, ForwardedInfo::read(header, hops, last, headers)));
                }
                if hops == MAX_HOPS {
                    return Err(malformed());
                }
            }
        }
        Ok((client, ForwardedInfo::read(header, hops, last, headers)))
    }
}

/// The last element of a list, and what stands before its comma. `None`: a quotation mark is missing.
///
/// It reads backwards: a quotation mark that a client left open cannot hide what a trusted proxy has added.
fn last_element(line: &[u8], header: ClientHeader) -> Option<(&[u8], Option<&[u8]>)> {
    let mut quoted = false;
    for (at, byte) in line.iter().enumerate().rev() {
        match byte {
            b'"' if header == ClientHeader::Forwarded => quoted = !quoted,
            b',' if !quoted => {
                let (before, after) = line.split_at_checked(at)?;
                return Some((after.get(1..)?, Some(before)));
            }
            _ => {}
        }
    }
    (!quoted).then_some((line, None))
}

/// The address that an element names.
fn address(element: &[u8], header: ClientHeader) -> Option<SocketAddr> {
    let text = std::str::from_utf8(element).ok()?.trim_matches([' ', '\t']);
    match header {
        ClientHeader::XForwardedFor => node(text).or_else(|| Some(SocketAddr::new(text.parse().ok()?, 0))),
        ClientHeader::Forwarded => {
            // RFC 7239 4: `for=192.0.2.60;proto=http`. Escapes have no place in what names an address.
            let mut named = None;
            for pair in text.split(';') {
                let Some((name, value)) = pair.split_once('=') else { continue };
                if !name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for") {
                    continue;
                }
                let value = value.trim_matches([' ', '\t']);
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
                if named.replace(node(value)?).is_some() {
                    return None;
                }
            }
            named
        }
    }
}

/// `192.0.2.7`, `192.0.2.7:4711`, `[2001:db8::1]`, `[2001:db8::1]:4711` (RFC 7239 6, without names that hide). A port that
/// hides (`192.0.2.7:_a`) is none.
fn node(text: &str) -> Option<SocketAddr> {
    if text.contains('%') {
        return None;
    }
    let hides = |port: &str| port.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let text = match text.split_once(":_") {
        Some((address, port)) if !port.is_empty() && hides(port) => address,
        _ => text,
    };
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return Some(SocketAddr::new(IpAddr::V6(address.parse().ok()?), 0));
    }
    text.parse().ok().or_else(|| Some(SocketAddr::new(IpAddr::V4(text.parse().ok()?), 0)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// What a request with these header lines, over a connection of `peer`, is said to come from.
    #[track_caller]
    fn check(header: ClientHeader, peer: &str, lines: &[&str], expect: Option<&str>) {
        let proxies = ["10.0.0.0/24", "2001:db8:ff::/48"].map(|text| text.parse().unwrap()).to_vec();
        let trusted = Trusted::new(&Trust { proxies, header: Some(header) }, 64);
        let mut headers = HeaderMap::new();
        let name = if header == ClientHeader::Forwarded { "forwarded" } else { "x-forwarded-for" };
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        // The other one is never read.
        let other = if header == ClientHeader::Forwarded { "x-forwarded-for" } else { "forwarded" };
        headers.append(other, HeaderValue::from_static("for=192.0.2.99"));
        let peer = trusted.peer(SocketAddr::new(peer.parse().unwrap(), 4_000));
        let read = trusted.read(peer, &headers);
        let read = read.map(|(client, _)| (client.address.to_string(), client.relay.is_some(), client.is_trusted));
        let relayed = |address: &str| {
            let own = address.parse() == Ok(peer.address);
            let in_proxies = address.starts_with("10.0.0.") || address.starts_with("[2001:db8:ff:");
            (address.to_owned(), !own, in_proxies)
        };
        assert_eq!(read.ok(), expect.map(relayed), "{header:?} {lines:?}");
    }

    #[test]
    fn t04_x_forwarded_for() {
        let check = |peer: &str, lines: &[&str], expect| check(ClientHeader::XForwardedFor, peer, lines, expect);
        // Whoever is not trusted says what it likes.
        check("192.0.2.1", &["203.0.113.7"], Some("192.0.2.1:4000"));
        check("192.0.2.1", &["garbage"], Some("192.0.2.1:4000"));
        check("10.0.0.2", &[], Some("10.0.0.2:4000"));
        check("10.0.0.2", &["203.0.113.7"], Some("203.0.113.7:0"));
        check("::ffff:10.0.0.2", &["203.0.113.7"], Some("203.0.113.7:0"));
        check("10.0.0.2", &["203.0.113.7:4711"], Some("203.0.113.7:4711"));
        check("10.0.0.2", &["::ffff:203.0.113.7"], Some("203.0.113.7:0"));
        check("10.0.0.2", &["2001:db8::7"], Some("[2001:db8::7]:0"));
        check("10.0.0.2", &["[2001:db8::7]:443"], Some("[2001:db8::7]:443"));
        // Right to left over trusted hops, no further.
        check("10.0.0.2", &["198.51.100.1, 203.0.113.7"], Some("203.0.113.7:0"));
        check("10.0.0.2", &["198.51.100.1, 203.0.113.7, 10.0.0.3"], Some("203.0.113.7:0"));
        check("10.0.0.2", &["198.51.100.1", "203.0.113.7", "10.0.0.3 ,10.0.0.4"], Some("203.0.113.7:0"));
        check("10.0.0.2", &["<script>, \", 203.0.113.7"], Some("203.0.113.7:0"));
        check("10.0.0.2", &["10.0.0.3"], Some("10.0.0.3:0"));
        check("10.0.0.2", &["10.0.0.3, 10.0.0.4"], Some("10.0.0.3:0"));
        // What is empty between commas is no element (RFC 9110 5.6.1).
        for empty in ["203.0.113.7,", ", 203.0.113.7 ,, ,", "198.51.100.1,, 203.0.113.7,10.0.0.3,\t"] {
            check("10.0.0.2", &[empty], Some("203.0.113.7:0"));
        }
        check("10.0.0.2", &["203.0.113.7", "", ","], Some("203.0.113.7:0"));
        check("10.0.0.2", &["", " , "], Some("10.0.0.2:4000"));
        // What a trusted proxy wrote and nobody can read.
        for wrong in ["unknown", "203.0.113", "fe80::1%eth0", "[::1", "1.2.3.4:99999", "a\u{e9}", "for=1.2.3.4"] {
            check("10.0.0.2", &[wrong], None);
            check("10.0.0.2", &[&format!("203.0.113.7, {wrong}")], None);
        }
        check("10.0.0.2", &["10.0.0.3, ".repeat(999).trim_end_matches(", ")], None);
        check("10.0.0.2", &[&format!("{}203.0.113.7", "10.0.0.3, ".repeat(1_000))], Some("203.0.113.7:0"));
    }

    #[test]
    fn t04_forwarded() {
        let check = |lines: &[&str], expect| check(ClientHeader::Forwarded, "10.0.0.2", lines, expect);
        check(&[], Some("10.0.0.2:4000"));
        check(&["for=203.0.113.7"], Some("203.0.113.7:0"));
        check(&["For=\"203.0.113.7:4711\";proto=https;by=10.0.0.2"], Some("203.0.113.7:4711"));
        check(&["proto=http; for=\"[2001:db8:cafe::17]:4711\""], Some("[2001:db8:cafe::17]:4711"));
        check(&["for=\"[2001:db8::17]\""], Some("[2001:db8::17]:0"));
        check(&["for=\"203.0.113.7:_a1.-_\""], Some("203.0.113.7:0"));
        check(&["for=\"[2001:db8::17]:_x\""], Some("[2001:db8::17]:0"));
        check(&["for=198.51.100.1, for=203.0.113.7, for=\"[2001:db8:ff::1]\""], Some("203.0.113.7:0"));
        // A client's open quotation mark swallows nothing.
        check(&["for=\", for=203.0.113.7"], Some("203.0.113.7:0"));
        check(&["for=\"a, b", "for=203.0.113.7"], Some("203.0.113.7:0"));
        for wrong in [
            "203.0.113.7",
            "for=unknown",
            "for=_hidden",
            "for=",
            "proto=https",
            "for=\"203.0.113.7",
            "for=\"203\\.0.113.7\"",
            "for=203.0.113.7;for=203.0.113.8",
            "for=2001:db8::1",
            "for=\"203.0.113.7:_\"",
            "for=\"203.0.113.7:_a b\"",
            "for=\"2001:db8::1:_a:1\"",
        ] {
            check(&[wrong], None);
        }
    }
}
