//! Passes header lines of a response on as they came, without parsing them into a map. That is possible where the
//! response has no special framing and no connection headers, from HTTP/1.1 to HTTP/1.1 or to HTTP/2.
//!
//! *Invariant:* a head that passes has one length and one reading. Everything doubtful is parsed into a header map.

use std::{ops::Range, time::Duration};

use http::StatusCode;

use super::{framing::length::decimal, hpack, memory::buffer_pool};
use crate::web::header_values;

/// The longest reason phrase that passes, in bytes. Some clients read short status lines only.
const LONGEST_REASON: usize = 256;

/// In which form a response's head is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadFormat {
    /// As a header map: somebody has to look at the headers.
    Map,
    /// As lines of HTTP/1.1, unless one of them needs a look.
    Lines,
    /// The same, encoded as fields of HTTP/2.
    Fields,
}

/// The status line and header lines of a response, as the client gets them.
#[derive(Debug)]
pub(super) struct RawHead {
    form: HeadFormat,
    pub(super) out: Vec<u8>,
    /// The value of `Content-Length`; its line is among them.
    pub(super) length: u64,
    pub(super) has_date: bool,
    /// How long the server says that it keeps the connection when nothing passes.
    pub(super) keeps_for: Option<Duration>,
}

/// How a server has put the status of its response into words, where it has words of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReasonPhrase(Box<str>);

impl ReasonPhrase {
    /// `None`: there is none, it is the usual one, or it is no text that every client reads alike (RFC 9112 4).
    pub(super) fn of(status: StatusCode, text: &str) -> Option<Self> {
        let is_text = text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        let is_own = !text.is_empty() && status.canonical_reason() != Some(text);
        (is_own && is_text && text.len() <= LONGEST_REASON).then(|| Self(text.into()))
    }
}

/// What a header line is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// The message, or an unknown header.
    Message,
    Connection,
    Date,
    /// How long the server keeps its connection. It does not pass.
    KeepAlive,
    Length,
    /// It does not pass.
    Nobody,
    /// It has to be parsed.
    Special,
}

impl RawHead {
    /// `lines` are those of `head`. `None`: some of them have to be parsed.
    pub(super) fn of(
        (status, reason): (StatusCode, Option<&ReasonPhrase>),
        lines: &[httparse::Header<'_>],
        form: HeadFormat,
        head: &[u8],
    ) -> Option<Self> {
        // The meaning of these depends on the request or on other headers.
        if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return None;
        }
        let mut all = Self { form, out: buffer_pool::space(), length: 0, has_date: false, keeps_for: None };
        match form {
            HeadFormat::Map => return None,
            HeadFormat::Lines => status_line(b"HTTP/1.1 ", status, reason, &mut all.out),
            HeadFormat::Fields => hpack::status(status, &mut all.out),
        }
        let mut length = None;
        // Adjacent lines are copied together.
        let mut run = 0..0;
        for line in lines {
            match about(line.name.as_bytes()) {
                About::Message => {}
                About::Date => all.has_date = true,
                About::KeepAlive => {
                    all.keeps_for = header_values::keeps_for(line.value);
                    continue;
                }
                About::Nobody => continue,
                About::Connection if line.value.eq_ignore_ascii_case(b"keep-alive") => continue,
                About::Length if length.is_none() => length = Some(decimal(line.value)?),
                About::Connection | About::Length | About::Special => return None,
            }
            match place(line, head).filter(|_| form == HeadFormat::Lines) {
                Some(place) if place.start == run.end => run.end = place.end,
                Some(place) => {
                    all.out.extend_from_slice(head.get(std::mem::replace(&mut run, place)).unwrap_or_default());
                }
                None => {
                    all.out.extend_from_slice(head.get(std::mem::take(&mut run)).unwrap_or_default());
                    all.add(line.name, line.value);
                }
            }
        }
        all.out.extend_from_slice(head.get(run).unwrap_or_default());
        all.length = length?;
        Some(all)
    }

    /// Adds a line.
    pub(super) fn add(&mut self, name: &str, value: &[u8]) {
        match self.form {
            HeadFormat::Map | HeadFormat::Lines => line(name, value, &mut self.out),
            HeadFormat::Fields => hpack::field(name.as_bytes(), value, &mut self.out),
        }
    }
}

impl Drop for RawHead {
    fn drop(&mut self) {
        buffer_pool::keep_space(std::mem::take(&mut self.out));
    }
}

/// Writes a response's first line; `version` ends with a space.
pub(super) fn status_line(version: &[u8], status: StatusCode, reason: Option<&ReasonPhrase>, out: &mut Vec<u8>) {
    out.extend_from_slice(version);
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let reason = reason.map_or_else(|| status.canonical_reason().unwrap_or_default(), |reason| &*reason.0);
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a header line.
pub(super) fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Where in `head` the line is, if it is written as we would.
fn place(line: &httparse::Header<'_>, head: &[u8]) -> Option<Range<usize>> {
    let at = |part: &[u8]| part.as_ptr().addr().checked_sub(head.as_ptr().addr());
    let (start, value) = (at(line.name.as_bytes())?, at(line.value)?);
    let (colon, end) = (start + line.name.len(), value + line.value.len());
    let is_plain = value == colon + 2 && head.get(colon..value)? == b": " && head.get(end..end + 2)? == b"\r\n";
    is_plain.then_some(start..end + 2)
}

/// Sorted by length, in which most lines differ.
fn about(name: &[u8]) -> About {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 if is(b"te") => About::Special,
        4 if is(b"date") => About::Date,
        7 if is(b"trailer") || is(b"upgrade") => About::Special,
        10 if is(b"connection") => About::Connection,
        10 if is(b"keep-alive") => About::KeepAlive,
        // The request id is ours to set.
        12 if is(b"x-request-id") => About::Nobody,
        14 if is(b"content-length") => About::Length,
        14 if is(b"http2-settings") => About::Special,
        16 if is(b"proxy-connection") => About::Special,
        17 if is(b"transfer-encoding") => About::Special,
        18 if is(b"proxy-authenticate") => About::Special,
        19 if is(b"proxy-authorization") => About::Special,
        25 if is(b"strict-transport-security") => About::Special,
        _ => About::Message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: u16, lines: &[(&str, &str)], expect: Option<&str>) {
        let lines: Vec<_> =
            lines.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        let passed = RawHead::of((StatusCode::from_u16(code).unwrap(), None), &lines, HeadFormat::Lines, b"");
        let text = passed.as_ref().map(|it| String::from_utf8_lossy(&it.out).into_owned());
        assert_eq!(text.as_deref(), expect, "{code} {lines:?}");
    }

    #[test]
    fn lines_pass_as_they_came() {
        check(
            200,
            &[
                ("Server", "x"),
                ("Content-Length", "5"),
                ("Connection", "keep-alive"),
                ("Keep-Alive", "timeout=5"),
                ("X-Request-Id", "theirs"),
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
                ("Empty", ""),
            ],
            Some(
                "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nEmpty: \r\n",
            ),
        );
        check(503, &[("content-length", "0")], Some("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n"));
    }

    /// The lines of a head that pass.
    #[track_caller]
    fn check_head(head: &str, form: HeadFormat, expect: &[u8]) {
        let mut lines = [httparse::EMPTY_HEADER; 16];
        let mut answer = httparse::Response::new(&mut lines);
        assert!(answer.parse(head.as_bytes()).unwrap().is_complete());
        let mut passed = RawHead::of((StatusCode::OK, None), answer.headers, form, head.as_bytes()).unwrap();
        passed.add("own", b"1");
        assert_eq!(passed.out, expect, "{head:?} {:?}", String::from_utf8_lossy(&passed.out));
    }

    #[test]
    fn lines_pass_together_where_they_stand_together() {
        let head = "HTTP/1.1 200 OK\r\nServer: x\r\nA: \r\nX-Request-Id: theirs\r\nContent-Length:5\r\nB:  c \r\nD: e\r\n\
            Connection: keep-alive\r\nKeep-Alive: 1\r\nF: g: h\r\nI: j\r\n\r\nK: l\r\n";
        let expect = "HTTP/1.1 200 OK\r\nServer: x\r\nA: \r\nContent-Length: 5\r\nB: c\r\nD: e\r\nF: g: h\r\nI: j\r\n\
            own: 1\r\n";
        check_head(head, HeadFormat::Lines, expect.as_bytes());
        check_head(
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            HeadFormat::Lines,
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nown: 1\r\n",
        );
        let packed = b"\x88\x0f\x0d\x015\x00\x01x\x01y\x00\x03own\x011";
        check_head("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n", HeadFormat::Fields, packed);
    }

    #[test]
    fn reason_phrases_of_servers() {
        let long = "a".repeat(LONGEST_REASON + 1);
        for (code, text, expect) in [
            (200, "OK", "HTTP/1.1 200 OK\r\n"),
            (200, "", "HTTP/1.1 200 OK\r\n"),
            (404, "No Such Item", "HTTP/1.1 404 No Such Item\r\n"),
            (299, "Almost\tdone", "HTTP/1.1 299 Almost\tdone\r\n"),
            (299, "", "HTTP/1.1 299 \r\n"),
            (404, "caf\u{e9}", "HTTP/1.1 404 Not Found\r\n"),
            (404, "a\r\nSet-Cookie: b", "HTTP/1.1 404 Not Found\r\n"),
            (404, long.as_str(), "HTTP/1.1 404 Not Found\r\n"),
        ] {
            let status = StatusCode::from_u16(code).unwrap();
            let mut out = Vec::new();
            status_line(b"HTTP/1.1 ", status, ReasonPhrase::of(status, text).as_ref(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expect, "{code} {text:?}");
        }
    }

    #[test]
    fn f22_whatever_is_special_is_left_to_the_map() {
        for code in [100, 101, 103, 204, 304] {
            check(code, &[("Content-Length", "5")], None);
        }
        check(200, &[], None);
        for length in ["", "+5", "5, 5", " 5", "0x5", "-1", "18446744073709551616"] {
            check(200, &[("Content-Length", length)], None);
        }
        for (name, value) in [
            ("CONTENT-LENGTH", "5"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "close"),
            ("Connection", "keep-alive, X-Own"),
            ("Connection", ""),
            ("Upgrade", "h2c"),
            ("Trailer", "x"),
            ("TE", "trailers"),
            ("HTTP2-Settings", "x"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Authorization", "Basic x"),
            ("Strict-Transport-Security", "max-age=1"),
        ] {
            check(200, &[("Content-Length", "5"), (name, value)], None);
            check(200, &[(name, value), ("Content-Length", "5")], None);
        }
    }
}
