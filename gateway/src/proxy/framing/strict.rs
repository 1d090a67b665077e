//! Decides, while a client's HTTP/1 bytes are on their way to hyper, whether they say something that hyper would put up
//! with and another parser would read differently: lines that end without CR (F07), a fragment in the target (F19),
//! Content-Length beside Transfer-Encoding (F01), anything but digits and extensions in a chunk's size (F08).
//!
//! What breaks the rules is *spoilt*: the line's end becomes a NUL, which no parser takes there. hyper then refuses the
//! request as it refuses every malformed one. *Invariant:* nothing is ever made acceptable, so a mistake here can
//! refuse a good request and never let a bad one through; memory is a few words per connection.

/// The longest beginning of a line that is looked at, in bytes: names, and numbers in any sane spelling.
const KEPT: usize = 64;

/// Where in the stream of requests a connection is.
pub(in crate::proxy) struct Strict {
    state: State,
    line: Line,
    length: Option<u64>,
    chunked: bool,
    /// Heads that have ended.
    heads: u64,
    /// Whether a request without a body has just ended, and nothing has come behind it.
    between: bool,
}

#[derive(Clone, Copy)]
enum State {
    /// In a chunk's size.
    ChunkSize,
    /// In a body, or a chunk with the two bytes behind it: so many bytes are left.
    Data {
        left: u64,
        chunk: bool,
    },
    Header,
    RequestLine,
    /// hyper has been given something that it refuses.
    Spoilt,
    Trailer,
}

/// A line as far as it has come.
struct Line {
    start: [u8; KEPT],
    length: usize,
    last: u8,
    fragment: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self { start: [0; KEPT], length: 0, last: 0, fragment: false }
    }
}

impl Line {
    fn extend(&mut self, bytes: &[u8]) {
        let free = self.start.get_mut(self.length.min(KEPT)..).unwrap_or_default();
        let taken = free.len().min(bytes.len());
        if let (Some(free), Some(bytes)) = (free.get_mut(..taken), bytes.get(..taken)) {
            free.copy_from_slice(bytes);
        }
        self.length = self.length.saturating_add(bytes.len());
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// The line without its CR; `None` if it has none.
    fn text(&self) -> Option<&[u8]> {
        let length = self.length.checked_sub(1).filter(|_| self.last == b'\r')?;
        self.start.get(..length.min(KEPT))
    }
}

impl Strict {
    pub(in crate::proxy) fn new() -> Self {
        Self {
            state: State::RequestLine,
            line: Line::default(),
            length: None,
            chunked: false,
            heads: 0,
            between: false,
        }
    }

    /// How many requests the client has sent, if the last one has no body and it waits.
    pub(in crate::proxy) fn waits(&self) -> Option<u64> {
        self.between.then_some(self.heads)
    }

    /// Whether the last request has come whole, and nothing of another one.
    pub(in crate::proxy) const fn is_between(&self) -> bool {
        matches!(self.state, State::RequestLine) && self.line.length == 0
    }

    /// Reads the next bytes of the connection, and spoils them where they break the rules.
    pub(in crate::proxy) fn read(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.between = false;
            if matches!(self.state, State::Spoilt) {
                return;
            }
            if let State::Data { left, chunk } = self.state {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                rest = rest.get_mut(taken..).unwrap_or_default();
                let left = left - u64::try_from(taken).unwrap_or(left);
                self.state = match (left, chunk) {
                    (0, true) => State::ChunkSize,
                    (0, false) => State::RequestLine,
                    _ => State::Data { left, chunk },
                };
                continue;
            }
            let end = memchr::memchr(b'\n', rest);
            let (line, after) = rest.split_at_mut(end.unwrap_or(rest.len()));
            if matches!(self.state, State::RequestLine) && memchr::memchr(b'#', line).is_some() {
                self.line.fragment = true;
            }
            self.line.extend(line);
            let Some((feed, after)) = after.split_first_mut() else { return };
            let line = std::mem::take(&mut self.line);
            match self.end_of_line(&line) {
                Some(state) => {
                    let is_head = matches!(self.state, State::Header) && !matches!(state, State::Header);
                    self.heads = self.heads.wrapping_add(u64::from(is_head));
                    self.between = matches!((self.state, state), (State::Header, State::RequestLine));
                    self.state = state;
                }
                None => {
                    // A lone LF in a chunk's line is refused by hyper too, while a NUL in an extension is not: there
                    // the LF has to stay.
                    let refused_as_it_is = matches!(self.state, State::ChunkSize) && line.last != b'\r';
                    if !refused_as_it_is {
                        *feed = 0;
                    }
                    self.state = State::Spoilt;
                }
            }
            rest = after;
        }
    }

    /// What comes behind a line. `None`: it breaks the rules.
    fn end_of_line(&mut self, line: &Line) -> Option<State> {
        let text = line.text()?;
        match self.state {
            // RFC 9112 2.2 lets an empty line stand before a request.
            State::RequestLine if text.is_empty() => Some(State::RequestLine),
            State::RequestLine => {
                (self.length, self.chunked) = (None, false);
                (!line.fragment).then_some(State::Header)
            }
            State::Header if text.is_empty() => self.end_of_head(),
            State::Header => self.header(text, line.length > KEPT),
            State::ChunkSize => match chunk_size(text)? {
                0 => Some(State::Trailer),
                size => Some(State::Data { left: size.checked_add(2)?, chunk: true }),
            },
            State::Trailer if text.is_empty() => Some(State::RequestLine),
            State::Trailer => Some(State::Trailer),
            State::Data { .. } | State::Spoilt => None,
        }
    }

    fn end_of_head(&self) -> Option<State> {
        match (self.chunked, self.length) {
            (true, Some(_)) => None,
            (true, None) => Some(State::ChunkSize),
            (false, None | Some(0)) => Some(State::RequestLine),
            (false, Some(left)) => Some(State::Data { left, chunk: false }),
        }
    }

    fn header(&mut self, text: &[u8], cut: bool) -> Option<State> {
        let colon = text.iter().position(|&byte| byte == b':');
        let (name, value) = text.split_at(colon.unwrap_or(text.len()));
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let value = value.get(1..).filter(|_| !cut)?;
            let length = decimal(value.trim_ascii())?;
            if self.length.is_some_and(|other| other != length) {
                return None;
            }
            self.length = Some(length);
        }
        Some(State::Header)
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// A chunk's size: one to sixteen hexadecimal digits, then nothing or an extension (RFC 9112 7.1).
fn chunk_size(text: &[u8]) -> Option<u64> {
    let digits = text.split(|&byte| byte == b';').next()?;
    let plain = matches!(digits.len(), 1..=16) && digits.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| plain)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    /// Reads `bytes` and another request, in pieces of every size; `expect`: whether they are left as they are.
    #[track_caller]
    fn check(bytes: &[u8], expect: bool) {
        let all = [bytes, NEXT].concat();
        for size in [1, 2, 3, 7, 64, all.len()] {
            let mut strict = Strict::new();
            let mut read = all.clone();
            read.chunks_mut(size).for_each(|piece| strict.read(piece));
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(read == all, expect, "{text:?} in pieces of {size}");
            assert_eq!(matches!(strict.state, State::RequestLine), expect, "{text:?} in pieces of {size}");
        }
    }

    #[test]
    fn good_requests_pass_untouched() {
        check(b"", true);
        check(b"\r\nGET / HTTP/1.1\r\nHost: a\r\nX: #\r\n\r\n", true);
        check(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n\n\n#\n\n", true);
        check(b"POST / HTTP/1.1\r\nContent-Length:0\r\n\r\n", true);
        check(b"POST / HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n\n\n", true);
        check(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\n\n\n\n\n\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
            true,
        );
        check(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n", true);
        let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 1_000], b"\r\n\r\n"].concat();
        check(&long, true);
    }

    /// hyper refuses these, and would take a NUL in an extension.
    #[test]
    fn f09_a_lone_line_feed_in_a_chunks_line_stays() {
        for line in ["5;a\nb\r\n", "5\n"] {
            let bytes = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{line}hello\r\n0\r\n\r\n");
            let (mut read, mut strict) = (bytes.clone().into_bytes(), Strict::new());
            strict.read(&mut read);
            assert_eq!(read, bytes.as_bytes());
            assert!(matches!(strict.state, State::Spoilt), "{line:?}");
        }
    }

    #[test]
    fn f01_f07_f08_f19_are_spoilt() {
        for bytes in [
            b"GET / HTTP/1.1\nHost: a\r\n\r\n".as_slice(),
            b"GET / HTTP/1.1\r\nHost: a\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
            b"\nGET / HTTP/1.1\r\n\r\n",
            b"GET /#a HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\ntransfer-ENCODING: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\nhello\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
        ] {
            check(bytes, false);
        }
    }
}
