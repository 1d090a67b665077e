//! The one reading of a path: its canonical form, and what it may hold.
//!
//! A character that may stand in a segment as it is and its percent-encoding are one spelling, the character; other
//! encodings are kept, in upper case (RFC 3986 6.2.2). What browsers send as it is though it may not stand there is read
//! as its encoding. *Invariant:* whatever two parsers could read differently is
//! refused, unless [`PathRules`] let it through.

use crate::refusal::{Refusal, Reject};

pub mod pattern;
pub mod template;

/// The longest path with query that can be allowed, in bytes.
pub const MAX_LENGTH: usize = 32 * 1_024;

/// What may stand in a path that is refused otherwise, as programs read it in different ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathRules {
    /// `%2F`, which stays as it is.
    pub encoded_slashes: bool,
    /// `;` and what follows it in a segment.
    pub parameters: bool,
    /// `//`.
    pub empty_segments: bool,
}

impl PathRules {
    /// What stands in a path with `found` and may not; `None`: nothing.
    #[must_use]
    pub const fn refuses(self, found: Self) -> Option<&'static str> {
        if found.encoded_slashes && !self.encoded_slashes {
            Some("encoded separator")
        } else if found.parameters && !self.parameters {
            Some("path parameter")
        } else if found.empty_segments && !self.empty_segments {
            Some("empty segment")
        } else {
            None
        }
    }
}

/// The canonical form of a path; `None` if `path` is canonical already.
///
/// # Errors
/// [`Reject::BadRequest`] for every path that could be read in two ways.
pub fn canonical_path(path: &str) -> Result<Option<String>, Refusal> {
    canonical_path_by(path, PathRules::default())
}

/// The same where `rules` let some of that through.
pub(crate) fn canonical_path_by(path: &str, rules: PathRules) -> Result<Option<String>, Refusal> {
    let (canonical, odd) = read_path(path)?;
    rules.refuses(odd).map_or(Ok(canonical), |detail| Err(bad(detail)))
}

pub(crate) fn read_path(path: &str) -> Result<(Option<String>, PathRules), Refusal> {
    let Some(rest) = path.strip_prefix('/') else { return Err(bad("path does not begin with /")) };
    let mut odd = PathRules::default();
    let plain = rest.bytes().all(is_plain);
    if !plain {
        let decoded = normalise(path, &mut odd)?;
        check_segments(decoded.strip_prefix('/').unwrap_or_default(), &mut odd)?;
        return Ok(((decoded != path).then_some(decoded), odd));
    }
    check_segments(rest, &mut odd)?;
    Ok((None, odd))
}

/// The segments of a path that have a name, with their parameters.
pub(crate) fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !matches!(segment.as_bytes(), [] | [b';', ..]))
}

/// Undoes the encoding of what needs none, and refuses what may not stand in a path.
fn normalise(path: &str, odd: &mut PathRules) -> Result<String, Refusal> {
    let mut out = String::with_capacity(path.len());
    let mut encoded: Vec<u8> = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' && !is_sent_raw(byte) {
            end_of_run(&mut encoded)?;
            odd.parameters |= byte == b';';
            if !matches!(byte, b'/' | b';') && !is_plain(byte) {
                return Err(bad("character that no path may hold"));
            }
            out.push(char::from(byte));
            continue;
        }
        let value = if byte == b'%' { escape(&mut bytes)? } else { byte };
        match value {
            b'/' => {
                odd.encoded_slashes = true;
                end_of_run(&mut encoded)?;
                out.push_str("%2F");
            }
            b'\\' => return Err(bad("encoded separator")),
            0..0x20 | 0x7f => return Err(bad("encoded control character")),
            _ if is_plain(value) => {
                end_of_run(&mut encoded)?;
                out.push(char::from(value));
            }
            _ => {
                encoded.push(value);
                out.push('%');
                for nibble in [value >> 4, value & 15] {
                    out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
                }
            }
        }
    }
    end_of_run(&mut encoded)?;
    // A second, careless reader would decode what stands behind the sign, however that was written.
    let mut signs =
        memchr::memmem::find_iter(out.as_bytes(), b"%25").filter_map(|at| out.as_bytes().get(at + 3..at + 5));
    if signs.any(|behind| behind.iter().all(u8::is_ascii_hexdigit)) {
        return Err(bad("encoded twice"));
    }
    Ok(out)
}

/// A target of which the query holds quotation marks or angle brackets as they are, with their escapes instead; `None`: it
/// holds none. They may not stand there (RFC 3986 3.4), and are sent by whoever writes URLs by hand, as curl passes them
/// on.
pub(crate) fn escape_query(target: &[u8]) -> Option<Vec<u8>> {
    let (path, query) = target.split_at_checked(memchr::memchr(b'?', target)?)?;
    memchr::memchr3(b'"', b'<', b'>', query)?;
    let mut out = path.to_vec();
    for &byte in query {
        match byte {
            b'"' => out.extend_from_slice(b"%22"),
            b'<' => out.extend_from_slice(b"%3C"),
            b'>' => out.extend_from_slice(b"%3E"),
            byte => out.push(byte),
        }
    }
    Some(out)
}

/// Reads the two digits behind a `%`.
pub(crate) fn escape(bytes: &mut std::str::Bytes<'_>) -> Result<u8, Refusal> {
    let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
    let (Some(high), Some(low)) = (digit(), digit()) else { return Err(bad("% without two hexadecimal digits")) };
    u8::try_from(high * 16 + low).map_err(|_impossible| bad("% without two hexadecimal digits"))
}

/// A run of encoded bytes must be UTF-8: overlong forms have two readings.
fn end_of_run(encoded: &mut Vec<u8>) -> Result<(), Refusal> {
    if !encoded.is_empty() {
        std::str::from_utf8(encoded).map_err(|_not_utf8| bad("path is not UTF-8"))?;
        encoded.clear();
    }
    Ok(())
}

fn check_segments(rest: &str, odd: &mut PathRules) -> Result<(), Refusal> {
    let mut rest = Some(rest);
    while let Some(path) = rest {
        // Byte by byte: segments are too short for a search that looks at many bytes at a time.
        let end = path.bytes().position(|byte| byte == b'/').unwrap_or(path.len());
        let segment = path.get(..end).unwrap_or_default();
        rest = path.get(end + 1..);
        // However the separators that stay are read, nothing climbs.
        let is_dots = |part: &str| {
            let behind = part.strip_prefix("..").or_else(|| part.strip_prefix('.'));
            behind.is_some_and(|behind| behind.is_empty() || behind.starts_with(';') || behind.starts_with("%3B"))
        };
        match segment.as_bytes() {
            [] => odd.empty_segments |= rest.is_some(),
            // Nothing to a program that drops parameters, and a name like others to one that does not.
            [b';', ..] => return Err(bad("path parameter without a segment")),
            _ if is_dots(segment) => return Err(bad("dot segment")),
            _ if odd.encoded_slashes && segment.split("%2F").any(is_dots) => return Err(bad("dot segment")),
            _ => {}
        }
    }
    Ok(())
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What may stand in a path as it is, `;` excepted: path parameters are read by some upstreams and not by others.
const fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// What may not stand in a path (RFC 3986 3.3), and is no reason to refuse one: browsers and many libraries leave it as it
/// is (URL standard, "path percent-encode set").
const fn is_sent_raw(byte: u8) -> bool {
    matches!(byte, b'[' | b']' | b'^' | b'|')
}

fn bad(detail: &'static str) -> Refusal {
    Refusal::new(Reject::BadRequest, detail)
}
