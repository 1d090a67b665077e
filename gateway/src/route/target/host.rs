//! Reads the host that a request names, in one spelling: from the request line, `:authority` and `Host` (RFC 9110 7.2,
//! RFC 9112 3.2 and 3.3, RFC 9113 8.3.1).
//!
//! Lower case, no dot at the end, an IPv6 address in its shortest form, a port without leading zeros or none.
//! *Invariant:* there is one, and whoever reads another line than we do reads the same.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderValue, Version, header, request::Parts};

use super::bad;
use crate::refusal::Refusal;

/// The longest host, in bytes (RFC 1035 2.3.4, with brackets).
const MAX_HOST: usize = 255;

/// A host, with its port where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) text: String,
    pub(super) host_length: usize,
}

impl Authority {
    /// The host of a request that came in at `local`.
    pub(super) fn of(head: &Parts, local: SocketAddr) -> Result<Self, Refusal> {
        let mut hosts = head.headers.get_all(header::HOST).iter();
        let (host, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return Err(bad("more than one Host"));
        }
        let host = host.map(HeaderValue::as_bytes);
        // Whoever speaks HTTP/1.1 sends the line, whatever the request line says.
        if host.is_none() && head.version == Version::HTTP_11 {
            return Err(bad("no Host"));
        }
        let host = host.filter(|host| !host.is_empty());
        let read = |text: &[u8]| Self::read(text).ok_or_else(|| bad("invalid Host"));
        let Some(named) = head.uri.authority() else {
            return match host {
                Some(host) => read(host),
                // Before HTTP/1.1 nobody had to say which host is meant: it is the one that was connected to.
                None if head.version == Version::HTTP_10 => Ok(Self::at(local)),
                None => Err(bad("no Host")),
            };
        };
        let read_named = read(named.as_str().as_bytes())?;
        match host {
            Some(host) if host != named.as_str().as_bytes() => {
                let default = if head.uri.scheme_str() == Some("http") { ":80" } else { ":443" };
                let other = read(host)?;
                if other.without(default) != read_named.without(default) {
                    return Err(bad("Host and the target's authority differ"));
                }
                Ok(read_named)
            }
            _ => Ok(read_named),
        }
    }

    /// Reads `host` or `host:port`; `None`: it is neither.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let (host, behind) = match text.first()? {
            b'[' => text.split_at_checked(text.iter().position(|&byte| byte == b']')? + 1)?,
            _ => text.split_at_checked(text.iter().position(|&byte| byte == b':').unwrap_or(text.len()))?,
        };
        let mut read = match host.strip_prefix(b"[") {
            Some(address) => {
                let address = std::str::from_utf8(address.strip_suffix(b"]")?).ok()?;
                let address: Ipv6Addr = address.parse().ok()?;
                format!("[{address}]")
            }
            None => {
                // RFC 3986 3.2.2: the dot says that the name is whole, as each of ours is.
                let name = host.strip_suffix(b".").unwrap_or(host);
                // With room for the port.
                let mut read = String::with_capacity(text.len());
                read.push_str(std::str::from_utf8(name).ok().filter(|_| is_name(name))?);
                read.make_ascii_lowercase();
                read
            }
        };
        let host_length = read.len();
        if host_length > MAX_HOST {
            return None;
        }
        match behind.split_first() {
            None | Some((b':', [])) => {}
            Some((b':', digits)) if digits.iter().all(u8::is_ascii_digit) => {
                let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
                let digits = std::str::from_utf8(digits.get(zeros..)?).ok()?;
                let _port: u16 = digits.parse().ok()?;
                read.push(':');
                read.push_str(digits);
            }
            Some(_) => return None,
        }
        Some(Self { text: read, host_length })
    }

    /// What stands for a host that nobody named.
    fn at(local: SocketAddr) -> Self {
        let mut text = match local.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let host_length = text.len();
        if !matches!(local.port(), 80 | 443) {
            text.push_str(&format!(":{}", local.port()));
        }
        Self { text, host_length }
    }

    fn without(&self, port: &str) -> &str {
        let (host, found) = self.text.split_at_checked(self.host_length).unwrap_or_default();
        if found == port { host } else { &self.text }
    }
}

fn is_name(host: &[u8]) -> bool {
    host.split(|&byte| byte == b'.').all(|label| {
        !label.is_empty() && label.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}
