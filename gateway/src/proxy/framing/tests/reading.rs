//! What it means to read a body of HTTP/1 safely, for all bytes there are: used by
//! the tests here, and written for a fuzzer.

use bytes::Bytes;
use http::HeaderMap;

use super::{encoder::BodyEncoder, length::Framing};
use crate::proxy::pieces::{Cut, Pieces};

/// A whole body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct ReadBody {
    pub(in crate::proxy) data: Vec<u8>,
    pub(in crate::proxy) trailers: Option<HeaderMap>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum NoBody {
    Broken(&'static str),
    Incomplete,
    /// The body is not over, and its bytes are not taken. This must never be.
    Stuck,
}

/// Reads a body that comes in `pieces`. What is read of the next message is left in `unread`.
pub(in crate::proxy) fn read(
    framing: &mut Framing,
    unread: &mut Bytes,
    pieces: &mut Pieces<'_>,
) -> Result<ReadBody, NoBody> {
    let mut data = Vec::new();
    loop {
        match framing.take(unread).map_err(NoBody::Broken)? {
            Some(piece) => data.extend_from_slice(&piece),
            None if framing.is_over() => break,
            None if !unread.is_empty() => return Err(NoBody::Stuck),
            None => match pieces.next() {
                Some(piece) => *unread = piece,
                None if *framing == Framing::UntilClose => break,
                None => return Err(NoBody::Incomplete),
            },
        }
    }
    let trailers = framing.trailers().map_err(NoBody::Broken)?;
    Ok(ReadBody { data, trailers })
}

/// Writes a body behind its head, in a few pieces.
///
/// # Errors
/// It is not as long as `encoder` says.
pub(in crate::proxy) fn write(mut encoder: BodyEncoder, data: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let wrong = |_wrong| "a body was not written".to_owned();
    for piece in data.chunks(data.len() / 3 + 1) {
        encoder.begin_piece(piece.len(), out).map_err(wrong)?;
        out.extend_from_slice(piece);
        encoder.end_piece(out);
    }
    encoder.end(out).map_err(wrong)
}

/// What is wrong with how the chunked body `raw` was read: another parser finds other data, or it is another body once it
/// was passed on.
pub(in crate::proxy) fn chunks_fault(raw: &[u8], read_body: &ReadBody) -> Result<(), String> {
    let Some(found) = by_another(raw) else { return Err("another parser finds no end of the chunks".to_owned()) };
    if found != read_body.data {
        return Err("another parser finds other data in the chunks".to_owned());
    }
    let mut out = Vec::new();
    write(BodyEncoder::Chunked, &read_body.data, &mut out)?;
    let mut framing = Framing::Chunked(Box::default());
    let (mut unread, mut none) = (Bytes::from(out), Pieces::new(&[], Cut::Whole));
    match read(&mut framing, &mut unread, &mut none) {
        Ok(again) if again.data == read_body.data && again.trailers.is_none() && unread.is_empty() => Ok(()),
        other => Err(format!("chunks that were passed on are read as {other:?}, and {} more bytes", unread.len())),
    }
}

/// The data of a chunked body, as `httparse` finds it.
fn by_another(raw: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut data) = (raw, Vec::new());
    loop {
        let Ok(httparse::Status::Complete((begin, size))) = httparse::parse_chunk_size(rest) else { return None };
        let behind = rest.get(begin..)?;
        if size == 0 {
            // What is left is the trailers.
            return behind.ends_with(b"\r\n").then_some(data);
        }
        let (chunk, behind) = behind.split_at_checked(usize::try_from(size).ok()?)?;
        data.extend_from_slice(chunk);
        rest = behind.strip_prefix(b"\r\n")?;
    }
}
