//! Header changes of a route. They are made after everything that the gateway sets itself.
//!
//! *Invariant:* nothing that frames a message, belongs to one connection, or tells an upstream who the client is can be
//! changed: such names are refused when the configuration is read (T01-T03).

use http::{HeaderMap, HeaderName, HeaderValue};

/// What is changed: removed first, then set, then added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Every line of these names goes.
    pub remove: Vec<HeaderName>,
    /// These stand instead of all lines of the same name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// These are lines beside those that are there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// Whose headers are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderSide {
    /// What the upstream is sent.
    Request,
    /// What the client is sent.
    Response,
}

/// What no route changes, on either side: framing, one connection's own (RFC 9110 7.6.1), handshakes.
const NEVER: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
    "proxy-authenticate",
];

/// What tells an upstream who asks, and for what.
const TOLD: [&str; 4] = ["forwarded", "host", "proxy-authorization", "x-authenticated-principal"];

impl Edits {
    /// Changes `headers`.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }

    /// Whether nothing is changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

impl HeaderSide {
    /// Why no route may change `name`; `None`: it may.
    #[must_use]
    pub fn refuses(self, name: &HeaderName) -> Option<&'static str> {
        let name = name.as_str();
        let told = ["x-forwarded-", "x-client-certificate-"].iter().any(|start| name.starts_with(start));
        if name == "host" && self == Self::Request {
            return Some("is what `host_header` of the upstream decides");
        }
        if name == "x-request-id" || (self == Self::Request && (told || TOLD.contains(&name))) {
            return Some("is the gateway's own: upstreams believe it");
        }
        let framing = NEVER.contains(&name) || name.starts_with("sec-websocket-");
        framing.then_some("belongs to one connection or frames a message")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (HeaderName, HeaderValue) {
        (name.parse().unwrap(), value.parse().unwrap())
    }

    #[test]
    fn removes_then_sets_then_adds() {
        let edits = Edits {
            remove: ["a", "b"].map(|name| name.parse().unwrap()).into(),
            set: vec![pair("b", "2"), pair("c", "3")],
            add: vec![pair("c", "4"), pair("a", "5")],
        };
        let mut headers: HeaderMap =
            [pair("a", "1"), pair("b", "1"), pair("c", "1"), pair("c", "1"), pair("d", "1")].into_iter().collect();
        headers.append("a", HeaderValue::from_static("1"));
        edits.apply(&mut headers);
        let expect: HeaderMap =
            [pair("b", "2"), pair("c", "3"), pair("c", "4"), pair("a", "5"), pair("d", "1")].into_iter().collect();
        assert_eq!(headers, expect);
        assert!(!edits.is_empty() && Edits::default().is_empty());
    }

    #[test]
    fn t01_t03_what_nobody_changes() {
        for (name, request, response) in [
            ("transfer-encoding", true, true),
            ("Content-Length", true, true),
            ("connection", true, true),
            ("upgrade", true, true),
            ("sec-websocket-accept", true, true),
            ("x-request-id", true, true),
            ("host", true, false),
            ("x-forwarded-for", true, false),
            ("x-forwarded-prefix", true, false),
            ("x-authenticated-principal", true, false),
            ("x-client-certificate-serial", true, false),
            ("authorization", false, false),
            ("content-type", false, false),
            ("x-tenant", false, false),
        ] {
            let name: HeaderName = name.parse().unwrap();
            let found = [HeaderSide::Request, HeaderSide::Response].map(|side| side.refuses(&name).is_some());
            assert_eq!(found, [request, response], "{name}");
        }
    }
}
