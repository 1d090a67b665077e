//! Parses the head of a response of HTTP/1.1, and finds how its body ends (RFC 9112 6.3).

use std::{mem::MaybeUninit, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header, response};

use crate::{
    proxy::{
        framing::length::{Framing, LengthError, content_length, decimal},
        memory::buffer_pool,
        raw_head::{HeadFormat, RawHead, ReasonPhrase},
    },
    web::header_values,
};

/// The largest head, in bytes.
const MAX_HEAD: usize = 64 * 1_024;

/// The most header lines.
const MAX_HEADERS: usize = 100;

/// The headers that say how the body ends, and whether the connection stays open.
static SPEAKING: [HeaderName; 3] = [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The head of a response, final or interim.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) parts: response::Parts,
    /// Its lines, if they may be passed on as they came. The header map is empty then.
    pub(super) lines: Option<RawHead>,
    pub(super) framing: Framing,
    /// Whether the server takes another request on this connection.
    pub(super) keeps: bool,
    /// How long it says that it waits for that.
    pub(super) keeps_for: Option<Duration>,
}

/// Takes the head of the response to a request by `method` from what is `unread`. `None`: it is not complete, and what there
/// is of it is in `partial`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn take(
    unread: &mut Bytes,
    partial: &mut BytesMut,
    method: &Method,
    form: HeadFormat,
) -> Result<Option<ResponseHead>, &'static str> {
    if partial.is_empty() {
        if let Some(head) = parse(unread, method, form)? {
            return Ok(Some(head));
        }
        partial.extend_from_slice(unread);
    } else {
        let before = partial.len().saturating_sub(3);
        partial.extend_from_slice(unread);
        // Parsed again only when it is complete: a server that sends byte by byte costs no more than others.
        if partial.get(before..).is_some_and(|fresh| fresh.windows(4).any(|end| end == b"\r\n\r\n")) {
            let mut whole = partial.split().freeze();
            let head = parse(&mut whole, method, form)?.ok_or("no head")?;
            *unread = whole;
            return Ok(Some(head));
        }
    }
    *unread = Bytes::new();
    if partial.len() > MAX_HEAD { Err("head too large") } else { Ok(None) }
}

/// Takes the head of the response to a request by `method` from `bytes`. `None`: it is not complete.
pub(super) fn parse(
    bytes: &mut Bytes,
    method: &Method,
    form: HeadFormat,
) -> Result<Option<ResponseHead>, &'static str> {
    // The library would pass over empty lines.
    if bytes.first().is_some_and(|&first| first != b'H') {
        return Err("no status line");
    }
    let mut space = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("too many headers"),
        Err(_) => return Err("head breaks HTTP"),
    };
    let head = bytes.get(..length).unwrap_or_default();
    // It takes lines that end without CR: another parser may see other lines.
    let whole = |end: usize| end.checked_sub(1).and_then(|before| head.get(before)) == Some(&b'\r');
    if length > MAX_HEAD || !memchr::memchr_iter(b'\n', head).all(whole) {
        return Err("head breaks HTTP");
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("no status")?;
    let is_current = parsed.version == Some(1);
    let reason = ReasonPhrase::of(status, parsed.reason.unwrap_or_default());
    if form != HeadFormat::Map
        && is_current
        && *method != Method::HEAD
        && let Some(lines) = RawHead::of((status, reason.as_ref()), parsed.headers, form, head)
    {
        let framing = Framing::of(lines.length);
        let _head = bytes.split_to(length);
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = status;
        let keeps_for = lines.keeps_for;
        return Ok(Some(ResponseHead { parts, lines: Some(lines), framing, keeps: true, keeps_for }));
    }
    let mut headers = buffer_pool::map(parsed.headers.len() + SPARE);
    let (mut length_alone, mut speaks, mut keeps_for) = (None, false, None);
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_invalid| "header breaks HTTP")?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value));
        if name == header::CONTENT_LENGTH && length_alone.is_none() {
            length_alone = Some(line.value);
        } else if name == KEEP_ALIVE {
            keeps_for = header_values::keeps_for(line.value);
        } else {
            speaks |= SPEAKING.contains(&name);
        }
        headers.append(name, value.map_err(|_invalid| "header breaks HTTP")?);
    }
    let length_alone = length_alone.filter(|_| !speaks);
    // Most responses have a length, and no other header of this kind.
    let framing = match length_alone {
        Some(length) => of_length(length)?,
        None => framing(&headers, is_current)?,
    };
    let has_none = has_none(status, method);
    // A body where none may be would be taken for the next response.
    let has_none_ever = status.is_informational() || status == StatusCode::NO_CONTENT;
    let lies = has_none_ever && matches!(framing, Framing::Chunked(_) | Framing::Length(_));
    let unframed = !has_none && framing == Framing::UntilClose;
    let ends = lies || unframed || (speaks && closes(&headers));
    let keeps = is_current && !ends;
    let framing = if has_none { Framing::None } else { framing };
    let _head = bytes.split_to(length);
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.headers, parts.version) = (status, headers, Version::HTTP_11);
    if let Some(reason) = reason {
        parts.extensions.insert(reason);
    }
    Ok(Some(ResponseHead { parts, lines: None, framing, keeps, keeps_for }))
}

/// How many headers we add.
const SPARE: usize = 4;

/// The framing of the body, by the headers.
fn framing(headers: &HeaderMap, is_current: bool) -> Result<Framing, &'static str> {
    let coding = one(headers, &header::TRANSFER_ENCODING, "more than one Transfer-Encoding")?;
    if coding.is_some() && headers.contains_key(header::CONTENT_LENGTH) {
        return Err("Content-Length beside Transfer-Encoding");
    }
    match coding {
        Some(coding) if is_current && coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked(Box::default())),
        Some(_) => Err("Transfer-Encoding other than chunked"),
        None => {
            let length = content_length(headers).map_err(LengthError::of_response)?;
            Ok(length.map_or(Framing::UntilClose, Framing::of))
        }
    }
}

fn of_length(length: &[u8]) -> Result<Framing, &'static str> {
    decimal(length).map(Framing::of).ok_or(LengthError::NotANumber.of_response())
}

/// Whether there is no body, whatever the headers say.
fn has_none(status: StatusCode, method: &Method) -> bool {
    status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || *method == Method::HEAD
}

/// The one value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName, else_: &'static str) -> Result<Option<&'a [u8]>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(else_) } else { Ok(first.map(HeaderValue::as_bytes)) }
}

fn closes(headers: &HeaderMap) -> bool {
    header_values::has_member(headers, header::CONNECTION, b"close")
}
