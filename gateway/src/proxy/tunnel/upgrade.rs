//! Upgrades (WebSocket and others): which requests may turn their connection into a tunnel, and which responses do.
//!
//! *Invariant:* a request that may not become a tunnel loses its `Upgrade` header and is served as any other. A 101 for a
//! protocol that was not asked for is a failure of the upstream (F12, H15, W01, W02).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts, response};

use crate::{
    refusal::{Refusal, Reject},
    settings::route::Upgrade,
    web::header_values,
};

/// What the server adds to the client's key before hashing it (RFC 6455 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The protocol that a client wants its connection to change to.
pub(in crate::proxy) struct UpgradeRequest {
    protocol: HeaderValue,
    /// The `Sec-WebSocket-Accept` that a server has to answer; `None`: another protocol.
    accept: Option<String>,
}

/// The upgrade that the request asks for, if its route allows it. `None`: it is a request like any other.
pub(in crate::proxy) fn wanted(
    head: &Parts,
    has_body: bool,
    allowed: Option<&Upgrade>,
) -> Result<Option<Box<UpgradeRequest>>, Refusal> {
    let (Some(allowed), Some(protocol)) = (allowed, one(&head.headers, &header::UPGRADE)) else { return Ok(None) };
    // RFC 9110 7.8: HTTP/1.0 has no upgrade, and `Connection` has to name it.
    if head.version != Version::HTTP_11 || !connects(&head.headers) {
        return Ok(None);
    }
    let is = |known: &str| protocol.as_bytes().eq_ignore_ascii_case(known.as_bytes());
    if !allowed.protocols.iter().any(|known| is(known)) {
        return Ok(None);
    }
    if head.method != Method::GET || has_body {
        return Err(Refusal::new(Reject::BadRequest, "upgrade by another method than GET, or with a body"));
    }
    if head.headers.contains_key(header::ORIGIN) && !allowed.origins.is_empty() {
        let origin = one(&head.headers, &header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
        if !allowed.origins.contains(origin) {
            return Err(Refusal::new(Reject::ForeignOrigin, "foreign Origin"));
        }
    }
    let accept = if is("websocket") { Some(accept(&head.headers)?) } else { None };
    // Boxed, as most requests do without it.
    Ok(Some(Box::new(UpgradeRequest { protocol: protocol.clone(), accept })))
}

impl UpgradeRequest {
    /// Asks the upstream for it.
    pub(in crate::proxy) fn ask(&self, headers: &mut HeaderMap) {
        tell(headers, self.protocol.clone());
    }

    /// Whether the upstream's 101 grants it.
    pub(in crate::proxy) fn is_granted(&self, head: &response::Parts) -> bool {
        let protocol = one(&head.headers, &header::UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
        let accept = one(&head.headers, &header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        connects(&head.headers)
            && protocol.eq_ignore_ascii_case(self.protocol.as_bytes())
            && self.accept.as_ref().is_none_or(|expected| accept == Some(expected.as_bytes()))
    }
}

/// Writes what the header filter took away.
pub(in crate::proxy) fn tell(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// The `Sec-WebSocket-Accept` for the client's key (RFC 6455 4.2.1, 4.2.2).
fn accept(headers: &HeaderMap) -> Result<String, Refusal> {
    let bad = |detail| Refusal::new(Reject::BadRequest, detail);
    if one(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::new(Reject::UpgradeRequired, "Sec-WebSocket-Version is not 13"));
    }
    let key = one(headers, &header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if BASE64.decode(key).map_or(0, |key| key.len()) != 16 {
        return Err(bad("Sec-WebSocket-Key is not 16 bytes"));
    }
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID.as_bytes()].concat());
    Ok(BASE64.encode(hash.as_ref()))
}

/// Whether `Connection` names `Upgrade`.
pub(super) fn connects(headers: &HeaderMap) -> bool {
    header_values::has_member(headers, header::CONNECTION, b"upgrade")
}

/// The value of a header that occurs once.
pub(super) fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;
    use crate::settings::cors::Origins;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// `None`: no tunnel is asked for.
    #[track_caller]
    fn check(version: Version, more: &[(&str, &str)], expect: Result<Option<&str>, &str>) {
        let mut request = Request::builder().version(version).uri("/");
        let usual = [("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")];
        let key = [("sec-websocket-version", "13"), ("sec-websocket-key", KEY)];
        for (name, value) in usual.iter().chain(&key) {
            // What is given instead, where something is; empty: it is left out.
            if !more.iter().any(|(other, _)| other == name) {
                request = request.header(*name, *value);
            }
        }
        for (name, value) in more.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let strings = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let allowed = Upgrade {
            protocols: strings(&["websocket", "own"]),
            origins: Origins::new(strings(&["https://a.example"])),
            outlives_token: false,
            tokens: Vec::new(),
        };
        let found = wanted(&head, false, Some(&allowed));
        let found = found.map(|wanted| wanted.map(|wanted| wanted.accept.unwrap_or_default()));
        let found = found.as_ref().map(Option::as_deref).map_err(|refusal| &*refusal.detail);
        assert_eq!(found, expect, "{more:?}");
        assert!(wanted(&head, false, None).unwrap().is_none(), "not allowed");
    }

    #[test]
    fn w01_w02_what_may_become_a_tunnel() {
        let (good, version) = (Ok(Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")), Version::HTTP_11);
        let (no_version, no_key) = (Err("Sec-WebSocket-Version is not 13"), Err("Sec-WebSocket-Key is not 16 bytes"));
        check(version, &[], good);
        check(version, &[("origin", "https://A.example")], good);
        check(version, &[("origin", "https://b.example")], Err("foreign Origin"));
        check(version, &[("origin", "null")], Err("foreign Origin"));
        check(version, &[("origin", "https://a.example"), ("origin", "https://b.example")], Err("foreign Origin"));
        check(version, &[("upgrade", "own")], Ok(Some("")));
        check(Version::HTTP_10, &[], Ok(None));
        check(version, &[("connection", "keep-alive")], Ok(None));
        for protocol in ["", "h2c", "websocket, h2c", "web socket"] {
            check(version, &[("upgrade", protocol)], Ok(None));
        }
        check(version, &[("upgrade", "websocket"), ("upgrade", "websocket")], Ok(None));
        for wrong in ["", "8", "013", "13, 8"] {
            check(version, &[("sec-websocket-version", wrong)], no_version);
        }
        for wrong in ["", "x", "dGhlIHNhbXBsZSBub25jZQ", "AAAA", "dGhlIHNhbXBsZSBub25jZSE="] {
            check(version, &[("sec-websocket-key", wrong)], no_key);
        }
        check(version, &[("sec-websocket-key", KEY), ("sec-websocket-key", KEY)], no_key);
    }

    #[test]
    fn w01_what_makes_one() {
        let websocket = HeaderValue::from_static("websocket");
        let wanted = UpgradeRequest { protocol: websocket, accept: Some("right".to_owned()) };
        for (protocol, connection, accept, expect) in [
            ("WebSocket", "Upgrade", "right", true),
            ("h2c", "upgrade", "right", false),
            ("websocket", "close", "right", false),
            ("websocket", "upgrade", "wrong", false),
        ] {
            let answer = Response::builder().header("upgrade", protocol).header("connection", connection);
            let (head, ()) = answer.header("sec-websocket-accept", accept).body(()).unwrap().into_parts();
            assert_eq!(wanted.is_granted(&head), expect, "{protocol} {connection} {accept}");
        }
    }
}
