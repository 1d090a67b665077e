//! URLs of servers that the gateway asks: `https://host:port/path?query`, and nothing that two readers could read
//! differently.
//!
//! *Invariant:* a host that looks like a number is an IPv4 address in its one usual form: `0x7f.1` and `2130706433` are
//! refused, which some resolvers take for 127.0.0.1.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The longest URL, in bytes.
const MAX_LENGTH: usize = 2_048;

/// Where a server is asked, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    is_https: bool,
    /// A name in lower case or an address; IPv6 without brackets.
    host: Box<str>,
    port: u16,
    /// The path with its query; begins with a slash.
    path: Box<str>,
}

impl Url {
    /// Reads an absolute URL of the schemes `https` and `http`.
    ///
    /// # Errors
    /// What is wrong with it, to be put behind its text: `is not ...`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_LENGTH {
            return Err("is longer than 2048 bytes");
        }
        let (is_https, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("does not begin with https:// or http://"),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has blanks or letters beyond ASCII");
        }
        if rest.contains(['#', '\\', '"', '<', '>', '^', '`', '{', '|', '}']) {
            return Err("has a fragment, or a character that a URL cannot have");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("has a user name or password");
        }
        let bracket = authority.rfind(']').map_or(0, |end| end + 1);
        let colon = authority.get(bracket..).and_then(|behind| behind.find(':')).map(|colon| bracket + colon);
        let (host, port) = authority.split_at(colon.unwrap_or(authority.len()));
        let port = match port.strip_prefix(':') {
            None => usual_port(is_https),
            Some(digits) => {
                let number = digits.parse().ok().filter(|number: &u16| *number > 0 && digits == number.to_string());
                number.ok_or("has no port from 1 to 65535")?
            }
        };
        let path = if path.starts_with('/') { path.into() } else { format!("/{path}").into() };
        Ok(Self { is_https, host: read_host(host)?, port, path })
    }

    /// The same server, asked for another path; it begins with a slash.
    #[must_use]
    pub fn with_path(&self, path: &str) -> Self {
        Self { path: path.into(), ..self.clone() }
    }

    /// Whether the connection is by TLS.
    #[must_use]
    pub const fn is_https(&self) -> bool {
        self.is_https
    }

    /// A name or an address; IPv6 without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host, where it is an address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path with its query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What a request says as `Host` (RFC 9110 7.2).
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        if self.port == usual_port(self.is_https) { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(out, "{scheme}://{}{}", self.authority(), self.path)
    }
}

const fn usual_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

fn read_host(text: &str) -> Result<Box<str>, &'static str> {
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_no_address| "has no IPv6 address in its brackets")?;
        return Ok(address.to_string().into());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return Err("has no host name");
    }
    // What ends in a number is read as an address by resolvers (WHATWG URL 3.5).
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with(|first: char| first.is_ascii_digit())
        && (last.bytes().all(|byte| byte.is_ascii_digit())
            || last.get(..2).is_some_and(|it| it.eq_ignore_ascii_case("0x")));
    if is_number {
        let address: Ipv4Addr = text.parse().map_err(|_no_address| "has a host that is no IPv4 address")?;
        return Ok(address.to_string().into());
    }
    Ok(text.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, expect) in [
            ("https://id.example.com", Ok("https://id.example.com/")),
            ("https://ID.Example.com:443/Realms/A", Ok("https://id.example.com/Realms/A")),
            ("http://localhost:80/keys?x=1", Ok("http://localhost/keys?x=1")),
            ("https://a.example?x=1", Ok("https://a.example/?x=1")),
            ("https://[2001:DB8::1]:8443/k", Ok("https://[2001:db8::1]:8443/k")),
            ("https://127.0.0.1:8443/", Ok("https://127.0.0.1:8443/")),
            ("https://a.example/%2e%2e/k", Ok("https://a.example/%2e%2e/k")),
            ("ftp://a.example", Err("does not begin with https:// or http://")),
            ("HTTPS://a.example", Err("does not begin with https:// or http://")),
            ("https://", Err("has no host name")),
            ("https:///path", Err("has no host name")),
            ("https://user@a.example", Err("has a user name or password")),
            ("https://a.example:443@evil.example/", Err("has a user name or password")),
            ("https://a.example#f", Err("has a fragment, or a character that a URL cannot have")),
            ("https://a.example\\@b.example/", Err("has a fragment, or a character that a URL cannot have")),
            ("https://a.example/a b", Err("has blanks or letters beyond ASCII")),
            ("https://a.example/\r\nX: y", Err("has blanks or letters beyond ASCII")),
            ("https://b\u{fc}cher.example", Err("has blanks or letters beyond ASCII")),
            ("https://a.example:0", Err("has no port from 1 to 65535")),
            ("https://a.example:65536", Err("has no port from 1 to 65535")),
            ("https://a.example:+80", Err("has no port from 1 to 65535")),
            ("https://a.example:", Err("has no port from 1 to 65535")),
            ("https://a..example", Err("has no host name")),
            ("https://a.example.", Err("has no host name")),
            ("https://[::1", Err("has no port from 1 to 65535")),
            ("https://[fe80::1%25eth0]/", Err("has no IPv6 address in its brackets")),
            ("https://2130706433/", Err("has a host that is no IPv4 address")),
            ("https://0x7f.1/", Err("has a host that is no IPv4 address")),
            ("https://127.0x1/", Err("has a host that is no IPv4 address")),
            ("https://127.1/", Err("has a host that is no IPv4 address")),
            ("https://0177.0.0.1/", Err("has a host that is no IPv4 address")),
        ] {
            let read = Url::parse(text).map(|url| url.to_string());
            assert_eq!(read.as_deref().map_err(|wrong| *wrong), expect, "{text:?}");
        }
        assert!(Url::parse(&format!("https://a.example/{}", "a".repeat(MAX_LENGTH))).is_err());
        let url = Url::parse("https://[::1]:8443/a").unwrap();
        assert_eq!((url.authority().as_str(), url.host(), url.port()), ("[::1]:8443", "::1", 8443));
    }
}
