//! Decides the one reading of a request's target that routing, policy, logging and forwarding share.
//!
//! A character that may stand in a segment as it is and its percent-encoding are one spelling, the character; other
//! encodings are kept, in upper case (RFC 3986 6.2.2). A client cannot get past a literal template by an escape.
//! *Invariant:* whatever two parsers could read differently is refused: dot segments, empty segments, encoded
//! separators, path parameters, double encoding, raw bytes outside RFC 3986, hosts that disagree. Where a route lets
//! some of that through ([`PathRules`]), the route was found as if parameters and empty segments were not there.

use std::net::SocketAddr;

use http::{Method, request::Parts, uri::PathAndQuery};

use self::host::Authority;
use super::{
    reject::{Refusal, Reject},
    settings::{HeadLimits, route::PathRules},
};

mod host;

/// The longest path with query that can be allowed, in bytes.
pub const MAX_LENGTH: usize = HeadLimits::LONGEST_TARGET;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    authority: Authority,
    origin: PathAndQuery,
    /// The longest that it may be, in bytes.
    limit: usize,
    /// What it holds that only some routes take.
    odd: PathRules,
    /// The path without parameters and empty segments, where it has some.
    matched: Option<Box<str>>,
}

impl Target {
    /// Reads the target, of at most `limit` bytes, of a request that came in at `local`. The scheme that it names is that of another hop, or of
    /// this one: it says nothing of where the request goes (RFC 9113 8.3.1).
    ///
    /// # Errors
    /// [`Reject::BadRequest`] or [`Reject::UriTooLong`].
    pub fn read(head: &Parts, local: SocketAddr, limit: usize) -> Result<Self, Refusal> {
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return Err(bad("method never served"));
        }
        if head.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
            return Err(bad("scheme that is not served"));
        }
        let origin = head.uri.path_and_query().ok_or(bad("no path"))?;
        let authority = Authority::of(head, local)?;
        if origin.as_str().len() > limit {
            return Err(Refusal::new(Reject::UriTooLong, "target too long"));
        }
        let (origin, odd) = match origin.as_str().as_bytes() {
            // The server as a whole, and no path of it (RFC 9110 9.3.7).
            b"*" if head.method == Method::OPTIONS => (origin.clone(), PathRules::default()),
            b"*" => return Err(bad("* with another method than OPTIONS")),
            // `http://a.example?x`: the empty path is the path `/` (RFC 9110 4.2.3).
            [b'?', ..] => {
                let path = format!("/{}", origin.as_str());
                canonical(&PathAndQuery::try_from(path).map_err(|_invalid| bad("invalid path"))?)?
            }
            _ => canonical(origin)?,
        };
        let matched = (odd.parameters || odd.empty_segments).then(|| plain_segments(origin.path()));
        Ok(Self { authority, origin, limit, odd, matched })
    }

    /// The path by which its route is found.
    pub(super) fn matched(&self) -> &str {
        self.matched.as_deref().unwrap_or(self.path())
    }

    /// What it holds that only some routes take.
    pub(super) const fn odd(&self) -> PathRules {
        self.odd
    }

    /// The host, lower case, without its port.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.text.get(..self.authority.host_length).unwrap_or_default()
    }

    /// The host with its port, where the client gave one.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority.text
    }

    /// The canonical path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.origin.path()
    }

    /// Another canonical path with the same query.
    ///
    /// # Errors
    /// They are too long together.
    pub fn with_path(&self, path: String) -> Result<PathAndQuery, Refusal> {
        let text = match self.origin.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        if text.len() > self.limit {
            return Err(Refusal::new(Reject::UriTooLong, "rewritten target too long"));
        }
        PathAndQuery::try_from(text).map_err(|_invalid| bad("invalid path"))
    }

    /// The canonical path with the query as it came: what the upstream is sent.
    #[must_use]
    pub const fn origin(&self) -> &PathAndQuery {
        &self.origin
    }
}

/// The canonical form of `host` or `host:port`.
pub(super) fn canonical_authority(text: &[u8]) -> Option<Box<str>> {
    Authority::read(text).map(|authority| authority.text.into())
}

/// The canonical form of a path and its query, and what it holds that only some routes take.
fn canonical(origin: &PathAndQuery) -> Result<(PathAndQuery, PathRules), Refusal> {
    if let Some(query) = origin.query() {
        check_query(query.as_bytes())?;
    }
    let (path, odd) = read_path(origin.path())?;
    let Some(path) = path else { return Ok((origin.clone(), odd)) };
    let text = match origin.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    Ok((PathAndQuery::try_from(text).map_err(|_invalid| bad("invalid path"))?, odd))
}

/// The canonical form of a path; `None` if `path` is canonical already.
///
/// # Errors
/// [`Reject::BadRequest`] for every path that could be read in two ways.
pub fn canonical_path(path: &str) -> Result<Option<String>, Refusal> {
    canonical_path_by(path, PathRules::default())
}

/// The same where `rules` let some of that through.
pub(super) fn canonical_path_by(path: &str, rules: PathRules) -> Result<Option<String>, Refusal> {
    let (canonical, odd) = read_path(path)?;
    rules.refuses(odd).map_or(Ok(canonical), |detail| Err(bad(detail)))
}

fn read_path(path: &str) -> Result<(Option<String>, PathRules), Refusal> {
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

/// The path without parameters and empty segments: what a program makes of it that drops them.
fn plain_segments(path: &str) -> Box<str> {
    let mut out: String =
        segments(path).flat_map(|segment| ["/", segment.split(';').next().unwrap_or_default()]).collect();
    let last = path.rsplit('/').next().and_then(|segment| segment.split(';').next());
    if last.is_none_or(str::is_empty) {
        out.push('/');
    }
    out.into()
}

/// The segments of a path that have a name, with their parameters.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !matches!(segment.as_bytes(), [] | [b';', ..]))
}

/// Undoes the encoding of what needs none, and refuses what may not stand in a path.
fn normalise(path: &str, odd: &mut PathRules) -> Result<String, Refusal> {
    let mut out = String::with_capacity(path.len());
    let mut encoded: Vec<u8> = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            end_of_run(&mut encoded)?;
            odd.parameters |= byte == b';';
            if !matches!(byte, b'/' | b';') && !is_plain(byte) {
                return Err(bad("character that no path may hold"));
            }
            out.push(char::from(byte));
            continue;
        }
        let value = escape(&mut bytes)?;
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

/// Reads the two digits behind a `%`.
pub(super) fn escape(bytes: &mut std::str::Bytes<'_>) -> Result<u8, Refusal> {
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
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        // However the separators that stay are read, nothing climbs.
        let is_dots = |part: &str| {
            let behind = part.strip_prefix("..").or_else(|| part.strip_prefix('.'));
            behind.is_some_and(|behind| behind.is_empty() || behind.starts_with(';') || behind.starts_with("%3B"))
        };
        match segment.as_bytes() {
            [] => odd.empty_segments |= segments.peek().is_some(),
            // Nothing to a program that drops parameters, and a name like others to one that does not.
            [b';', ..] => return Err(bad("path parameter without a segment")),
            _ if is_dots(segment) => return Err(bad("dot segment")),
            _ if odd.encoded_slashes && segment.split("%2F").any(is_dots) => return Err(bad("dot segment")),
            _ => {}
        }
    }
    Ok(())
}

fn check_query(query: &[u8]) -> Result<(), Refusal> {
    let mut rest = query.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next(), rest.next()];
                if !digits.iter().all(|digit| digit.is_some_and(u8::is_ascii_hexdigit)) {
                    return Err(bad("% without two hexadecimal digits"));
                }
                if matches!(digits, [Some(b'0'), Some(b'0')]) {
                    return Err(bad("encoded NUL"));
                }
            }
            0x21..=0x7e => {}
            _ => return Err(bad("character that no query may hold")),
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

fn bad(detail: &'static str) -> Refusal {
    Refusal::new(Reject::BadRequest, detail)
}

#[cfg(test)]
mod tests;
