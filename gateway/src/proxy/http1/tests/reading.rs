//! What it means to read a client's HTTP/1 safely, for all bytes there are: used by
//! the tests here, and written for a fuzzer.
//!
//! Wherever the bytes are cut, they are read alike. What an upstream is sent of a request, it reads as we have.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{Method, header, request::Parts, uri::PathAndQuery};

use super::head::HeadReader;
use crate::{
    policy::auth::IdentityHeaders,
    proxy::{
        body::Upload,
        framing::{
            self,
            length::Framing,
            reading::{NoBody, ReadBody, chunks_fault, read},
        },
        pieces::{Cut, Pieces},
        upstream::{UpstreamRequest, headers, reading::written},
    },
    refusal::Reject,
    route::target::Target,
    settings::proxy::HeadLimits,
    web::request_id::RequestId,
};

const LIMITS: HeadLimits = HeadLimits { bytes: 2_048, headers: 60, target: usize::MAX };

/// Those of an upstream, which gets some headers more.
const LARGER: HeadLimits = HeadLimits { bytes: usize::MAX, headers: 100, target: usize::MAX };

const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 8_443);

/// What is read of a connection.
struct Reading<'a> {
    requests: Vec<ReadRequest<'a>>,
    end: End,
}

struct ReadRequest<'a> {
    parts: Box<Parts>,
    keeps: bool,
    expects: bool,
    is_chunked: bool,
    length: Option<u64>,
    /// `None`: it is not whole.
    body: Option<ReadBody>,
    /// Its bytes, where those were not cut.
    raw: &'a [u8],
}

/// Why there is no other request.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Body(NoBody),
    Closes,
    Incomplete,
    Refused(Reject),
}

/// What is wrong with how `bytes` are read; `None`: nothing is.
pub(in crate::proxy) fn fault(bytes: &[u8]) -> Option<String> {
    let whole = requests(bytes, Cut::Whole);
    if whole.end == End::Body(NoBody::Stuck) {
        return Some("bytes of a body are never taken".to_owned());
    }
    let cut = |cut| whole.difference(&requests(bytes, cut)).map(|what| format!("cut by {cut:?}, {what}"));
    Cut::ways(bytes).into_iter().find_map(cut).or_else(|| whole.requests.into_iter().find_map(ReadRequest::fault))
}

/// Reads the requests of a connection, as [`serve`](super::serve) does.
fn requests(bytes: &[u8], cut: Cut) -> Reading<'_> {
    let (mut pieces, mut reader, mut unread) = (Pieces::new(bytes, cut), HeadReader::default(), Bytes::new());
    let mut requests = Vec::new();
    let end = loop {
        if unread.is_empty() {
            let Some(piece) = pieces.next() else { break End::Incomplete };
            unread = piece;
        }
        let head = match reader.take(&mut unread, LIMITS) {
            Ok(Some(head)) => head,
            Ok(None) => continue,
            Err(malformed) => break End::Refused(malformed.refusal.reject),
        };
        let mut framing = head.framing;
        let (is_chunked, length) = (matches!(framing, Framing::Chunked(_)), framing.left());
        let begin = bytes.len().saturating_sub(unread.len());
        let body =
            if framing.is_over() { Ok(ReadBody::default()) } else { read(&mut framing, &mut unread, &mut pieces) };
        let raw = bytes.get(begin..bytes.len().saturating_sub(unread.len())).unwrap_or_default();
        let (keeps, end) = (head.keeps, body.as_ref().err().copied());
        let (parts, expects) = (head.parts, head.expects);
        requests.push(ReadRequest { parts, keeps, expects, is_chunked, length, body: body.ok(), raw });
        match end {
            Some(none) => break End::Body(none),
            None if !keeps => break End::Closes,
            None => {}
        }
    };
    Reading { requests, end }
}

impl Reading<'_> {
    fn difference(&self, other: &Self) -> Option<String> {
        // What is too large may be found broken as well where more of it is seen at once.
        let is_refused = matches!((&self.end, &other.end), (End::Refused(_), End::Refused(_)));
        let is_too_large = self.end.is_too_large() || other.end.is_too_large();
        let is_same_end = self.end == other.end || is_refused && is_too_large;
        if !is_same_end || self.requests.len() != other.requests.len() {
            let (one, two) = (self.requests.len(), other.requests.len());
            return Some(format!("there are {two} requests instead of {one}, then {:?}, {:?}", other.end, self.end));
        }
        let differs = |(one, other): (&ReadRequest<'_>, &ReadRequest<'_>)| one.differs(other);
        let is_other = self.requests.iter().zip(&other.requests).any(differs);
        is_other.then(|| "a request is another".to_owned())
    }
}

impl End {
    const fn is_too_large(&self) -> bool {
        matches!(self, Self::Refused(Reject::HeadersTooLarge | Reject::UriTooLong))
    }
}

impl ReadRequest<'_> {
    fn differs(&self, other: &Self) -> bool {
        let (one, two) = (&self.parts, &other.parts);
        (&one.method, &one.uri, one.version, &one.headers) != (&two.method, &two.uri, two.version, &two.headers)
            || (self.keeps, self.expects) != (other.keeps, other.expects)
            || (self.is_chunked, self.length) != (other.is_chunked, other.length)
            || self.body != other.body
    }

    /// What is wrong with it by itself.
    fn fault(self) -> Option<String> {
        let body = self.body?;
        if self.is_chunked
            && let Err(what) = chunks_fault(self.raw, &body)
        {
            return Some(what);
        }
        let has_body = self.is_chunked || self.length.is_some_and(|length| length > 0);
        forwarded(self.parts, has_body.then_some(body.data.as_slice())).err()
    }
}

/// What is wrong with a request that is served: its upstream reads another one.
fn forwarded(mut parts: Box<Parts>, body: Option<&[u8]>) -> Result<(), String> {
    if framing::check(&parts).is_err() {
        return Ok(());
    }
    let Ok(target) = Target::read(&parts, LOCAL, LIMITS.target) else { return Ok(()) };
    decodes_alike(parts.uri.path(), target.path())?;
    let (none, method) = (IdentityHeaders::default(), parts.method.clone());
    let told = headers::ForwardedHeaders {
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        scheme: "https",
        forwarded: None,
        authority: target.authority(),
        id: RequestId(0xab),
        identity: None,
        identity_headers: &none,
        token: None,
        own: &[],
        certificate: None,
        passing: &[],
    };
    let mut expected = parts.headers.clone();
    headers::request(&mut expected, &told);
    let lines = headers::request_by_lines(&mut parts.headers, &told);
    parts.uri = target.origin().clone().into();
    let (upload, data) = (
        body.map_or(Upload::Empty, |data| Upload::Whole(Bytes::copy_from_slice(data).into())),
        body.unwrap_or_default(),
    );
    let head = written(&UpstreamRequest::new(parts, upload, lines));
    lines_fault(&head)?;
    let mut sent = Bytes::from([head.as_slice(), data].concat());
    let again = match HeadReader::default().take(&mut sent, LARGER) {
        Ok(Some(again)) => again,
        other => return Err(format!("{:?} is read as {other:?}", String::from_utf8_lossy(&head))),
    };
    let length = expected_length(&method, body);
    let mut found = again.parts.headers.clone();
    found.remove(header::CONTENT_LENGTH);
    let is_same = again.parts.method == method
        && again.parts.uri.path_and_query() == Some(target.origin())
        && again.framing == length.map_or(Framing::None, Framing::Length)
        && (again.keeps, again.expects) == (true, false)
        && found == expected
        && sent == data;
    if !is_same {
        return Err(format!("{:?} is read as {again:?}, and not with {expected:?}", String::from_utf8_lossy(&head)));
    }
    same_target(again.parts, &target)
}

/// What an upstream is told of the length of a body.
fn expected_length(method: &Method, body: Option<&[u8]>) -> Option<u64> {
    match body {
        Some(data) => u64::try_from(data.len()).ok(),
        None if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) => None,
        None => Some(0),
    }
}

/// What is wrong with the lines of a head to somebody who knows nothing but line ends and colons.
fn lines_fault(head: &[u8]) -> Result<(), String> {
    let wrong = || format!("{:?} is no head", String::from_utf8_lossy(head));
    let text = head.strip_suffix(b"\r\n\r\n").ok_or_else(wrong)?;
    let is_control = |byte: &u8| *byte < b' ' && *byte != b'\t' || *byte == 0x7f;
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
        lines.push(rest.get(..end).unwrap_or_default());
        rest = rest.get(end + 2..).unwrap_or_default();
    }
    lines.push(rest);
    let first = lines.first().copied().unwrap_or_default();
    let is_good = first.iter().filter(|byte| **byte == b' ').count() == 2
        && !lines.iter().any(|line| line.iter().any(is_control))
        && lines
            .iter()
            .skip(1)
            .all(|line| !line.starts_with(b" ") && memchr::memchr(b':', line).is_some_and(|at| at > 0));
    if is_good { Ok(()) } else { Err(wrong()) }
}

/// The target is the same when it is read again, and in another spelling.
fn same_target(mut parts: Box<Parts>, target: &Target) -> Result<(), String> {
    let origins = [Some(target.origin().clone()), respelt(target)];
    for origin in origins.into_iter().flatten() {
        parts.uri = origin.into();
        let again = Target::read(&parts, LOCAL, LIMITS.target);
        if again.as_ref().ok() != Some(target) {
            return Err(format!("{} is read as {again:?}, and not as {target:?}", parts.uri));
        }
    }
    Ok(())
}

/// The same target with escapes wherever none is needed. `None`: there is no such spelling.
fn respelt(target: &Target) -> Option<PathAndQuery> {
    let path = target.path().strip_prefix('/')?;
    let mut text = "/".to_owned();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'/' | b';' => text.push(char::from(byte)),
            b'%' => {
                text.push('%');
                text.extend(bytes.by_ref().take(2).map(char::from));
            }
            _ => text.push_str(&format!("%{byte:02x}")),
        }
    }
    if let Some(query) = target.origin().query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text).ok()
}

/// A path and its canonical form mean the same bytes.
fn decodes_alike(path: &str, canonical: &str) -> Result<(), String> {
    // Without a path, it is `/`.
    if path.is_empty() || decoded(path) == decoded(canonical) {
        return Ok(());
    }
    Err(format!("{path:?} and {canonical:?} are not the same path"))
}

fn decoded(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, behind)) = rest.split_first() {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let value = match (byte, behind) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(value.unwrap_or(byte));
        rest = if value.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    out
}
