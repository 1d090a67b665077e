//! What trusted proxies say of a request besides the client's address: its scheme, host, port, path prefix and id.
//!
//! *Invariant:* it is read as the client's address is: from trusted proxies alone, from the one kind of header that is
//! configured, and for the hop of the client. What is malformed is ignored; then the connection's own facts
//! count (T05).

use http::{HeaderMap, HeaderValue};

use crate::{route::target::canonical_authority, settings::proxy::ClientHeader, web::path::canonical_path};

/// The longest prefix, in bytes.
const MAX_PREFIX: usize = 1_024;

/// The longest id, in bytes.
const MAX_ID: usize = 128;

/// What trusted proxies say of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ForwardedInfo {
    /// `http` or `https`.
    pub(crate) scheme: Option<&'static str>,
    /// The canonical host, with its port if that is given.
    pub(crate) host: Option<Box<str>>,
    pub(crate) port: Option<u16>,
    /// The canonical path that a proxy has removed.
    pub(crate) prefix: Option<Box<str>>,
    pub(crate) id: Option<HeaderValue>,
}

impl ForwardedInfo {
    /// Reads what is said of the client's hop: the `hop`th from the right, whose element of `Forwarded` is `element`.
    /// `None`: nothing is.
    pub(crate) fn read(
        header: ClientHeader,
        hop: usize,
        element: Option<&[u8]>,
        headers: &HeaderMap,
    ) -> Option<Box<Self>> {
        let mut info = Self { id: id(headers), ..Self::default() };
        match header {
            ClientHeader::Forwarded => {
                let element = element.and_then(|element| std::str::from_utf8(element).ok());
                let pairs = element.into_iter().flat_map(|element| element.split(';'));
                for (name, value) in pairs.filter_map(|pair| pair.split_once('=')) {
                    let (name, value) = (trim(name), trim(value));
                    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
                    if name.eq_ignore_ascii_case("proto") {
                        info.scheme = scheme(value);
                    } else if name.eq_ignore_ascii_case("host") {
                        info.host = canonical_authority(value.as_bytes());
                    }
                }
            }
            ClientHeader::XForwardedFor => {
                let told = |name: &str| told(headers, name, hop);
                info.scheme = told("x-forwarded-proto").and_then(scheme);
                info.host = told("x-forwarded-host").and_then(|host| canonical_authority(host.as_bytes()));
                info.port = told("x-forwarded-port").and_then(port);
                info.prefix = told("x-forwarded-prefix").and_then(prefix);
            }
        }
        (info != Self::default()).then(|| Box::new(info))
    }
}

/// The element of a list for the `hop`th hop from the right. A shorter list was passed on unchanged: its first element
/// counts.
fn told<'a>(headers: &'a HeaderMap, name: &str, hop: usize) -> Option<&'a str> {
    let lines = headers.get_all(name).iter().rev();
    // RFC 9110 5.6.1: empty elements do not count.
    let elements = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let element = elements.filter(|element| !element.is_empty()).take(hop.max(1)).last()?;
    std::str::from_utf8(element).ok()
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// `ws` and `wss` mean the same connections as `http` and `https`.
fn scheme(text: &str) -> Option<&'static str> {
    let is = |known: &&str| text.eq_ignore_ascii_case(known);
    if ["https", "wss"].iter().any(is) { Some("https") } else { ["http", "ws"].iter().any(is).then_some("http") }
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// A path prefix, without a slash at its end.
fn prefix(text: &str) -> Option<Box<str>> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.is_empty() || text.len() > MAX_PREFIX {
        return None;
    }
    let canonical = canonical_path(text).ok()?;
    Some(canonical.unwrap_or_else(|| text.to_owned()).into())
}

/// The request id: letters, digits, and the other characters of UUIDs, base64 and traces.
fn id(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all("x-request-id").iter();
    let id = lines.next().filter(|_| lines.next().is_none())?;
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte);
    let is_one = (1..=MAX_ID).contains(&id.len()) && id.as_bytes().iter().all(known);
    is_one.then(|| id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these lines say of the `hop`th hop: scheme, host, port, prefix, id.
    #[track_caller]
    fn check(hop: usize, lines: &[(&'static str, &str)], expect: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let found = ForwardedInfo::read(ClientHeader::XForwardedFor, hop, None, &headers).unwrap_or_default();
        assert_eq!(text(&found), expect, "{lines:?}");
    }

    fn text(info: &ForwardedInfo) -> String {
        let port = info.port.map(|port| port.to_string());
        let id = info.id.as_ref().map(|id| id.to_str().unwrap());
        let parts = [info.scheme, info.host.as_deref(), port.as_deref(), info.prefix.as_deref(), id];
        parts.map(Option::unwrap_or_default).join("|")
    }

    #[test]
    fn t05_x_forwarded() {
        const PROTO: &str = "x-forwarded-proto";
        const HOST: &str = "x-forwarded-host";
        let nothing = "||||";
        check(0, &[], nothing);
        check(1, &[("forwarded", "proto=https;host=a")], nothing);
        for (value, expect) in [
            ("https", "https"),
            ("HTTP", "http"),
            ("wss", "https"),
            ("ws", "http"),
            ("https,", "https"),
            (", https ,, ", "https"),
            ("ftp", ""),
            ("https://", ""),
            ("", ""),
            (",,", ""),
            ("httpsx", ""),
            ("\u{e9}", ""),
        ] {
            check(1, &[(PROTO, value)], &format!("{expect}||||"));
        }
        // One element for each hop, or one that was passed on.
        check(1, &[(PROTO, "http, https")], "https||||");
        check(2, &[(PROTO, "http, https")], "http||||");
        check(2, &[(PROTO, "http"), (PROTO, "https")], "http||||");
        check(3, &[(PROTO, "https, http")], "https||||");
        check(2, &[(PROTO, "https")], "https||||");
        for (value, expect) in [
            ("A.Example", "a.example"),
            ("a.example.:8443", "a.example:8443"),
            ("[2001:DB8::1]:443", "[2001:db8::1]:443"),
            ("a.example, b.example", "b.example"),
            ("a b", ""),
            ("a.example/x", ""),
            ("<script>", ""),
            ("u@a.example", ""),
            ("a.example:0", ""),
        ] {
            check(1, &[(HOST, value)], &format!("|{expect}|||"));
        }
        for (value, expect) in
            [("443", "443"), ("65535", "65535"), ("0", ""), ("65536", ""), ("+80", ""), ("", ""), ("https", "")]
        {
            check(1, &[("x-forwarded-port", value)], &format!("||{expect}||"));
        }
        for (value, expect) in [
            ("/shop", "/shop"),
            ("/shop/", "/shop"),
            ("/a/%62", "/a/b"),
            ("/", ""),
            ("shop", ""),
            ("/../x", ""),
            ("//evil.example", ""),
            ("/a\"b", ""),
            ("/a%0d%0ab", ""),
        ] {
            check(1, &[("x-forwarded-prefix", value)], &format!("|||{expect}|"));
        }
        check(1, &[("x-forwarded-prefix", &format!("/{}", "a".repeat(MAX_PREFIX)))], nothing);
    }

    #[test]
    fn ids() {
        let long = "a".repeat(MAX_ID);
        for (value, fits) in [
            ("7b1e2f00-9c1a-4f6e-8a54-1a2b3c4d5e6f", true),
            ("Root=1-67891233-abcdef012345678912345678", true),
            ("YWJj+/==", true),
            (&*long, true),
            (&*(long.clone() + "a"), false),
            ("", false),
            ("a b", false),
            ("a,b", false),
            ("a\"b", false),
            ("a;b", false),
            ("\u{e9}", false),
        ] {
            check(1, &[("x-request-id", value)], &format!("||||{}", if fits { value } else { "" }));
        }
        check(1, &[("x-request-id", "a"), ("x-request-id", "a")], "||||");
    }

    #[test]
    fn t05_forwarded() {
        for (element, expect) in [
            ("for=192.0.2.1;proto=https;host=A.example", "https|a.example|||"),
            ("proto=HTTPS; for=\"[2001:db8::1]\" ; Host=\"a.example:8443\"", "https|a.example:8443|||"),
            ("for=192.0.2.1", "||||"),
            ("for=192.0.2.1;proto=gopher;host=\"a b\"", "||||"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
            headers.insert("x-forwarded-prefix", HeaderValue::from_static("/x"));
            let found = ForwardedInfo::read(ClientHeader::Forwarded, 1, Some(element.as_bytes()), &headers);
            assert_eq!(text(&found.unwrap_or_default()), expect, "{element}");
        }
    }
}
