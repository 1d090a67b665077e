//! What a request has that nobody has declared: parameters of the query, headers and cookies.

use http::{HeaderMap, HeaderName};

use super::{Parameters, pairs::Pair};
use crate::{
    refusal::violation::{MOST_VIOLATIONS, RequestPart, Violation},
    web::header_names::{self, HeaderKind},
};

/// Headers that HTTP, browsers and traces have: a client may send them without anybody asking for them. In order.
const USUAL: [&str; 58] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "baggage",
    "cache-control",
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "device-memory",
    "dnt",
    "downlink",
    "dpr",
    "ect",
    "from",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-event-id",
    "max-forwards",
    "origin",
    "ping-from",
    "ping-to",
    "pragma",
    "prefer",
    "priority",
    "purpose",
    "range",
    "referer",
    "repr-digest",
    "rtt",
    "save-data",
    "sec-gpc",
    "sec-purpose",
    "service-worker",
    "traceparent",
    "tracestate",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "want-repr-digest",
];

/// How those begin that browsers write of themselves.
const USUAL_BEGINNINGS: [&str; 3] = ["sec-ch-", "sec-fetch-", "sec-websocket-"];

/// Whether a header needs nobody to name it: it is usual, or no upstream ever sees it.
fn is_usual(name: &str) -> bool {
    USUAL.binary_search(&name).is_ok()
        || USUAL_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || header_names::kind(name) != HeaderKind::Message
}

impl Parameters {
    /// Tells what nobody has declared, where that is refused.
    pub(super) fn judge_unknown(
        &self,
        query: &[Pair<'_>],
        cookies: &[Pair<'_>],
        headers: &HeaderMap,
        violations: &mut Vec<Violation>,
    ) {
        let mut tell = |part, name: &str| {
            if violations.len() < MOST_VIOLATIONS {
                violations.push(Violation::new(part, name, "unknown", "must not be there"));
            }
        };
        if self.refuses_unknown && self.query.is_none() {
            for pair in query.iter().filter(|pair| !self.knows_query(&pair.name)) {
                tell(RequestPart::Query, &pair.name);
            }
        }
        if let Some(known) = &self.known_headers {
            let is_known = |name: &str| {
                is_usual(name)
                    || known.iter().any(|known| known == name)
                    || self.of(RequestPart::Header).any(|declared| declared.eq_ignore_ascii_case(name))
            };
            headers.keys().map(HeaderName::as_str).filter(|name| !is_known(name)).for_each(|name| {
                tell(RequestPart::Header, name);
            });
        }
        if let Some(known) = &self.known_cookies {
            let is_known = |name: &str| {
                known.iter().any(|known| **known == *name)
                    || self.of(RequestPart::Cookie).any(|declared| declared == name)
            };
            for pair in cookies.iter().filter(|pair| !is_known(&pair.name)) {
                tell(RequestPart::Cookie, &pair.name);
            }
        }
    }

    /// The headers that are judged.
    pub(in crate::policy::validate) fn headers(&self) -> impl Iterator<Item = HeaderName> {
        self.of(RequestPart::Header).filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
    }

    /// The names of the parameters of a part.
    fn of(&self, part: RequestPart) -> impl Iterator<Item = &str> {
        self.all.iter().filter(move |it| it.part == part).map(|it| &*it.name)
    }

    fn knows_query(&self, name: &str) -> bool {
        let of_query = || self.all.iter().filter(|it| it.part == RequestPart::Query);
        of_query().any(|parameter| parameter.takes(name)) || self.also_known.iter().any(|known| **known == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_headers_are_in_order() {
        assert!(USUAL.is_sorted());
        for (name, expect) in [
            ("accept", true),
            ("sec-ch-ua-mobile", true),
            ("sec-gpc", true),
            ("x-forwarded-for", true),
            ("x_user", true),
            ("sec-secret", false),
            ("x-debug", false),
            ("x-auth-token", false),
        ] {
            assert_eq!(is_usual(name), expect, "{name}");
        }
    }
}
