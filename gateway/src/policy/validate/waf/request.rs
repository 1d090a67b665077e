//! What of a request is inspected: its parts, by place and name.

use std::net::IpAddr;

use super::{
    body::{self, Format},
    charset, decode,
    parts::{MOST_VALUES, Pair, Parts},
};

/// A request as it arrived, before anything of it is decoded.
#[derive(Clone, Copy, Debug)]
pub struct WafRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, as the client sent them.
    pub target: &'a str,
    /// `HTTP/1.1`.
    pub protocol: &'a str,
    /// Names and values, in their order. With `host`, whatever the version of HTTP.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body, or nothing where it is not inspected.
    pub body: &'a [u8],
    /// Who sent it.
    pub client: IpAddr,
}

impl<'a> WafRequest<'a> {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collection {
    /// A field of a form, of multipart or of JSON, or the text of XML.
    Body,
    /// A cookie.
    Cookie,
    /// The name of a file, in multipart.
    File,
    /// A header.
    Header,
    /// Something about the request as a whole.
    Other,
    /// The path.
    Path,
    /// A parameter of the query.
    Query,
}

impl Collection {
    /// The name in logs and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Cookie => "cookie",
            Self::File => "file",
            Self::Header => "header",
            Self::Other => "request",
            Self::Path => "path",
            Self::Query => "query",
        }
    }
}

/// A request taken apart.
pub(super) struct Values<'a> {
    pub(super) request: WafRequest<'a>,
    /// The path, decoded once.
    pub(super) path: Vec<u8>,
    pub(super) query: Vec<Pair>,
    pub(super) cookies: Vec<Pair>,
    pub(super) format: Option<Format>,
    pub(super) parts: Parts,
    /// What the body may be besides.
    pub(super) other: Parts,
    /// There are more values than are inspected.
    pub(super) is_cut: bool,
}

impl<'a> Values<'a> {
    pub(super) fn read(request: WafRequest<'a>) -> Self {
        let target = request.target.split('#').next().unwrap_or_default();
        let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
        let (query, is_cut) = body::form(raw_query.as_bytes());
        let content_type = String::from_utf8_lossy(request.header("content-type").unwrap_or_default());
        let format = Format::of(&content_type);
        let (cookies, has_more_cookies) = cookies(&request);
        // Two types are read by two parsers.
        let types = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let mut types = types.map(|(_, value)| *value);
        let is_one = types.clone().zip(types.clone().skip(1)).all(|(one, next)| one == next);
        let is_binary = format.is_none() && is_one && body::is_binary(&content_type, request.body);
        let (mut parts, other) = if is_binary {
            (Parts::binary(request.body), Parts::default())
        } else {
            let parts = body::read(format, &content_type, request.body);
            let other = body::guess(format, &content_type, request.body, &parts).unwrap_or_default();
            (parts, other)
        };
        let is_read = request.body.is_empty() || is_one && types.all(charset::has_known);
        parts.is_foreign |= !is_read;
        Self {
            request,
            path: decode::percent(raw_path.as_bytes(), false),
            query,
            cookies,
            format,
            is_cut: is_cut || has_more_cookies || parts.is_cut || other.is_cut,
            parts,
            other,
        }
    }
}

/// The pairs of every `Cookie` header; whether there are too many.
fn cookies(request: &WafRequest<'_>) -> (Vec<Pair>, bool) {
    let headers = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
    let mut pairs = headers.flat_map(|(_, value)| value.split(|&byte| byte == b';')).filter_map(|pair| {
        let pair = pair.trim_ascii();
        let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let name = pair.get(..end)?.to_vec();
        (!name.is_empty()).then(|| (name, pair.get(end + 1..).unwrap_or_default().to_vec()))
    });
    let cookies = pairs.by_ref().take(MOST_VALUES).collect();
    (cookies, pairs.next().is_some())
}
