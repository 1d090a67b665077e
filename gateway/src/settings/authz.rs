//! `[roles]` and `route.require`: which role may do what, and what a route asks for.

use std::collections::BTreeMap;

/// `[roles]`: the permissions of each role.
pub type Settings = BTreeMap<String, Vec<String>>;

/// What a route asks of its clients: `route.require`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The route names no requirement: nobody is let through.
    Nobody,
    /// `"public"`: everybody is.
    Public,
    /// `"authenticated"`: whoever has an identity.
    Authenticated,
    /// `"certificate"`: whoever has an identity by a client certificate; no token will do.
    Certificate,
    /// Names of permissions, all of which the identity's roles must give.
    Permissions(Vec<String>),
}

/// A part of what a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequirementPart {
    /// `allow_if`.
    AllowIf,
    /// `claims`.
    Claims,
    /// `require`, and that the client proves who it is.
    Require,
    /// `scopes`.
    Scopes,
    /// `sources`.
    Sources,
}

impl RequirementPart {
    /// The key of each in a route.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("sources", Self::Sources),
        ("require", Self::Require),
        ("scopes", Self::Scopes),
        ("claims", Self::Claims),
        ("allow_if", Self::AllowIf),
    ];

    /// Its key in a route.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllowIf => "allow_if",
            Self::Claims => "claims",
            Self::Require => "require",
            Self::Scopes => "scopes",
            Self::Sources => "sources",
        }
    }
}
