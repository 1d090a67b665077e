//! What of the claims of a token counts: for whom it is, how long, whom it names, and with which roles and scopes. The
//! same keys are in `[jwt]`, `[issuer.NAME]` and `[introspection.NAME]`.

use std::time::Duration;

use crate::identity::claim::{ClaimCondition, ClaimPath};

/// What of the claims counts.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimRules {
    /// `NAME` of the table, which is how its principals begin; `None`: that of `[jwt]`, whose principals are its subjects.
    pub name: Option<String>,
    /// `audience`: of these, `aud` must be or hold one; `None`: a token may be for anybody.
    pub audiences: Option<Vec<String>>,
    /// `audience_claim`: the claim that is looked at in the place of `aud`.
    pub audience_claim: ClaimPath,
    /// Whether there has to be an `exp`.
    pub needs_expiry: bool,
    /// `leeway`: how far the issuer's clock may be off.
    pub leeway: Duration,
    /// `max_lifetime`: the longest `exp - iat` accepted, `None` for any.
    pub max_lifetime: Option<Duration>,
    /// `subject_claim`: the claim that names the principal.
    pub subject_claim: ClaimPath,
    /// `roles_claim`: the claims that name the roles, each an array of strings or one string of them with blanks between.
    pub roles_claims: Vec<ClaimPath>,
    /// `roles`: of the roles that are named, these count; `None`: all.
    pub roles: Option<Vec<String>>,
    /// `role_map`: what else gives roles.
    pub role_map: Vec<RoleMapping>,
    /// `scope_claim`: the claim that names the scopes, likewise.
    pub scope_claim: ClaimPath,
    /// `claims`: what else must be said.
    pub claims: Vec<ClaimCondition>,
    /// `certificate_bound`: whether each token must be bound to a client certificate (RFC 8705).
    pub certificate_bound: bool,
}

/// Roles that something in the claims gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleMapping {
    /// What gives them.
    pub from: RoleSource,
    /// Which.
    pub roles: Vec<String>,
}

/// What gives roles besides being named as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleSource {
    /// `group:NAME`: a name in `roles_claim`.
    Group(String),
    /// `scope:NAME`: a scope.
    Scope(String),
    /// `subject:NAME`: the subject, without the name of its issuer.
    Subject(String),
}

impl RoleSource {
    /// Reads `group:admins`; `None`: it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty())?;
        Some(match kind {
            "group" => Self::Group(name.to_owned()),
            "scope" => Self::Scope(name.to_owned()),
            "subject" => Self::Subject(name.to_owned()),
            _ => return None,
        })
    }

    /// As the configuration has it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Group(name) => format!("group:{name}"),
            Self::Scope(name) => format!("scope:{name}"),
            Self::Subject(name) => format!("subject:{name}"),
        }
    }
}
