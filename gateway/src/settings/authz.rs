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
