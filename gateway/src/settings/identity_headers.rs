//! `[identity_headers]`: what upstreams are told of who the client is, each header by a template.

use http::HeaderName;

use crate::identity::claim::ClaimPath;

/// The headers, in the order of their names.
pub type Settings = Vec<IdentityHeader>;

/// One header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeader {
    /// Its name.
    pub name: HeaderName,
    /// What its value is made of.
    pub value: Vec<HeaderPart>,
}

/// A part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderPart {
    /// `{claims.PATH}`: a claim of the token.
    Claim(ClaimPath),
    /// `{method}`: how the client proved who it is.
    Method,
    /// `{principal}`.
    Principal,
    /// `{roles}`, with commas between.
    Roles,
    /// `{scopes}`, with commas between.
    Scopes,
    /// As it is.
    Text(String),
}

impl IdentityHeader {
    /// The claims that it tells.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimPath> {
        self.value.iter().filter_map(|piece| match piece {
            HeaderPart::Claim(path) => Some(path),
            _ => None,
        })
    }

    /// As it is written in the configuration.
    #[must_use]
    pub fn text(&self) -> String {
        let piece = |piece: &HeaderPart| match piece {
            HeaderPart::Claim(path) => format!("{{claims.{path}}}"),
            HeaderPart::Method => "{method}".to_owned(),
            HeaderPart::Principal => "{principal}".to_owned(),
            HeaderPart::Roles => "{roles}".to_owned(),
            HeaderPart::Scopes => "{scopes}".to_owned(),
            HeaderPart::Text(text) => text.clone(),
        };
        self.value.iter().map(piece).collect()
    }
}
