//! The one reading of a request's target that routing, policy, logging and forwarding share.
//!
//! A character that may stand in a segment as it is and its percent-encoding are one spelling, the character; other
//! encodings are kept, in upper case (RFC 3986 6.2.2). A client cannot get past a literal template by an escape.
//! *Invariant:* whatever two parsers could read differently is refused: dot segments, empty segments, encoded
//! separators, path parameters, double encoding, raw bytes outside RFC 3986, hosts that disagree. Where a route lets
//! some of that through ([`PathRules`]), the route was found as if parameters and empty segments were not there.

use std::net::SocketAddr;

use http::{Method, request::Parts, uri::PathAndQuery};

use self::host::Authority;
use crate::{
    refusal::{Refusal, Reject},
    web::path::{PathRules, read_path, segments},
};

mod host;

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
    /// Whether a `%` in the query begins no escape.
    has_broken_escape: bool,
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
        let origin = head.uri.path_and_query().ok_or_else(|| bad("no path"))?;
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
        let has_broken_escape = origin.query().map_or(Ok(false), |query| check_query(query.as_bytes()))?;
        Ok(Self { authority, origin, limit, odd, matched, has_broken_escape })
    }

    /// The path by which its route is found.
    pub(crate) fn matched(&self) -> &str {
        self.matched.as_deref().unwrap_or(self.path())
    }

    /// What it holds that only some routes take.
    pub(crate) const fn odd(&self) -> PathRules {
        self.odd
    }

    /// Whether its path holds what programs read in different ways.
    #[must_use]
    pub fn is_odd(&self) -> bool {
        self.odd != PathRules::default()
    }

    /// Whether a `%` in the query begins no escape (RFC 3986 2.1). Programs read it in different ways: as it is, as
    /// nothing, or not at all. Whoever decides by the query refuses it, and whoever does not hands it on.
    pub(super) const fn has_broken_escape(&self) -> bool {
        self.has_broken_escape
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
pub(crate) fn canonical_authority(text: &[u8]) -> Option<Box<str>> {
    Authority::read(text).map(|authority| authority.text.into())
}

/// The canonical form of a path and its query, and what it holds that only some routes take.
fn canonical(origin: &PathAndQuery) -> Result<(PathAndQuery, PathRules), Refusal> {
    let (path, odd) = read_path(origin.path())?;
    let Some(path) = path else { return Ok((origin.clone(), odd)) };
    let text = match origin.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    Ok((PathAndQuery::try_from(text).map_err(|_invalid| bad("invalid path"))?, odd))
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

/// Whether each `%` of a query begins an escape.
fn check_query(query: &[u8]) -> Result<bool, Refusal> {
    let (mut rest, mut has_broken_escape) = (query, false);
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'%' => match behind {
                [b'0', b'0', ..] => return Err(bad("encoded NUL")),
                [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
                _ => has_broken_escape = true,
            },
            0x21..=0x7e => {}
            _ => return Err(bad("character that no query may hold")),
        }
    }
    Ok(has_broken_escape)
}

fn bad(detail: &'static str) -> Refusal {
    Refusal::new(Reject::BadRequest, detail)
}

#[cfg(test)]
mod tests;
