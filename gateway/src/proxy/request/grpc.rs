//! Decides what gRPC adds to a request: how long its caller waits, how large its messages are, and in which words it is
//! refused. Everything else about it is HTTP/2.
//!
//! Messages are counted as they pass, never kept: what a prefix announces costs nothing.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};

use super::exchange::Record;
use crate::{
    proxy::body::{BodyError, ResponseBody},
    refusal::{Refusal, Reject},
};

/// The length of what stands before every message.
const PREFIX: usize = 5;

/// Whether the request is one of gRPC.
pub(in crate::proxy) fn is(head: &Parts) -> bool {
    if head.version != http::Version::HTTP_2 {
        return false;
    }
    let media_type = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let rest = media_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How long the caller waits at most; `None`: it does not say (G03).
///
/// # Errors
/// [`Reject::BadRequest`]: it says something that is no time.
pub(in crate::proxy) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let mut lines = headers.get_all("grpc-timeout").iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let time = if lines.next().is_none() { time(line.as_bytes()) } else { None };
    time.map(Some).ok_or_else(|| Refusal::new(Reject::BadRequest, "grpc-timeout is no time"))
}

/// One to eight digits and a unit.
fn time(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !matches!(digits.len(), 1..=8) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Where in a stream of messages a body is.
pub(in crate::proxy) struct Messages {
    most: u64,
    prefix: [u8; PREFIX],
    /// How much of the prefix has come.
    begun: usize,
    /// How much of the message is left.
    left: u64,
}

impl Messages {
    /// Messages of at most so many bytes.
    pub(in crate::proxy) const fn new(most: u64) -> Self {
        Self { most, prefix: [0; PREFIX], begun: 0, left: 0 }
    }

    /// Reads along.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] before anything of a message that is too large has passed, [`BodyError::Broken`].
    pub(in crate::proxy) fn read(&mut self, mut piece: &[u8]) -> Result<(), BodyError> {
        while let Some((&first, rest)) = piece.split_first() {
            if self.left > 0 {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
                self.left -= u64::try_from(taken).unwrap_or(self.left);
                piece = piece.get(taken..).unwrap_or_default();
                continue;
            }
            // Compressed or not: nothing else is said of a message.
            if self.begun == 0 && first > 1 {
                return Err(BodyError::Broken);
            }
            if let Some(place) = self.prefix.get_mut(self.begun) {
                *place = first;
            }
            self.begun += 1;
            piece = rest;
            if self.begun == PREFIX {
                let [_, length @ ..] = self.prefix;
                (self.begun, self.left) = (0, u64::from(u32::from_be_bytes(length)));
                if self.left > self.most {
                    return Err(BodyError::TooLarge);
                }
            }
        }
        Ok(())
    }

    /// Whether a message is whole.
    pub(in crate::proxy) const fn may_end(&self) -> bool {
        self.begun == 0 && self.left == 0
    }
}

/// The code that a refused caller is told, by <https://grpc.io/docs/guides/status-codes/>; `None`: what breaks HTTP is
/// answered in HTTP.
const fn code(reject: Reject) -> Option<&'static str> {
    Some(match reject {
        Reject::BadRequest
        | Reject::ExpectationFailed
        | Reject::HeadersTooLarge
        | Reject::Misdirected
        | Reject::UpgradeRequired
        | Reject::UriTooLong => return None,
        Reject::InvalidBody | Reject::UnsupportedMediaType => "3",
        Reject::RequestTimeout | Reject::UpstreamTimeout => "4",
        Reject::Banned | Reject::Forbidden | Reject::ForeignOrigin => "7",
        Reject::BodyTooComplex | Reject::BodyTooLarge | Reject::TooManyRequests => "8",
        Reject::MethodNotAllowed | Reject::NotFound => "12",
        Reject::Unavailable | Reject::UpstreamFailed => "14",
        Reject::InvalidToken | Reject::MissingToken => "16",
    })
}

/// The answer to a call that is refused: a status alone, in what would be trailers. Its record back: it is answered in
/// HTTP.
pub(in crate::proxy) fn refuse(reject: Reject, record: Box<Record>) -> Result<Response<ResponseBody>, Box<Record>> {
    let Some(code) = code(reject).filter(|_| record.is_grpc) else { return Err(record) };
    let id = record.told_id();
    let mut response = Response::new(ResponseBody::whole(bytes::Bytes::new(), record));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    headers.insert("grpc-message", HeaderValue::from_static(reject.row().title));
    headers.insert("x-request-id", id);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g03_times() {
        for (text, expect) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("5u", Some(Duration::from_micros(5))),
            ("00000007n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("1", None),
            ("123456789S", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1 S", None),
            ("1s", None),
        ] {
            assert_eq!(time(text.as_bytes()), expect, "{text:?}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(timeout(&headers), Ok(None));
        headers.append("grpc-timeout", HeaderValue::from_static("1S"));
        assert_eq!(timeout(&headers), Ok(Some(Duration::from_secs(1))));
        headers.append("grpc-timeout", HeaderValue::from_static("2S"));
        assert!(timeout(&headers).is_err());
    }

    /// What becomes of a body whose pieces are of `size`, and whether it may end there.
    #[track_caller]
    fn check(body: &[u8], expect: Result<bool, BodyError>) {
        for size in 1..=body.len().max(1) {
            let mut messages = Messages::new(10);
            let read = body.chunks(size).try_for_each(|piece| messages.read(piece));
            assert_eq!(read.map(|()| messages.may_end()), expect, "{body:?} in pieces of {size}");
        }
    }

    #[test]
    fn g02_messages() {
        check(b"", Ok(true));
        check(b"\0\0\0\0\0", Ok(true));
        check(b"\0\0\0\0\x02ab\x01\0\0\0\x01c", Ok(true));
        check(b"\0\0\0\0\x0a0123456789", Ok(true));
        check(b"\0\0\0\0\x02a", Ok(false));
        check(b"\0\0\0", Ok(false));
        check(b"\0\0\0\0\x0b", Err(BodyError::TooLarge));
        check(b"\0\0\0\0\x01a\x01\xff\xff\xff\xff", Err(BodyError::TooLarge));
        check(b"\x02\0\0\0\0", Err(BodyError::Broken));
        check(b"\0\0\0\0\x01ab", Err(BodyError::Broken));
    }
}
