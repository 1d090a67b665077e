//! How much of a body is left to read: by Content-Length, by chunks, or until the connection closes (RFC 9112 6.3).

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::SizeHint;

use super::chunks::Chunks;

/// A length (RFC 9110 8.6): only digits, and at most 64 bits.
pub(in crate::proxy) fn decimal(digits: &[u8]) -> Option<u64> {
    let value = |sum: u64, &digit: &u8| {
        let digit = u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        sum.checked_mul(10)?.checked_add(digit)
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, value) }
}

/// Why a `Content-Length` is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum LengthError {
    NotANumber,
    /// It is there more than once.
    Repeated,
}

impl LengthError {
    /// What is wrong with the response of an upstream.
    pub(in crate::proxy) const fn of_response(self) -> &'static str {
        match self {
            Self::NotANumber => "Content-Length is not a number",
            Self::Repeated => "more than one Content-Length",
        }
    }
}

/// The value of `Content-Length`, which may occur once, in digits only. `None`: it is not there.
///
/// # Errors
/// It could be read in more than one way.
pub(in crate::proxy) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, LengthError> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(LengthError::Repeated);
    }
    decimal(length.as_bytes()).map(Some).ok_or(LengthError::NotANumber)
}

/// How a body ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) enum Framing {
    // Boxed: few bodies are chunked, and all are moved.
    Chunked(Box<Chunks>),
    /// So many bytes are left.
    Length(u64),
    /// There is none.
    #[default]
    None,
    /// With the connection; only for responses.
    UntilClose,
}

impl Framing {
    /// A body of so many bytes.
    pub(in crate::proxy) const fn of(length: u64) -> Self {
        if length == 0 { Self::None } else { Self::Length(length) }
    }

    /// Whether nothing is left to read.
    pub(in crate::proxy) const fn is_over(&self) -> bool {
        match self {
            Self::None | Self::Length(0) => true,
            Self::Chunked(chunks) => chunks.is_over(),
            Self::Length(_) | Self::UntilClose => false,
        }
    }

    /// How much is known to be still to come.
    pub(in crate::proxy) fn announced(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            Self::Chunked(chunks) => chunks.announced(),
            Self::None | Self::UntilClose => 0,
        }
    }

    /// How much is left.
    pub(in crate::proxy) const fn left(&self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(chunks) if chunks.is_over() => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// The same, as a size hint of `http_body`.
    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        self.left().map_or_else(SizeHint::new, SizeHint::with_exact)
    }

    /// Takes the next piece off `bytes`. `None`: there are no bytes left to take, or the body is over.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::proxy) fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Bytes>, &'static str> {
        let piece = match self {
            Self::None => return Ok(None),
            Self::UntilClose => bytes.split_to(bytes.len()),
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= u64::try_from(taken).unwrap_or(*left);
                bytes.split_to(taken)
            }
            Self::Chunked(chunks) => chunks.take(bytes)?,
        };
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// The trailers of a body that is over.
    ///
    /// # Errors
    /// They break HTTP.
    pub(in crate::proxy) fn trailers(&mut self) -> Result<Option<HeaderMap>, &'static str> {
        match self {
            Self::Chunked(chunks) if chunks.is_over() => chunks.trailers(),
            _ => Ok(None),
        }
    }
}
