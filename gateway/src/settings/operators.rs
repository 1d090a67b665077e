//! `[[operator]]`: who may do what with the running gateway.

use std::{collections::BTreeSet, fmt::Write as _};

use serde::{Deserialize, Serialize};

/// What an operator may do. Roles are a set: none of them includes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See status, lists, explanations and events.
    View,
    /// Block sources.
    Block,
    /// Let sources through: allow, and unblock.
    Allow,
    /// Change what is in force as a whole, or set a safety rule aside.
    Configure,
}

impl Role {
    /// All of them, by the names that the configuration and the command line have for them.
    pub const NAMES: [(&'static str, Self); 4] =
        [("view", Self::View), ("block", Self::Block), ("allow", Self::Allow), ("configure", Self::Configure)];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Block => "block",
            Self::Allow => "allow",
            Self::Configure => "configure",
        }
    }
}

/// Some roles.
pub type Roles = BTreeSet<Role>;

/// All roles.
#[must_use]
pub fn every_role() -> Roles {
    Role::NAMES.into_iter().map(|(_, role)| role).collect()
}

/// The names of roles, for people: `view, block`.
#[must_use]
pub fn names(roles: &[Role]) -> String {
    roles.iter().fold(String::new(), |mut text, role| {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a text cannot fail.
        write!(text, "{comma}{}", role.name()).unwrap_or_default();
        text
    })
}

/// Whom an entry of the configuration is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    /// `group`: everybody in it. A name or a number.
    Group(String),
    /// `user`: a name or a number.
    User(String),
}

/// `[[operator]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// `group` or `user`.
    pub who: Member,
    /// `roles`.
    pub roles: Roles,
}

/// `guard.control_mode`: who may open the control socket at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlMode {
    /// `0600`: root.
    Owner,
    /// `0660`: `guard.control_group` too.
    Group,
    /// `0666`: every user of the host. What they may do, `[[operator]]` says.
    Everybody,
}

impl ControlMode {
    /// All of them, as they are written.
    pub const NAMES: [(&'static str, Self); 3] =
        [("0600", Self::Owner), ("0660", Self::Group), ("0666", Self::Everybody)];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "0600",
            Self::Group => "0660",
            Self::Everybody => "0666",
        }
    }

    /// The bits of the file's mode.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
            Self::Everybody => 0o666,
        }
    }
}
