//! HPACK, the compression of header fields (RFC 7541). The decoder supports everything. The encoder uses only the
//! static table, so responses need no state that a client could make us keep.
//!
//! *Invariant:* whatever comes, the dynamic table holds at most [`TABLE`] bytes as the RFC counts them, and is the same
//! on both sides: even fields that no request may have are kept in it.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method,
    uri::{Authority, PathAndQuery},
};

use crate::web::path::escape_query;

mod decode;
mod encode;
mod huffman;
mod table;

#[cfg(test)]
mod tests;

pub(in crate::proxy) use self::decode::Decoder;
#[cfg(test)]
use self::decode::Undecodable;
pub(in crate::proxy) use self::encode::{field, status};

/// The size of the dynamic table, in bytes: the default, which needs no setting (RFC 9113 6.5.2).
pub(super) const TABLE: usize = 4_096;

/// What an entry counts in addition to its name and value (RFC 7541 4.1).
const OVERHEAD: usize = 32;

/// The name of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
enum FieldName {
    Authority,
    Header(HeaderName),
    Method,
    Path,
    Scheme,
    /// One that no request may have, and its length.
    Wrong(&'static str, usize),
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FieldValue {
    Authority(Authority),
    Header(HeaderName, HeaderValue),
    Method(Method),
    Path(PathAndQuery),
    /// Whether it is `https`.
    Scheme(bool),
    /// A value that no request may have.
    Wrong(&'static str),
}

/// A field of the table. It was checked when it came, and is not checked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableField {
    name: FieldName,
    pub(super) content: FieldValue,
    /// As RFC 7541 4.1 counts it, in bytes.
    pub(super) size: usize,
}

impl FieldName {
    fn of(text: &[u8]) -> Self {
        match text {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":scheme" => Self::Scheme,
            [b':', ..] => Self::Wrong("pseudo header of no request", text.len()),
            // RFC 9113 8.2: upper case is as wrong as what is no token.
            _ => HeaderName::from_lowercase(text).map_or(Self::Wrong("invalid header name", text.len()), Self::Header),
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Authority => 10,
            Self::Header(name) => name.as_str().len(),
            Self::Method | Self::Scheme => 7,
            Self::Path => 5,
            Self::Wrong(_, length) => *length,
        }
    }
}

impl TableField {
    fn new(name: FieldName, value: Bytes) -> Self {
        let size = name.length() + value.len() + OVERHEAD;
        Self { content: content(&name, value), name, size }
    }
}

fn content(name: &FieldName, value: Bytes) -> FieldValue {
    match name {
        FieldName::Authority => {
            Authority::from_maybe_shared(value).map_or(FieldValue::Wrong("invalid :authority"), FieldValue::Authority)
        }
        // RFC 9113 8.2.1: a recipient that took them off would read another value than one that does not (H11).
        FieldName::Header(_) if is_padded(&value) => FieldValue::Wrong("header value with space around it"),
        FieldName::Header(name) => HeaderValue::from_maybe_shared(value)
            .map_or(FieldValue::Wrong("invalid header value"), |value| FieldValue::Header(name.clone(), value)),
        FieldName::Method => {
            Method::from_bytes(&value).map_or(FieldValue::Wrong("invalid :method"), FieldValue::Method)
        }
        // The library would drop a fragment.
        FieldName::Path if memchr::memchr(b'#', &value).is_some() => FieldValue::Wrong("fragment in :path"),
        // The library would take a query without a path (RFC 9113 8.3.1).
        FieldName::Path if value.first() != Some(&b'/') && &*value != b"*" => FieldValue::Wrong("invalid :path"),
        FieldName::Path => {
            let value = escape_query(&value).map_or(value, Bytes::from);
            PathAndQuery::from_maybe_shared(value).map_or(FieldValue::Wrong("invalid :path"), FieldValue::Path)
        }
        FieldName::Scheme => match &*value {
            b"http" => FieldValue::Scheme(false),
            b"https" => FieldValue::Scheme(true),
            _ => FieldValue::Wrong("invalid :scheme"),
        },
        FieldName::Wrong(detail, _) => FieldValue::Wrong(detail),
    }
}

fn is_padded(value: &[u8]) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.first()) || is_space(value.last())
}
