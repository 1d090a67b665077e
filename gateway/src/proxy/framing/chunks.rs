//! Reads chunked bodies (RFC 9112 7.1), strictly: hexadecimal digits and nothing else before an extension, CR and LF
//! behind every line and every chunk. Extensions that follow the grammar are passed over (RFC 9112 7.1.1); trailers are
//! kept.

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The longest line of a size with its extension, and the longest trailers, in bytes.
const MAX_LINE: usize = 8 * 1_024;

/// The longest extensions of all of a body's chunks together, in bytes (F09).
const MAX_EXTENSIONS: usize = 16 * 1_024;

const BROKEN: &str = "chunk breaks HTTP";

/// The most trailers.
const MAX_TRAILERS: usize = 32;

/// How far a chunked body has been read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Chunks {
    state: ChunkState,
    /// Bytes of the line, or of the trailers, so far.
    line: usize,
    extensions: usize,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    /// In a chunk: the bytes that are left.
    Data(u64),
    DataCr,
    DataLf,
    /// The LF behind the empty line that ends everything.
    EndLf,
    Over,
    /// In a size, of which so many digits have been read.
    Size(u64, u8),
    /// The LF behind a size.
    SizeLf(u64),
    Trailer,
    TrailerLf,
    /// At the beginning of a trailer's line.
    TrailerStart,
    /// In the extensions of a chunk of this size.
    Within(u64, Extension),
}

/// How far a chunk's extensions have been read: `;name`, `;name=value`, `;name="value"`, with blanks around the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// Behind a `;`.
    Start,
    Name,
    /// Blanks behind a name.
    Named,
    /// Behind a `=`.
    Equals,
    Token,
    Quoted,
    /// Behind a `\` within quotation marks.
    Escape,
    /// Behind the closing quotation mark.
    Closed,
    /// Blanks behind a value.
    Valued,
}

impl Default for ChunkState {
    fn default() -> Self {
        Self::Size(0, 0)
    }
}

impl Chunks {
    pub(in crate::proxy) const fn is_over(&self) -> bool {
        matches!(self.state, ChunkState::Over)
    }

    /// How much of a chunk is still to come.
    pub(in crate::proxy) const fn announced(&self) -> u64 {
        match self.state {
            ChunkState::Data(left) | ChunkState::SizeLf(left) => left,
            _ => 0,
        }
    }

    /// Takes the next piece off `bytes`, with the framing around it. `None`: `bytes` are used up, or the body is over.
    ///
    /// # Errors
    /// What is wrong.
    pub(in crate::proxy) fn take(&mut self, bytes: &mut Bytes) -> Result<Bytes, &'static str> {
        self.pass(bytes)?;
        let ChunkState::Data(left) = self.state else { return Ok(Bytes::new()) };
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let piece = bytes.split_to(taken);
        self.state = match left - u64::try_from(taken).unwrap_or(left) {
            0 => ChunkState::DataCr,
            left => ChunkState::Data(left),
        };
        // Whether it was the last is known as soon as it can be.
        self.pass(bytes)?;
        Ok(piece)
    }

    /// The trailers of a body that is over.
    ///
    /// # Errors
    /// They break HTTP.
    pub(in crate::proxy) fn trailers(&mut self) -> Result<Option<HeaderMap>, &'static str> {
        if self.trailers.is_empty() {
            return Ok(None);
        }
        let broken = "trailers break HTTP";
        let mut lines = std::mem::take(&mut self.trailers);
        lines.extend_from_slice(b"\r\n");
        let mut space = [httparse::EMPTY_HEADER; MAX_TRAILERS];
        let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(&lines, &mut space) else {
            return Err(broken);
        };
        let pair = |line: &httparse::Header<'_>| {
            Some((HeaderName::from_bytes(line.name.as_bytes()).ok()?, HeaderValue::from_bytes(line.value).ok()?))
        };
        let mut trailers = HeaderMap::with_capacity(parsed.len());
        for line in parsed {
            let (name, value) = pair(line).ok_or(broken)?;
            trailers.append(name, value);
        }
        Ok(Some(trailers))
    }

    /// Skips framing.
    fn pass(&mut self, bytes: &mut Bytes) -> Result<(), &'static str> {
        let mut passed = 0;
        for &byte in bytes.iter() {
            if matches!(self.state, ChunkState::Data(_) | ChunkState::Over) {
                break;
            }
            self.state = self.next(byte)?;
            passed += 1;
            self.line =
                if matches!(self.state, ChunkState::Size(_, 0) | ChunkState::Data(_)) { 0 } else { self.line + 1 };
            self.extensions += usize::from(matches!(self.state, ChunkState::Within(..)));
            if self.line > MAX_LINE || self.extensions > MAX_EXTENSIONS {
                return Err("chunk line or trailers too long");
            }
            // The CR of the line that ends everything is its own.
            if matches!(self.state, ChunkState::Trailer | ChunkState::TrailerLf)
                || matches!(self.state, ChunkState::TrailerStart) && !self.trailers.is_empty()
            {
                self.trailers.push(byte);
            }
        }
        bytes.advance(passed);
        Ok(())
    }

    fn next(&self, byte: u8) -> Result<ChunkState, &'static str> {
        Ok(match (self.state, byte) {
            (ChunkState::Size(size, digits), _) if byte.is_ascii_hexdigit() && digits < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                ChunkState::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (ChunkState::Size(size, 1..), b';') => ChunkState::Within(size, Extension::Start),
            (ChunkState::Size(size, 1..), b'\r') => ChunkState::SizeLf(size),
            (ChunkState::Within(size, extension), b'\r') if extension.may_end() => ChunkState::SizeLf(size),
            (ChunkState::Within(size, extension), _) => ChunkState::Within(size, extension.next(byte).ok_or(BROKEN)?),
            (ChunkState::SizeLf(0), b'\n') => ChunkState::TrailerStart,
            (ChunkState::SizeLf(size), b'\n') => ChunkState::Data(size),
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::Size(0, 0),
            (ChunkState::TrailerStart, b'\r') => ChunkState::EndLf,
            (ChunkState::TrailerStart | ChunkState::Trailer, b'\t' | b' '..=b'~' | 0x80..) => ChunkState::Trailer,
            (ChunkState::Trailer, b'\r') => ChunkState::TrailerLf,
            (ChunkState::TrailerLf, b'\n') => ChunkState::TrailerStart,
            (ChunkState::EndLf, b'\n') => ChunkState::Over,
            _ => return Err(BROKEN),
        })
    }
}

impl Extension {
    const fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Token | Self::Closed)
    }

    /// `None`: it breaks the grammar.
    const fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Start | Self::Named | Self::Equals | Self::Valued, b' ' | b'\t') => self,
            (Self::Start | Self::Name, _) if is_token(byte) => Self::Name,
            (Self::Name, b' ' | b'\t') => Self::Named,
            (Self::Name | Self::Named, b'=') => Self::Equals,
            (Self::Equals | Self::Token, _) if is_token(byte) => Self::Token,
            (Self::Equals, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::Closed,
            (Self::Quoted, b'\\') => Self::Escape,
            (Self::Quoted | Self::Escape, b'\t' | b' '..=b'~' | 0x80..) => Self::Quoted,
            (Self::Token | Self::Closed, b' ' | b'\t') => Self::Valued,
            (Self::Name | Self::Named | Self::Token | Self::Closed | Self::Valued, b';') => Self::Start,
            _ => return None,
        })
    }
}

/// RFC 9110 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}
