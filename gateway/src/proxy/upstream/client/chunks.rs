//! Decides where the chunks of a body begin and end (RFC 9112 7.1), strictly: hexadecimal digits and nothing else
//! before an extension, CR and LF behind every line and every chunk. Extensions and trailers are passed over.

use bytes::{Buf as _, Bytes};

/// The longest line of a size with its extension, and the longest trailers, in bytes.
const MAX_LINE: usize = 8 * 1_024;

/// Where in a chunked body a connection is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    state: State,
    /// Bytes of the line, or of the trailers, so far.
    line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So much of a chunk is left.
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
    /// In an extension of a chunk of this size.
    Within(u64),
}

impl Default for State {
    fn default() -> Self {
        Self::Size(0, 0)
    }
}

impl Chunks {
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Takes the next piece off `bytes`, and what belongs to no piece around it. Nothing: `bytes` are used up, or the
    /// body is over.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn take(&mut self, bytes: &mut Bytes) -> Result<Bytes, &'static str> {
        self.pass(bytes)?;
        let State::Data(left) = self.state else { return Ok(Bytes::new()) };
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let piece = bytes.split_to(taken);
        self.state = match left - u64::try_from(taken).unwrap_or(left) {
            0 => State::DataCr,
            left => State::Data(left),
        };
        // Whether it was the last is known as soon as it can be.
        self.pass(bytes)?;
        Ok(piece)
    }

    /// Passes over what is no data.
    fn pass(&mut self, bytes: &mut Bytes) -> Result<(), &'static str> {
        let mut passed = 0;
        for &byte in bytes.iter() {
            if matches!(self.state, State::Data(_) | State::Over) {
                break;
            }
            self.state = self.next(byte)?;
            passed += 1;
            self.line = if matches!(self.state, State::Size(_, 0) | State::Data(_)) { 0 } else { self.line + 1 };
            if self.line > MAX_LINE {
                return Err("chunk line or trailers too long");
            }
        }
        bytes.advance(passed);
        Ok(())
    }

    fn next(&self, byte: u8) -> Result<State, &'static str> {
        Ok(match (self.state, byte) {
            (State::Size(size, digits), _) if byte.is_ascii_hexdigit() && digits < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (State::Size(size, 1..), b';') => State::Within(size),
            (State::Size(size, 1..) | State::Within(size), b'\r') => State::SizeLf(size),
            (State::Within(size), b'\t' | b' '..=b'~' | 0x80..) => State::Within(size),
            (State::SizeLf(0), b'\n') => State::TrailerStart,
            (State::SizeLf(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0, 0),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Over,
            _ => return Err("chunk breaks HTTP"),
        })
    }
}
