//! What `gateway whoami` tells.

use serde::{Deserialize, Serialize};

use crate::settings::operators::{Role, Roles};

/// Who asks, and what they may do here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whoami {
    /// As records name them: `operator:UID`, `token:NAME`.
    pub actor: String,
    /// The user's name; absent: it is not known, or it is no user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What they may do.
    pub roles: Roles,
    /// Where they have their roles from.
    pub grants: Vec<Grant>,
    /// Who has the roles that they lack: `group edge-admin`.
    pub missing: Vec<Grant>,
}

/// Where a role is had from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// `root`, `group NAME`, `user NAME`, `token NAME`.
    pub by: String,
}
