//! Tokens of operators for the admin listener, as `gateway admin-token` is told of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::settings::operators::Roles;

/// A token that was just made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAdminToken {
    /// Whose it is.
    pub name: String,
    /// The token itself: it is told once, here.
    pub token: String,
    /// What it lets its holder do.
    pub roles: Roles,
    /// RFC 3339, UTC.
    pub expires: String,
}

impl fmt::Debug for NewAdminToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "NewAdminToken({:?})", self.name)
    }
}

/// A token that there is, without the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminToken {
    /// Whose it is: records name them `token:NAME`.
    pub name: String,
    /// What it lets its holder do.
    pub roles: Roles,
    /// RFC 3339, UTC.
    pub created: String,
    /// Who made it: `operator:UID`.
    pub by: String,
    /// RFC 3339, UTC.
    pub expires: String,
    /// It has expired: nobody can use it.
    pub expired: bool,
    /// When it was used last, RFC 3339, UTC; absent: not since the guard started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
}
