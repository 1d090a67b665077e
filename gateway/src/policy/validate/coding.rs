//! `Content-Encoding` of request bodies: decoded to be judged, as every decoder reads it and within limits, or refused.
//!
//! *Invariant:* memory is bounded by what may be decoded and by a window of 16 MiB, time by the size of both. What two decoders
//! could read differently is refused: several codings, several members, bytes behind the end, a wrong checksum.

use std::io::Read as _;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use http::{HeaderMap, header};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder, errors::FrameDecoderError};

use crate::refusal::{Refusal, Reject};

/// How many times larger than its encoded form a body may be.
pub const LARGEST_RATIO: usize = 100;

/// What a body may always decode to, whatever its ratio, in bytes.
const ALWAYS: usize = 16 * 1024;

/// The largest window of zstd that HTTP allows (RFC 9659), in bytes.
const LARGEST_WINDOW: u64 = 8 * 1024 * 1024;

/// What is decoded at once, in bytes.
const PIECE: usize = 16 * 1024;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    /// `br` (RFC 7932).
    Brotli,
    /// `deflate`, which is the format of zlib (RFC 1950).
    Deflate,
    /// `gzip`, `x-gzip` (RFC 1952).
    Gzip,
    /// `zstd` (RFC 8878).
    Zstd,
}

impl ContentCoding {
    /// What the headers of a request say of its body. `None`: it is as it is.
    ///
    /// # Errors
    /// [`Reject::UnsupportedMediaType`] for another coding, and for more than one.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let refuse = |why| Err(Refusal::new(Reject::UnsupportedMediaType, why));
        let mut all = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(first) = all.next() else { return Ok(None) };
        if all.next().is_some() || first.as_bytes().contains(&b',') {
            return refuse("more than one Content-Encoding");
        }
        let is = |name: &str| first.as_bytes().eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("identity") => Ok(None),
            () if is("gzip") || is("x-gzip") => Ok(Some(Self::Gzip)),
            () if is("deflate") => Ok(Some(Self::Deflate)),
            () if is("br") => Ok(Some(Self::Brotli)),
            () if is("zstd") => Ok(Some(Self::Zstd)),
            () => refuse("unknown Content-Encoding"),
        }
    }

    /// The name in `Content-Encoding`.
    const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Deflate => "deflate",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Decodes a whole body, to at most `largest` bytes.
    ///
    /// # Errors
    /// [`Reject::BadRequest`] where it is not one whole body in this coding, [`Reject::BodyTooLarge`] where it is larger or
    /// more than [`LARGEST_RATIO`] times larger than it came.
    pub fn decode(self, encoded: &[u8], largest: u64) -> Result<Vec<u8>, Refusal> {
        let largest = usize::try_from(largest).unwrap_or(usize::MAX);
        let most = largest.min(encoded.len().saturating_mul(LARGEST_RATIO).max(ALWAYS));
        let mut decoded = Decoded { bytes: Vec::new(), most };
        let ended = match self {
            Self::Brotli => brotli(encoded, &mut decoded),
            Self::Deflate => deflate(encoded, &mut decoded),
            Self::Gzip => gzip(encoded, &mut decoded),
            Self::Zstd => zstd(encoded, &mut decoded),
        };
        let name = self.name();
        match ended {
            Ok(()) => Ok(decoded.bytes),
            Err(DecodeFault::Broken(why)) => Err(Refusal::new(Reject::BadRequest, format!("body: {name}: {why}"))),
            Err(DecodeFault::Window) => {
                let why = format!("body: {name}: needs a window of more than {} MiB", LARGEST_WINDOW >> 20);
                Err(Refusal::new(Reject::BodyTooLarge, why))
            }
            Err(DecodeFault::TooLarge) if most < largest => {
                let why = format!("body: {name}: decodes to more than {LARGEST_RATIO} times its size");
                Err(Refusal::new(Reject::BodyTooLarge, why))
            }
            Err(DecodeFault::TooLarge) => {
                Err(Refusal::new(Reject::BodyTooLarge, format!("body: {name}: decodes to more than the limit")))
            }
        }
    }
}

/// Why a body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecodeFault {
    Broken(&'static str),
    TooLarge,
    Window,
}

const DAMAGED: DecodeFault = DecodeFault::Broken("is damaged");
const TRUNCATED: DecodeFault = DecodeFault::Broken("ends early");
const MORE: DecodeFault = DecodeFault::Broken("has bytes behind its end");

/// What was decoded so far, and how much it may become.
struct Decoded {
    bytes: Vec<u8>,
    most: usize,
}

impl Decoded {
    fn push(&mut self, piece: &[u8]) -> Result<(), DecodeFault> {
        if piece.len() > self.most.saturating_sub(self.bytes.len()) {
            return Err(DecodeFault::TooLarge);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

/// Inflates up to the end of the stream; what is behind it.
fn inflate<'a>(mut rest: &'a [u8], has_frame: bool, decoded: &mut Decoded) -> Result<&'a [u8], DecodeFault> {
    let mut inflater = Decompress::new(has_frame);
    let mut piece = vec![0; PIECE];
    loop {
        let (read, written) = (inflater.total_in(), inflater.total_out());
        let status = inflater.decompress(rest, &mut piece, FlushDecompress::None).map_err(|_damaged| DAMAGED)?;
        let read = usize::try_from(inflater.total_in() - read).map_err(|_large| DAMAGED)?;
        let written = usize::try_from(inflater.total_out() - written).map_err(|_large| DAMAGED)?;
        rest = rest.get(read..).ok_or(DAMAGED)?;
        decoded.push(piece.get(..written).ok_or(DAMAGED)?)?;
        match status {
            Status::StreamEnd => return Ok(rest),
            _ if read == 0 && written == 0 => return Err(TRUNCATED),
            _ => {}
        }
    }
}

fn deflate(encoded: &[u8], decoded: &mut Decoded) -> Result<(), DecodeFault> {
    let &[method, flags, ..] = encoded else { return Err(TRUNCATED) };
    if method & 0x0f != 8 || method >> 4 > 7 || u16::from_be_bytes([method, flags]) % 31 != 0 {
        return Err(DecodeFault::Broken("is not in the format of zlib"));
    }
    if flags & 0x20 != 0 {
        return Err(DecodeFault::Broken("needs a dictionary"));
    }
    if !inflate(encoded, true, decoded)?.is_empty() {
        return Err(MORE);
    }
    // Some take it for bare deflate first. The header of zlib begins a block there that is not compressed.
    if let Some(&[_, low, high, not_low, not_high]) = encoded.first_chunk()
        && (low, high) == (!not_low, !not_high)
        && inflate(encoded, false, &mut Decoded { bytes: Vec::new(), most: decoded.most }) != Err(DAMAGED)
    {
        return Err(DecodeFault::Broken("can be read in two ways"));
    }
    Ok(())
}

fn gzip(encoded: &[u8], decoded: &mut Decoded) -> Result<(), DecodeFault> {
    const NAME: u8 = 8;
    let Some((&[0x1f, 0x8b, 8, flags, ..], mut rest)) = encoded.split_first_chunk::<10>() else {
        let is_begun = encoded.len() < 10 && encoded.iter().zip(&[0x1f, 0x8b, 8]).all(|(byte, magic)| byte == magic);
        return Err(if is_begun { TRUNCATED } else { DecodeFault::Broken("does not begin as gzip") });
    };
    // Whoever does not decode it reads these.
    if flags & !(NAME | 1) != 0 {
        return Err(DecodeFault::Broken("has a header with more than a file name"));
    }
    if flags & NAME != 0 {
        let end = memchr::memchr(0, rest).ok_or(TRUNCATED)?;
        let name = rest.get(..end).unwrap_or_default();
        if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'.' | b'_')) {
            return Err(DecodeFault::Broken("has a file name with other than letters, digits, \"-\", \".\" and \"_\""));
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    let behind = inflate(rest, false, decoded)?;
    let (&[a, b, c, d, e, f, g, h], behind) = behind.split_first_chunk::<8>().ok_or(TRUNCATED)?;
    let is_whole = u32::from_le_bytes([a, b, c, d]) == crc32fast::hash(&decoded.bytes)
        && usize::try_from(u32::from_le_bytes([e, f, g, h])) == Ok(decoded.bytes.len());
    match behind {
        _ if !is_whole => Err(DAMAGED),
        [] => Ok(()),
        [0x1f, 0x8b, ..] => Err(DecodeFault::Broken("has more than one member")),
        _ => Err(MORE),
    }
}

fn brotli(encoded: &[u8], decoded: &mut Decoded) -> Result<(), DecodeFault> {
    // Without windows of more than 16 MiB, which are no part of `br`.
    let mut state =
        BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
    let mut piece = vec![0; PIECE];
    let (mut left, mut at, mut total) = (encoded.len(), 0, 0);
    loop {
        let (mut room, mut written) = (piece.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            encoded,
            &mut room,
            &mut written,
            &mut piece,
            &mut total,
            &mut state,
        );
        decoded.push(piece.get(..written).ok_or(DAMAGED)?)?;
        match result {
            BrotliResult::ResultSuccess if left == 0 => return Ok(()),
            BrotliResult::ResultSuccess => return Err(MORE),
            BrotliResult::NeedsMoreInput => return Err(TRUNCATED),
            BrotliResult::ResultFailure => return Err(DAMAGED),
            BrotliResult::NeedsMoreOutput => {}
        }
    }
}

fn zstd(encoded: &[u8], decoded: &mut Decoded) -> Result<(), DecodeFault> {
    let mut rest = encoded;
    let mut frame = FrameDecoder::new();
    frame.set_max_window_size(LARGEST_WINDOW);
    frame.init(&mut rest).map_err(|error| match error {
        FrameDecoderError::WindowSizeTooBig { .. } => DecodeFault::Window,
        FrameDecoderError::DictNotProvided { .. } => DecodeFault::Broken("needs a dictionary"),
        _ => DecodeFault::Broken("does not begin as zstd"),
    })?;
    let announced = frame.content_size();
    if usize::try_from(announced).map_or(true, |announced| announced > decoded.most) {
        return Err(DecodeFault::TooLarge);
    }
    let mut piece = vec![0; PIECE];
    loop {
        let is_finished = frame.is_finished();
        if !is_finished {
            frame.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(PIECE)).map_err(|_error| {
                // What is cut is read to its end.
                if rest.is_empty() { TRUNCATED } else { DAMAGED }
            })?;
        }
        loop {
            let written = frame.read(&mut piece).map_err(|_error| DAMAGED)?;
            if written == 0 {
                break;
            }
            decoded.push(piece.get(..written).ok_or(DAMAGED)?)?;
        }
        if is_finished {
            break;
        }
    }
    let length = u64::try_from(decoded.bytes.len()).unwrap_or(u64::MAX);
    let is_whole = frame.get_checksum_from_data().is_none_or(|sum| frame.get_calculated_checksum() == Some(sum));
    match rest {
        _ if !is_whole || announced != 0 && announced != length => Err(DAMAGED),
        [] => Ok(()),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(DecodeFault::Broken("has more than one frame")),
        _ => Err(MORE),
    }
}

#[cfg(test)]
mod tests;
