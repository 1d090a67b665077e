//! What it means to read a server's HTTP/1 safely, for all bytes there are, and what it is sent: used by
//! the tests here, and written for a fuzzer.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};

use super::{MAX_INTERIM, request_writer, response};
use crate::proxy::{
    framing::{
        length::Framing,
        reading::{NoBody, ReadBody, chunks_fault, read},
    },
    pieces::{Cut, Pieces},
    raw_head::{HeadFormat, RawHead},
    upstream::UpstreamRequest,
};

/// A whole response.
#[derive(Debug)]
pub(in crate::proxy) struct ReadResponse {
    pub(in crate::proxy) status: StatusCode,
    pub(in crate::proxy) headers: HeaderMap,
    /// The lines of the head, where they are passed on as they came. There are no headers then.
    pub(in crate::proxy) lines: Option<RawHead>,
    pub(in crate::proxy) keeps: bool,
    pub(in crate::proxy) is_chunked: bool,
    /// The length that its head tells.
    pub(in crate::proxy) length: Option<u64>,
    pub(in crate::proxy) body: ReadBody,
    /// How many bytes came behind it.
    pub(in crate::proxy) behind: usize,
}

/// Reads the response to a request by `method`, in a form, wherever the bytes are cut. `None`: there is none.
///
/// # Errors
/// It is not the same everywhere, or another parser reads other chunks.
pub(in crate::proxy) fn read_response(
    bytes: &[u8],
    method: &Method,
    form: HeadFormat,
) -> Result<Option<ReadResponse>, String> {
    let whole = one(bytes, Cut::Whole, method, form)?;
    for cut in Cut::ways(bytes) {
        let found = one(bytes, cut, method, form)?;
        let is_same = match (&whole, &found) {
            (Some(one), Some(other)) => one.is_same(other),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            return Err(format!("in {form:?}, cut by {cut:?}, {whole:?} is {found:?}"));
        }
    }
    Ok(whole)
}

/// The head of a request, as a server is sent it.
pub(in crate::proxy) fn written(request: &UpstreamRequest) -> Vec<u8> {
    let mut out = Vec::new();
    let _framing = request_writer::head(request, &mut out);
    out
}

/// Reads one response, as [`H1Connection`](super::H1Connection) does.
fn one(bytes: &[u8], cut: Cut, method: &Method, form: HeadFormat) -> Result<Option<ReadResponse>, String> {
    let (mut pieces, mut unread, mut partial) = (Pieces::new(bytes, cut), Bytes::new(), BytesMut::new());
    let mut interim = 0;
    let head = loop {
        if unread.is_empty() {
            let Some(piece) = pieces.next() else { return Ok(None) };
            unread = piece;
        }
        match response::take(&mut unread, &mut partial, method, form) {
            Ok(Some(head)) if head.is_interim() => interim += 1,
            Ok(Some(head)) => break head,
            Ok(None) => {}
            Err(_malformed) => return Ok(None),
        }
        if interim > MAX_INTERIM {
            return Ok(None);
        }
    };
    let mut framing = head.framing;
    let (is_chunked, length) = (matches!(framing, Framing::Chunked(_)), framing.left());
    let begin = bytes.len().saturating_sub(unread.len());
    let body = match framing.is_over() {
        true => ReadBody::default(),
        false => match read(&mut framing, &mut unread, &mut pieces) {
            Ok(body) => body,
            Err(NoBody::Stuck) => return Err("bytes of a body are never taken".to_owned()),
            Err(NoBody::Broken(_) | NoBody::Incomplete) => return Ok(None),
        },
    };
    if is_chunked && matches!(cut, Cut::Whole) {
        let raw = bytes.get(begin..bytes.len().saturating_sub(unread.len())).unwrap_or_default();
        chunks_fault(raw, &body)?;
    }
    let behind = unread.len() + pieces.map(|piece| piece.len()).sum::<usize>();
    let (status, headers) = (head.parts.status, head.parts.headers);
    Ok(Some(ReadResponse { status, headers, lines: head.lines, keeps: head.keeps, is_chunked, length, body, behind }))
}

impl ReadResponse {
    fn is_same(&self, other: &Self) -> bool {
        let lines = |read: &Self| read.lines.as_ref().map(|lines| (lines.out.clone(), lines.length, lines.has_date));
        self.is_alike(other) && self.headers == other.headers && lines(self) == lines(other)
    }

    /// Whether it is the same but for its headers.
    pub(in crate::proxy) fn is_alike(&self, other: &Self) -> bool {
        (self.status, self.keeps, self.is_chunked) == (other.status, other.keeps, other.is_chunked)
            && (self.length, &self.body, self.behind) == (other.length, &other.body, other.behind)
    }
}
