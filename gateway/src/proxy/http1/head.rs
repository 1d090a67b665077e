//! Reads the head of a client's request, and how the body behind it ends (RFC 9112): in one way, or not at all.
//!
//! Refused: lines that end without CR (F07), versions other than 1.0 and 1.1 (F17), a fragment in the target (F19),
//! broken lines (F06, F20), and every framing that two parsers could read differently (F01-F05). The connection ends
//! with the answer, as nobody knows where the next request would begin.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts, uri::PathAndQuery};

use crate::{
    proxy::{
        framing::{self, MAX_HEADERS, length::Framing},
        memory::buffer_pool,
        service::RequestLine,
    },
    refusal::{Refusal, Reject},
    settings::proxy::HeadLimits,
    web::{header_values, path::escape_query},
};

/// How many headers the gateway adds.
const SPARE: usize = 10;

/// The headers that say how the body and the connection go on.
static SPEAKING: [HeaderName; 4] =
    [header::CONNECTION, header::CONTENT_LENGTH, header::EXPECT, header::TRANSFER_ENCODING];

/// A request whose head is complete.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) parts: Box<Parts>,
    pub(super) framing: Framing,
    /// Whether the client means to send another request on this connection.
    pub(super) keeps: bool,
    /// Whether it waits for `100 (Continue)` before it sends the body.
    pub(super) expects: bool,
}

/// Why there is no request, and its line where that could be read.
#[derive(Debug)]
pub(super) struct MalformedHead {
    pub(super) refusal: Refusal,
    pub(super) line: Option<Box<RequestLine>>,
}

impl From<Refusal> for MalformedHead {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, line: None }
    }
}

/// What has come of a head. Looked through once, however slowly it comes.
#[derive(Default)]
pub(super) struct HeadReader {
    partial: BytesMut,
    looked: usize,
}

impl HeadReader {
    /// Whether nothing of a head has come.
    pub(super) fn is_fresh(&self) -> bool {
        self.partial.is_empty()
    }

    /// Takes a head within `limits` off what has come now. `None`: it is not complete, and nothing is left.
    pub(super) fn take(&mut self, fresh: &mut Bytes, limits: HeadLimits) -> Result<Option<RequestHead>, MalformedHead> {
        if self.partial.is_empty() {
            // RFC 9112 2.2: empty lines may stand before a request.
            while fresh.starts_with(b"\r\n") {
                fresh.advance(2);
            }
            if let Some(end) = end(fresh, 0)? {
                return read(fresh, end, limits).map(Some);
            }
            self.partial.extend_from_slice(fresh);
        } else {
            self.partial.extend_from_slice(fresh);
            if self.partial.starts_with(b"\r\n") {
                *fresh = std::mem::take(self).partial.freeze();
                return self.take(fresh, limits);
            }
            if let Some(end) = end(&self.partial, self.looked)? {
                *fresh = std::mem::take(self).partial.freeze();
                return read(fresh, end, limits).map(Some);
            }
        }
        fresh.clear();
        self.looked = self.partial.len();
        if self.looked <= limits.bytes {
            return Ok(None);
        }
        let is_line = memchr::memchr(b'\n', &self.partial).is_none();
        Err(too_large(is_line).into())
    }
}

fn too_large(is_line: bool) -> Refusal {
    let reject = if is_line { Reject::UriTooLong } else { Reject::HeadersTooLarge };
    Refusal::new(reject, "head too large")
}

fn bad(detail: &'static str) -> Refusal {
    Refusal::new(Reject::BadRequest, detail)
}

/// Where the head ends, if it does; the first `looked` bytes have been looked at before.
fn end(bytes: &[u8], looked: usize) -> Result<Option<usize>, Refusal> {
    let fresh = bytes.get(looked..).unwrap_or_default();
    for feed in memchr::memchr_iter(b'\n', fresh) {
        let line = bytes.get(..looked + feed).unwrap_or_default();
        if line.last() != Some(&b'\r') {
            return Err(bad("line ends without CR"));
        }
        if line.ends_with(b"\r\n\r") {
            return Ok(Some(looked + feed + 1));
        }
    }
    Ok(None)
}

/// Reads the head, which is the first `end` bytes.
fn read(bytes: &mut Bytes, end: usize, limits: HeadLimits) -> Result<RequestHead, MalformedHead> {
    let head = bytes.split_to(end);
    if end > limits.bytes {
        let is_line = memchr::memchr(b'\n', &head).is_none_or(|line| line > limits.bytes);
        return Err(too_large(is_line).into());
    }
    let mut space = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let space = space.get_mut(..limits.headers).unwrap_or_default();
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(&head, space) {
        Ok(httparse::Status::Complete(length)) if length == end => {}
        Ok(_) => return Err(bad("head breaks HTTP").into()),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(Reject::HeadersTooLarge, "too many headers").into());
        }
        Err(httparse::Error::Version) => return Err(bad("version").into()),
        Err(_) => return Err(bad("head breaks HTTP").into()),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(bad("no request line").into());
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_invalid| bad("invalid method"))?;
    // The library would drop a fragment.
    if memchr::memchr(b'#', target.as_bytes()).is_some() {
        return Err(bad("fragment in the target").into());
    }
    if target.len() >= usize::from(u16::MAX) {
        return Err(too_large(true).into());
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes())).ok();
    let uri = uri.or_else(|| Uri::try_from(escape_query(target.as_bytes())?).ok());
    let mut uri = uri.ok_or_else(|| bad("invalid target"))?;
    if method == Method::OPTIONS && uri.scheme().is_some() && names_server(target) {
        // RFC 9112 3.2.4: without a path it is about the server as a whole. The library would make it `/`.
        let mut whole = uri.into_parts();
        whole.path_and_query = Some(PathAndQuery::from_static("*"));
        uri = Uri::from_parts(whole).map_err(|_invalid| bad("invalid target"))?;
    }
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut parts = buffer_pool::parts(parsed.headers.len() + SPARE);
    let headers = &mut parts.headers;
    let path = || uri.path_and_query().cloned();
    let line = |refusal| MalformedHead { refusal, line: Some(Box::new((method.clone(), version, path()))) };
    let mut speaks = version == Version::HTTP_10;
    for parsed in parsed.headers.iter() {
        let name = HeaderName::from_bytes(parsed.name.as_bytes()).map_err(|_long| line(bad("invalid header name")))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(parsed.value));
        speaks |= SPEAKING.contains(&name);
        headers.append(name, value.map_err(|_invalid| line(bad("invalid header value")))?);
    }
    // Most requests say nothing of what is looked for here.
    let (mut framing, mut keeps, mut expects) = (Framing::None, version == Version::HTTP_11, false);
    if speaks {
        framing = framing::of_request(headers, version).map_err(line)?;
        keeps = self::keeps(headers, version);
        expects = version == Version::HTTP_11
            && headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    }
    (parts.method, parts.uri, parts.version) = (method, uri, version);
    Ok(RequestHead { parts, framing, keeps, expects })
}

/// Whether a target that begins with a scheme is `http://a.example`, with nothing behind the authority. The path and
/// the query of other targets may contain a URL, so this says nothing of them.
fn names_server(target: &str) -> bool {
    target.split_once("://").is_some_and(|(_, authority)| !authority.contains(['/', '?']))
}

/// Whether the connection outlasts the request (RFC 9112 9.3).
fn keeps(headers: &HeaderMap, version: Version) -> bool {
    let mut keeps = version == Version::HTTP_11;
    for option in header_values::members(headers, header::CONNECTION) {
        if option.eq_ignore_ascii_case(b"close") {
            return false;
        }
        keeps |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    keeps
}
