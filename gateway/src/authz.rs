//! Authorisation: whether an identity may use a route. Denied by default.
//!
//! *Invariant:* only this module makes a [`Permit`], and nothing is forwarded without one.

use crate::{
    auth::Identity,
    diagnostic::Diagnostic,
    refusal::{Refusal, Reject},
    settings::authz::{Requirement, Settings},
};

#[cfg(test)]
mod tests;

/// The most permissions that one route may ask for: one bit each.
pub const MAX_PERMISSIONS: usize = 64;

/// How alike (Jaro-Winkler) a permission must be to one that exists to be suggested instead.
const ALIKE: f64 = 0.8;

/// The roles of the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    roles: Settings,
}

/// A route's requirement with every role resolved.
#[derive(Clone, Debug)]
pub struct Access(AccessRule);

#[derive(Clone, Debug)]
enum AccessRule {
    Nobody,
    Public,
    Authenticated,
    Certificate,
    /// `all` has one bit per permission asked for; each role, sorted by name, the bits that it gives. Only roles that
    /// give one at least are listed: what an identity's roles give together is the union of their bits.
    Roles {
        all: u64,
        gives: Box<[(Box<str>, u64)]>,
    },
}

/// Proof of authorisation: one request may be forwarded.
#[derive(Debug)]
#[must_use = "a permit is what a request is forwarded with"]
pub struct Permit {
    _made_here: (),
}

impl Policy {
    /// The policy that these roles make.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { roles: settings.clone() }
    }

    /// Resolves a route's requirement, once.
    ///
    /// # Errors
    /// A requirement that nobody could ever meet: a permission that no role gives, none at all, or more than
    /// [`MAX_PERMISSIONS`]. The fault's key is `require`, within the route.
    pub fn compile(&self, requirement: &Requirement) -> Result<Access, Diagnostic> {
        let asked = match requirement {
            Requirement::Nobody => return Ok(Access(AccessRule::Nobody)),
            Requirement::Public => return Ok(Access(AccessRule::Public)),
            Requirement::Authenticated => return Ok(Access(AccessRule::Authenticated)),
            Requirement::Certificate => return Ok(Access(AccessRule::Certificate)),
            Requirement::Permissions(asked) => asked,
        };
        if asked.is_empty() {
            return Err(
                Diagnostic::new("require", "names no permission").hint("\"public\", \"authenticated\" or permissions")
            );
        }
        if asked.len() > MAX_PERMISSIONS {
            return Err(Diagnostic::new("require", format!("names over {MAX_PERMISSIONS} permissions")));
        }
        if let Some(unknown) = asked.iter().find(|asked| !self.roles.values().flatten().any(|given| given == *asked)) {
            return Err(self.no_role_gives(unknown));
        }
        let bits = |given: &[String]| {
            asked
                .iter()
                .enumerate()
                .filter(|(_, asked)| given.contains(asked))
                .fold(0, |bits, (at, _)| bits | 1_u64 << at)
        };
        let gives = self.roles.iter().map(|(role, given)| (role.as_str().into(), bits(given)));
        let gives = gives.filter(|(_, bits)| *bits != 0).collect();
        Ok(Access(AccessRule::Roles { all: bits(asked), gives }))
    }

    fn no_role_gives(&self, permission: &str) -> Diagnostic {
        let fault = Diagnostic::new("require", format!("no role gives the permission {permission:?}"));
        let given = self.roles.values().flatten().map(|given| (strsim::jaro_winkler(given, permission), given));
        match given.filter(|(alike, _)| *alike >= ALIKE).max_by(|one, other| one.0.total_cmp(&other.0)) {
            Some((_, given)) => fault.hint(format!("did you mean {given:?}?")),
            None => fault.hint("give it to a role in [roles]"),
        }
    }
}

impl Access {
    /// Whether the decision depends on who asks: requests to other routes need not be authenticated.
    #[must_use]
    pub const fn needs_identity(&self) -> bool {
        matches!(self.0, AccessRule::Authenticated | AccessRule::Certificate | AccessRule::Roles { .. })
    }

    /// Whether the identity must be one that a client certificate proves.
    #[must_use]
    pub const fn needs_certificate(&self) -> bool {
        matches!(self.0, AccessRule::Certificate)
    }

    /// Judges one request.
    ///
    /// # Errors
    /// [`Reject::MissingToken`] where an identity is needed and there is none, [`Reject::Forbidden`] where the
    /// identity's roles together do not give every permission asked for.
    pub fn authorize(&self, identity: Option<&Identity>) -> Result<Permit, Refusal> {
        let permit = Permit { _made_here: () };
        let (all, gives) = match (&self.0, identity) {
            (AccessRule::Public, _) | (AccessRule::Authenticated | AccessRule::Certificate, Some(_)) => {
                return Ok(permit);
            }
            (AccessRule::Nobody, _) => return Err(Refusal::new(Reject::Forbidden, "the route lets nobody through")),
            (AccessRule::Authenticated | AccessRule::Certificate | AccessRule::Roles { .. }, None) => {
                return Err(Refusal::new(Reject::MissingToken, "the route needs an identity"));
            }
            (AccessRule::Roles { all, gives }, Some(identity)) => {
                (*all, identity.roles().map(|role| bits_of(gives, role)))
            }
        };
        if gives.fold(0, |bits, more| bits | more) == all {
            return Ok(permit);
        }
        Err(Refusal::new(Reject::Forbidden, "the roles do not give every permission that the route asks for"))
    }
}

fn bits_of(gives: &[(Box<str>, u64)], role: &str) -> u64 {
    let found = gives.binary_search_by(|(name, _)| (**name).cmp(role)).ok();
    found.and_then(|at| gives.get(at)).map_or(0, |(_, bits)| *bits)
}
