//! Reads the fields of a request's head, or of its trailers (RFC 9113 8.1-8.3): as a request that can be read in one way, or
//! not at all.

use http::{
    HeaderMap, Method, Uri, Version, header,
    request::Parts,
    uri::{self, Authority, PathAndQuery, Scheme},
};

use crate::{
    proxy::{
        framing::{OF_HTTP1, length::decimal},
        hpack::{FieldValue, TableField},
        memory::buffer_pool,
        service::RequestLine,
    },
    settings::proxy::HeadLimits,
};

/// Room for the headers of most requests and for those that the gateway adds, in headers.
const USUAL: usize = 24;

/// A block of fields whose last frame has not come (RFC 9113 4.3).
pub(super) struct FieldBlock {
    pub(super) stream: u32,
    /// Whether the stream ends with it.
    pub(super) ends: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: u32,
}

/// Why there is no request.
#[derive(Debug)]
pub(super) enum HeadError {
    /// It breaks HTTP/2 (RFC 9113 8.1.1).
    Malformed(&'static str),
    /// It is larger than it may be; its line, where that came before the limit did.
    TooLarge(Option<Box<RequestLine>>),
}

/// What has been read of a block of fields.
pub(super) struct FieldReader {
    authority: Option<Authority>,
    method: Option<Method>,
    path: Option<PathAndQuery>,
    is_https: Option<bool>,
    /// The headers, of a request that is not known yet.
    parts: Box<Parts>,
    /// As RFC 9113 6.5.2 counts it, in bytes.
    size: usize,
    limits: HeadLimits,
    wrong: Option<&'static str>,
}

impl FieldReader {
    /// Reads what is within `limits`.
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self {
            authority: None,
            method: None,
            path: None,
            is_https: None,
            parts: buffer_pool::parts(USUAL),
            size: 0,
            limits,
            wrong: None,
        }
    }

    /// Takes the next field.
    pub(super) fn add(&mut self, field: &TableField) {
        self.size = self.size.saturating_add(field.size);
        if self.is_too_large() {
            return;
        }
        let is_first = match &field.content {
            FieldValue::Header(name, value) => {
                if OF_HTTP1.contains(name) || *name == header::TE && value != "trailers" {
                    self.wrong.get_or_insert("connection header in HTTP/2");
                }
                self.parts.headers.append(name, value.clone());
                return;
            }
            FieldValue::Wrong(detail) => {
                self.wrong.get_or_insert(detail);
                return;
            }
            _ if !self.parts.headers.is_empty() => {
                self.wrong.get_or_insert("pseudo header behind others");
                return;
            }
            FieldValue::Authority(authority) => self.authority.replace(authority.clone()).is_none(),
            FieldValue::Method(method) => self.method.replace(method.clone()).is_none(),
            FieldValue::Path(path) => self.path.replace(path.clone()).is_none(),
            FieldValue::Scheme(is_https) => self.is_https.replace(*is_https).is_none(),
        };
        if !is_first {
            self.wrong.get_or_insert("pseudo header twice");
        }
    }

    fn is_too_large(&self) -> bool {
        self.size > self.limits.bytes || self.parts.headers.len() > self.limits.headers
    }

    /// The request, and the length of its body where it tells that.
    pub(super) fn request(self, ends: bool) -> Result<(Box<Parts>, Option<u64>), HeadError> {
        if let Some(detail) = self.wrong {
            return Err(HeadError::Malformed(detail));
        }
        let is_too_large = self.is_too_large();
        let line = self.method.zip(uri(self.authority, self.path, self.is_https));
        if is_too_large {
            let path = |uri: Uri| uri.path_and_query().cloned();
            let line = line.and_then(|(method, uri)| Some(Box::new((method, Version::HTTP_2, path(uri.ok()?)))));
            return Err(HeadError::TooLarge(line));
        }
        let (method, uri) = line.ok_or(HeadError::Malformed("pseudo header missing"))?;
        let uri = uri.map_err(HeadError::Malformed)?;
        // RFC 9113 8.5: only what is to become a tunnel has no path.
        if (method == Method::CONNECT) != uri.path_and_query().is_none() {
            return Err(HeadError::Malformed("pseudo header missing"));
        }
        if uri.path() == "*" && method != Method::OPTIONS {
            return Err(HeadError::Malformed("* with another method than OPTIONS"));
        }
        // Whatever else it may say is judged with the other headers.
        let length = self.parts.headers.get(header::CONTENT_LENGTH).and_then(|length| decimal(length.as_bytes()));
        if ends && length.is_some_and(|length| length > 0) {
            return Err(HeadError::Malformed("length without a body"));
        }
        let mut parts = self.parts;
        (parts.method, parts.uri, parts.version) = (method, uri, Version::HTTP_2);
        Ok((parts, length))
    }

    /// The trailers (RFC 9113 8.1).
    pub(super) fn trailers(self) -> Result<HeaderMap, HeadError> {
        let is_request =
            self.method.is_some() || self.path.is_some() || self.authority.is_some() || self.is_https.is_some();
        match self.wrong {
            Some(detail) => Err(HeadError::Malformed(detail)),
            None if is_request => Err(HeadError::Malformed("pseudo header in trailers")),
            None if self.is_too_large() => Err(HeadError::TooLarge(None)),
            None => Ok(self.parts.headers),
        }
    }
}

/// Where the request goes. `None`: something of it is missing. The scheme may be another hop's.
fn uri(
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    is_https: Option<bool>,
) -> Option<Result<Uri, &'static str>> {
    let mut parts = uri::Parts::default();
    match (path, is_https) {
        (Some(path), Some(is_https)) => {
            parts.path_and_query = Some(path);
            if authority.is_some() {
                parts.scheme = Some(if is_https { Scheme::HTTPS } else { Scheme::HTTP });
            }
        }
        (None, None) if authority.is_some() => {}
        _ => return None,
    }
    parts.authority = authority;
    Some(Uri::from_parts(parts).map_err(|_impossible| "invalid target"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::hpack::Decoder;

    const MAX_HEADERS: usize = 100;

    fn read(limit: usize, fields: &[(&str, &str)]) -> FieldReader {
        let mut block = Vec::new();
        for (name, value) in fields {
            // Spelt out: what we write ourselves would be in lower case.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        let mut reader = FieldReader::new(HeadLimits { bytes: limit, headers: MAX_HEADERS, target: 8_192 });
        Decoder::new().decode(&block, |field| reader.add(field)).unwrap();
        reader
    }

    #[track_caller]
    fn check(ends: bool, fields: &[(&str, &str)], expect: Result<(&str, Option<u64>), &str>) {
        let found = match read(1_000, fields).request(ends) {
            Ok((parts, length)) => Ok((format!("{} {} {:?}", parts.method, parts.uri, parts.headers), length)),
            Err(HeadError::Malformed(detail)) => Err(detail),
            Err(HeadError::TooLarge(line)) => Ok((format!("too large {:?}", line.and_then(|line| line.2)), None)),
        };
        assert_eq!(found.as_ref().map(|(text, length)| (text.as_str(), *length)).map_err(|it| *it), expect);
    }

    const M: (&str, &str) = (":method", "GET");
    const S: (&str, &str) = (":scheme", "https");
    const A: (&str, &str) = (":authority", "a.example");
    const P: (&str, &str) = (":path", "/x?y");

    #[test]
    fn good_heads() {
        check(true, &[M, S, A, P], Ok(("GET https://a.example/x?y {}", None)));
        check(true, &[P, A, S, M, ("te", "trailers")], Ok(("GET https://a.example/x?y {\"te\": \"trailers\"}", None)));
        check(true, &[M, S, P, ("host", "a")], Ok(("GET /x?y {\"host\": \"a\"}", None)));
        check(
            false,
            &[M, S, A, P, ("content-length", "5")],
            Ok(("GET https://a.example/x?y {\"content-length\": \"5\"}", Some(5))),
        );
        check(true, &[(":method", "CONNECT"), A], Ok(("CONNECT a.example {}", None)));
        check(true, &[M, S, A, (":path", "/x?q=\"<y>")], Ok(("GET https://a.example/x?q=%22%3Cy%3E {}", None)));
        // The scheme is that of another hop.
        check(true, &[M, (":scheme", "http"), A, P], Ok(("GET http://a.example/x?y {}", None)));
        check(true, &[M, (":scheme", "http"), P, ("host", "a")], Ok(("GET /x?y {\"host\": \"a\"}", None)));
        const O: (&str, &str) = (":method", "OPTIONS");
        check(true, &[O, S, A, (":path", "*")], Ok(("OPTIONS https://a.example* {}", None)));
    }

    #[test]
    fn h10_h12_h13_h16_malformed_heads() {
        let (twice, missing) = (Err("pseudo header twice"), Err("pseudo header missing"));
        check(true, &[M, S, A, P, P], twice);
        check(true, &[M, M, S, A, P], twice);
        check(true, &[M, S, S, A, P], twice);
        check(true, &[M, S, A, A, P], twice);
        check(true, &[], missing);
        check(true, &[S, A, P], missing);
        check(true, &[M, A, P], missing);
        check(true, &[M, S, A], missing);
        check(true, &[M, A], missing);
        check(true, &[(":method", "CONNECT"), S, A, P], missing);
        check(true, &[(":method", "CONNECT"), (":protocol", "websocket"), S, A, P], Err("pseudo header of no request"));
        check(true, &[M, S, A, (":path", "*")], Err("* with another method than OPTIONS"));
        for path in ["", "?", "?x=1", "*?x", "**", "x", "http://a.example/", " /x"] {
            check(true, &[M, S, A, (":path", path)], Err("invalid :path"));
        }
        for scheme in ["", "ftp", "HTTPS", "https://a"] {
            check(true, &[M, (":scheme", scheme), A, P], Err("invalid :scheme"));
        }
        check(true, &[M, S, A, ("x", "y"), P], Err("pseudo header behind others"));
        check(true, &[M, S, A, P, ("content-length", "5")], Err("length without a body"));
        for field in [
            ("connection", "x"),
            ("keep-alive", "x"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
        ] {
            check(true, &[M, S, A, P, field], Err("connection header in HTTP/2"));
        }
    }

    #[test]
    fn h04_h17_heads_that_are_too_large() {
        let long = "x".repeat(100);
        let most: Vec<_> = [M, S, A, P].into_iter().chain(std::iter::repeat_n(("a", &*long), 7)).collect();
        check(true, &most, Ok(("too large Some(/x?y)", None)));
        check(true, &std::iter::repeat_n(("a", &*long), 8).collect::<Vec<_>>(), Ok(("too large None", None)));
        let many: Vec<_> = [M, S, A, P].into_iter().chain(std::iter::repeat_n(("a", ""), MAX_HEADERS + 1)).collect();
        assert!(matches!(read(1 << 20, &many).request(true), Err(HeadError::TooLarge(Some(_)))));
        assert!(read(1 << 20, &many[..MAX_HEADERS + 4]).request(true).is_ok());
    }

    #[test]
    fn f11_trailers() {
        assert_eq!(read(1_000, &[("x", "y")]).trailers().unwrap()["x"], "y");
        for wrong in [&[P][..], &[S], &[("X", "y")], &[("connection", "close")]] {
            assert!(matches!(read(1_000, wrong).trailers(), Err(HeadError::Malformed(_))), "{wrong:?}");
        }
        assert!(matches!(read(10, &[("x", "y")]).trailers(), Err(HeadError::TooLarge(None))));
    }
}
