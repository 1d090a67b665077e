//! Checks a request's framing and connection headers. Whatever two parsers could read differently is refused, here and
//! nowhere else.

use http::{HeaderMap, Version, header, request::Parts};

use self::length::Framing;
use crate::{
    refusal::{Refusal, Reject},
    settings::proxy::HeadLimits,
    web::header_values,
};

pub(super) mod chunks;
pub(super) mod encoder;
pub(super) mod length;

#[cfg(any(test, fuzzing))]
#[path = "framing/tests/reading.rs"]
pub(super) mod reading;

/// The most header lines that can be allowed, cookie crumbs of HTTP/2 included.
pub const MAX_HEADERS: usize = HeadLimits::MOST_HEADERS;

/// Headers of HTTP/1 connections, which HTTP/2 forbids (RFC 9113 8.2.2).
pub(super) static OF_HTTP1: [http::HeaderName; 5] = [
    header::CONNECTION,
    http::HeaderName::from_static("keep-alive"),
    http::HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The headers that [`check`] looks at.
static CHECKED: [http::HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Checks a request's head.
///
/// # Errors
/// [`Reject::BadRequest`] or [`Reject::HeadersTooLarge`].
pub fn check(head: &Parts) -> Result<(), Refusal> {
    if head.headers.len() > MAX_HEADERS {
        return Err(Refusal::new(Reject::HeadersTooLarge, "too many headers"));
    }
    let connection_headers: &[_] = match head.version {
        Version::HTTP_10 | Version::HTTP_11 => &[],
        Version::HTTP_2 => &OF_HTTP1,
        _ => return Err(bad("version")),
    };
    // Most requests have none of the headers that are checked below.
    if !head.headers.keys().any(|name| CHECKED.contains(name)) {
        return Ok(());
    }
    if connection_headers.iter().any(|name| head.headers.contains_key(name)) {
        return Err(bad("connection header in HTTP/2"));
    }
    connection(&head.headers)?;
    transfer_encoding(&head.headers)?;
    content_length(&head.headers)?;
    content_type(&head.headers)?;
    expect(&head.headers)
}

/// The upstream must get the headers that we judged. So `Connection` cannot name headers of the content, or of
/// credentials (RFC 9110 7.6.1).
fn connection(headers: &HeaderMap) -> Result<(), Refusal> {
    let ours = |name: &[u8]| {
        name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
            || name.eq_ignore_ascii_case(b"authorization")
            || name.eq_ignore_ascii_case(b"cookie")
    };
    if header_values::members(headers, header::CONNECTION).any(ours) {
        return Err(bad("Connection names a header of the message"));
    }
    Ok(())
}

/// How the body of an HTTP/1 request ends (RFC 9112 6.3).
///
/// # Errors
/// [`Reject::BadRequest`]: it could end in more than one place, or in none.
pub(super) fn of_request(headers: &HeaderMap, version: Version) -> Result<Framing, Refusal> {
    transfer_encoding(headers)?;
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // HTTP/1.0 has no chunks (F05).
        let known = version == Version::HTTP_11;
        return if known { Ok(Framing::Chunked(Box::default())) } else { Err(bad("Transfer-Encoding in HTTP/1.0")) };
    }
    Ok(content_length(headers)?.map_or(Framing::None, Framing::Length))
}

/// Only `chunked`, once (RFC 9112 6.1): programs differ in how they read any other spelling.
fn transfer_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(bad("Transfer-Encoding other than chunked"));
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err(bad("Content-Length beside Transfer-Encoding"));
    }
    Ok(())
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    length::content_length(headers).map_err(|_wrong| bad("Content-Length is not one number"))
}

/// At most one media type: the schema check and the upstream could use different ones (B05).
fn content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get_all(header::CONTENT_TYPE).iter().nth(1).is_some() {
        return Err(bad("more than one Content-Type"));
    }
    Ok(())
}

/// RFC 9110 10.1.1 defines only `100-continue` (F15).
fn expect(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut expectations = headers.get_all(header::EXPECT).iter();
    let Some(expectation) = expectations.next() else { return Ok(()) };
    if expectations.next().is_some() || !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        return Err(Refusal::new(Reject::ExpectationFailed, "expectation other than 100-continue"));
    }
    Ok(())
}

fn bad(detail: &'static str) -> Refusal {
    Refusal::new(Reject::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check_head(version: Version, headers: &[(&str, &str)], expect: Result<(), &str>) {
        let mut request = Request::builder().version(version).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let checked = check(&head);
        assert_eq!(checked.as_ref().map_err(|refusal| &*refusal.detail).copied(), expect, "{version:?} {headers:?}");
    }

    #[test]
    fn framing() {
        use Version as V;
        const TE: &str = "transfer-encoding";
        const CL: &str = "content-length";
        let other = Err("Transfer-Encoding other than chunked");
        let number = Err("Content-Length is not one number");
        let named = Err("Connection names a header of the message");
        let expectation = Err("expectation other than 100-continue");
        for (version, headers, expect) in [
            (V::HTTP_11, &[][..], Ok(())),
            (V::HTTP_10, &[(CL, "5")], Ok(())),
            (V::HTTP_11, &[(TE, "chunked")], Ok(())),
            (V::HTTP_11, &[(TE, "Chunked")], Ok(())),
            (V::HTTP_11, &[(TE, "gzip, chunked")], other),
            (V::HTTP_11, &[(TE, "identity"), (TE, "chunked")], other),
            (V::HTTP_11, &[(TE, "chunked"), (TE, "chunked")], other),
            (V::HTTP_11, &[(TE, ",chunked")], other),
            (V::HTTP_11, &[(TE, "\"chunked\"")], other),
            (V::HTTP_11, &[(TE, "xchunked")], other),
            (V::HTTP_11, &[(TE, "chunked"), (CL, "5")], Err("Content-Length beside Transfer-Encoding")),
            (V::HTTP_11, &[(CL, "5"), (CL, "5")], number),
            (V::HTTP_11, &[(CL, "+5")], number),
            (V::HTTP_11, &[(CL, "")], number),
            (V::HTTP_11, &[(CL, "5, 5")], number),
            (V::HTTP_11, &[("content-type", "text/plain")], Ok(())),
            (V::HTTP_11, &[("content-type", "a/json"), ("content-type", "a/json")], Err("more than one Content-Type")),
            (V::HTTP_11, &[("connection", "keep-alive, x-own, X-Forwarded-For, upgrade")], Ok(())),
            (V::HTTP_11, &[("connection", "close, Content-Type")], named),
            (V::HTTP_11, &[("connection", "close"), ("connection", "AUTHORIZATION")], named),
            (V::HTTP_11, &[("connection", "cookie")], named),
            (V::HTTP_11, &[("expect", "100-Continue")], Ok(())),
            (V::HTTP_11, &[("expect", "y 100-continue")], expectation),
            (V::HTTP_11, &[("expect", "100-continue"), ("expect", "100-continue")], expectation),
            (V::HTTP_2, &[(CL, "5"), ("te", "trailers")], Ok(())),
            (V::HTTP_2, &[("connection", "close")], Err("connection header in HTTP/2")),
            (V::HTTP_2, &[(TE, "chunked")], Err("connection header in HTTP/2")),
            (V::HTTP_2, &[("upgrade", "h2c")], Err("connection header in HTTP/2")),
            (V::HTTP_09, &[], Err("version")),
            (V::HTTP_3, &[], Err("version")),
        ] {
            check_head(version, headers, expect);
        }
        check_head(V::HTTP_2, &[("cookie", "a"); MAX_HEADERS + 1], Err("too many headers"));
    }
}
