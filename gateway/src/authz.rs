//! Decides whether an identity may have what a route serves. Deny by default.

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
    /// Names of permissions, all of which the identity's roles must give.
    Permissions(Vec<String>),
}
