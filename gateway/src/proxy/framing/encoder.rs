//! Writes the framing of HTTP/1.1 bodies (RFC 9112 6, 7.1), and checks that a body is as long as announced.

use std::io::Write as _;

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum BodyEncoder {
    Chunked,
    /// All of it is written, or there is none.
    Ended,
    /// So many bytes are still to come.
    Length(u64),
    /// By the end of the connection; only for responses.
    UntilClose,
}

/// A body that is not as long as announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct WrongLength;

impl BodyEncoder {
    /// Writes the framing before a piece of `length` bytes. It is not empty: an empty chunk would end the body.
    ///
    /// # Errors
    /// The body is longer than announced.
    #[inline]
    pub(in crate::proxy) fn begin_piece(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match self {
            Self::Length(left) => {
                *left = u64::try_from(length).ok().and_then(|length| left.checked_sub(length)).ok_or(WrongLength)?;
            }
            // A vector takes everything.
            Self::Chunked => write!(out, "{length:x}\r\n").unwrap_or_default(),
            Self::UntilClose => {}
            Self::Ended => return Err(WrongLength),
        }
        Ok(())
    }

    /// Writes the framing behind a piece.
    #[inline]
    pub(in crate::proxy) fn end_piece(self, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes the end of the body.
    ///
    /// # Errors
    /// The body is shorter than announced.
    #[inline]
    pub(in crate::proxy) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match self {
            Self::Length(1..) => return Err(WrongLength),
            Self::Chunked => out.extend_from_slice(b"0\r\n\r\n"),
            Self::Length(0) | Self::UntilClose | Self::Ended => {}
        }
        *self = Self::Ended;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a body of `pieces` looks like.
    #[track_caller]
    fn check(mut encoder: BodyEncoder, pieces: &[&str], expect: Result<&str, WrongLength>) {
        let mut out = Vec::new();
        let written = pieces.iter().try_for_each(|piece| {
            encoder.begin_piece(piece.len(), &mut out)?;
            out.extend_from_slice(piece.as_bytes());
            encoder.end_piece(&mut out);
            Ok(())
        });
        let written = written.and_then(|()| encoder.end(&mut out));
        assert_eq!(written.map(|()| std::str::from_utf8(&out).unwrap()), expect, "{pieces:?}");
        assert!(expect.is_err() || encoder == BodyEncoder::Ended);
    }

    #[test]
    fn bodies_are_as_long_as_was_said() {
        use BodyEncoder as B;
        check(B::Chunked, &["abc", "0123456789abcdef"], Ok("3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"));
        check(B::Chunked, &[], Ok("0\r\n\r\n"));
        check(B::Length(5), &["abc", "de"], Ok("abcde"));
        check(B::Length(5), &["abc"], Err(WrongLength));
        check(B::Length(5), &["abc", "def"], Err(WrongLength));
        check(B::Length(0), &[], Ok(""));
        check(B::UntilClose, &["abc", "def"], Ok("abcdef"));
        check(B::Ended, &[], Ok(""));
        check(B::Ended, &["a"], Err(WrongLength));
    }
}
