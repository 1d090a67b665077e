//! Authorisation: whether an identity may use a route. Denied by default.
//!
//! *Invariant:* only this module makes a [`Permit`], and nothing is forwarded without one.

use std::{net::IpAddr, sync::Arc};

use crate::{
    diagnostic::Diagnostic,
    identity::{
        claim::{ClaimCondition, ClaimPath},
        expression::Expression,
        permission::gives,
    },
    policy::auth::Identity,
    refusal::{BearerError, Refusal, Reject},
    settings::{
        authz::{self, Requirement, RequirementPart},
        route::{Route, Sources},
    },
};

use condition::Judge;

pub use condition::RequestFacts;
pub use shadow::{ShadowParts, WouldDeny};

mod condition;
pub mod explain;
pub mod shadow;

#[cfg(test)]
mod tests;

/// The most permissions that one route may ask for: one bit each.
pub const MAX_PERMISSIONS: usize = 64;

/// How alike (Jaro-Winkler) a permission must be to one that exists to be suggested instead.
const ALIKE: f64 = 0.8;

/// The roles of the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    roles: authz::Settings,
}

/// A route's requirement with every role resolved.
#[derive(Clone, Debug)]
pub struct Access {
    rule: AccessRule,
    /// What the token must be good for.
    scopes: Box<[Box<str>]>,
    /// What it must say: each with the place of its claim among those that are kept of a token.
    claims: Box<[(usize, ClaimCondition)]>,
    /// All must be true.
    conditions: Box<[Expression]>,
    /// Where clients may be; `None`: anywhere.
    sources: Option<Sources>,
    /// What of it only counts; `None`: nothing.
    shadow: Option<Arc<ShadowParts>>,
}

#[derive(Clone, Debug)]
enum AccessRule {
    Nobody,
    Public,
    Authenticated,
    Certificate,
    /// `all` has one bit per permission asked for; each role, sorted by name, the bits that it gives. Only roles that
    /// give one at least are listed: what an identity's roles give together is the union of their bits.
    Roles {
        asked: Box<[Box<str>]>,
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
    pub fn new(settings: &authz::Settings) -> Self {
        Self { roles: settings.clone() }
    }

    /// Resolves a route's requirement, once.
    ///
    /// # Errors
    /// A requirement that nobody could ever meet: a permission that no role gives, none at all, or more than
    /// [`MAX_PERMISSIONS`]. The fault's key is `require`, within the route.
    pub fn compile(&self, requirement: &Requirement) -> Result<Access, Diagnostic> {
        let asked = match requirement {
            Requirement::Nobody => return Ok(AccessRule::Nobody.into()),
            Requirement::Public => return Ok(AccessRule::Public.into()),
            Requirement::Authenticated => return Ok(AccessRule::Authenticated.into()),
            Requirement::Certificate => return Ok(AccessRule::Certificate.into()),
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
        if let Some(unknown) =
            asked.iter().find(|asked| !self.roles.values().flatten().any(|given| gives(given, asked)))
        {
            return Err(self.no_role_gives(unknown));
        }
        let bits = |given: &[String]| {
            asked
                .iter()
                .enumerate()
                .filter(|(_, asked)| given.iter().any(|given| gives(given, asked)))
                .fold(0, |bits, (at, _)| bits | 1_u64 << at)
        };
        let roles = self.roles.iter().map(|(role, given)| (role.as_str().into(), bits(given)));
        let roles = roles.filter(|(_, bits)| *bits != 0).collect();
        let names = asked.iter().map(|asked| asked.as_str().into()).collect();
        Ok(AccessRule::Roles { asked: names, all: bits(asked), gives: roles }.into())
    }

    /// Everything that a route asks for. `kept` are the claims that identities keep.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn access(&self, route: &Route, kept: &[ClaimPath]) -> Result<Access, Diagnostic> {
        let access = self.compile(&route.require)?.of_tokens(&route.scopes, &route.claims, kept);
        let access = access.restricted(route.sources.as_ref(), &route.allow_if, kept);
        let shadow = route.name.as_ref().filter(|_| !route.shadow.is_empty());
        Ok(Access { shadow: shadow.map(|name| Arc::new(ShadowParts::new(name, &route.shadow))), ..access })
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

impl From<AccessRule> for Access {
    fn from(rule: AccessRule) -> Self {
        let (scopes, claims, conditions) = (Box::default(), Box::default(), Box::default());
        Self { rule, scopes, claims, conditions, sources: None, shadow: None }
    }
}

impl Access {
    /// The same for tokens that are good for all of `scopes` and say what `claims` ask for. `kept` are the claims that
    /// identities keep; a condition on another is never met.
    #[must_use]
    pub fn of_tokens(self, scopes: &[String], claims: &[ClaimCondition], kept: &[ClaimPath]) -> Self {
        let place = |path| kept.iter().position(|kept| kept == path).unwrap_or(usize::MAX);
        Self {
            scopes: scopes.iter().map(|scope| scope.as_str().into()).collect(),
            claims: claims.iter().map(|condition| (place(&condition.path), condition.clone())).collect(),
            ..self
        }
    }

    /// The same for clients within `sources`, and for requests of which `conditions` are true.
    #[must_use]
    pub fn restricted(self, sources: Option<&Sources>, conditions: &[Expression], kept: &[ClaimPath]) -> Self {
        Self {
            conditions: conditions.iter().map(|condition| condition.placed(kept)).collect(),
            sources: sources.cloned(),
            ..self
        }
    }

    /// Judges where a client is, before anything is asked about who it is. `address`: `None` where a trusted proxy does
    /// not name its client, who is nowhere then.
    ///
    /// # Errors
    /// [`Reject::SourceNotAllowed`].
    pub fn admit(&self, address: Option<IpAddr>, would: &mut WouldDeny) -> Result<(), Refusal> {
        self.settle(RequirementPart::Sources, self.judge_sources(address), would)
    }

    fn judge_sources(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        let Some(sources) = &self.sources else { return Ok(()) };
        match address {
            Some(address) if sources.contain(address) => Ok(()),
            Some(_) => Err(Refusal::new(Reject::SourceNotAllowed, "the client is not within the route's `sources`")),
            None => Err(Refusal::new(Reject::SourceNotAllowed, "a trusted proxy does not name its client")),
        }
    }

    /// What of it is in shadow.
    #[must_use]
    pub const fn shadow(&self) -> Option<&Arc<ShadowParts>> {
        self.shadow.as_ref()
    }

    /// Counts a request of `who` that went on although it `would` have been denied.
    pub fn count(&self, would: &WouldDeny, who: &str) {
        self.shadow.iter().for_each(|shadow| shadow.count(would, who));
    }

    /// A refusal of a client that did not prove who it is, which only counts where `require` is in shadow, and so is what
    /// else its token would have to say.
    ///
    /// # Errors
    /// It is enforced.
    pub fn unproved(&self, refusal: Refusal, would: &mut WouldDeny) -> Result<(), Refusal> {
        match refusal.reject {
            Reject::InvalidCredentials | Reject::InvalidToken | Reject::MissingToken => {
                self.settle(RequirementPart::Require, Err(refusal.clone()), would)?;
                let asked = [
                    (RequirementPart::Scopes, self.scopes.is_empty()),
                    (RequirementPart::Claims, self.claims.is_empty()),
                ];
                let mut asked = asked.into_iter().filter(|(_, is_empty)| !is_empty);
                asked.try_for_each(|(part, _)| self.settle(part, Err(refusal.clone()), would))
            }
            _ => Err(refusal),
        }
    }

    /// Lets a refusal by a part that is in shadow count only.
    fn settle(&self, part: RequirementPart, judged: Result<(), Refusal>, would: &mut WouldDeny) -> Result<(), Refusal> {
        match (judged, &self.shadow) {
            (Err(refusal), Some(shadow)) if shadow.has(part) => {
                would.note(part, refusal);
                Ok(())
            }
            (judged, _) => judged,
        }
    }

    /// Whether the decision depends on who asks: requests to other routes need not be authenticated.
    #[must_use]
    pub const fn needs_identity(&self) -> bool {
        matches!(self.rule, AccessRule::Authenticated | AccessRule::Certificate | AccessRule::Roles { .. })
    }

    /// Judges one request.
    ///
    /// # Errors
    /// [`Reject::MissingToken`] where an identity is needed and there is none, [`Reject::Forbidden`] where the
    /// identity's roles together do not give every permission asked for, its token lacks a scope or a claim, or a
    /// condition is not true. The detail names what is missing and what there is. What is in shadow is noted in `would`.
    pub fn authorize(
        &self,
        identity: Option<&Identity>,
        facts: &RequestFacts<'_>,
        would: &mut WouldDeny,
    ) -> Result<Permit, Refusal> {
        self.settle(RequirementPart::Require, self.judge_rule(identity), would)?;
        self.settle(RequirementPart::Scopes, self.judge_scopes(identity), would)?;
        self.settle(RequirementPart::Claims, self.judge_claims(identity), would)?;
        self.settle(RequirementPart::AllowIf, self.judge_conditions(identity, facts), would)?;
        Ok(Permit { _made_here: () })
    }

    fn judge_rule(&self, identity: Option<&Identity>) -> Result<(), Refusal> {
        match (&self.rule, identity) {
            (AccessRule::Nobody, _) => Err(Refusal::new(Reject::Forbidden, "the route lets nobody through")),
            (AccessRule::Public, _) | (AccessRule::Authenticated | AccessRule::Certificate, Some(_)) => Ok(()),
            (AccessRule::Authenticated | AccessRule::Certificate | AccessRule::Roles { .. }, None) => Err(nobody()),
            (AccessRule::Roles { asked, all, gives }, Some(identity)) => {
                let given = identity.roles().fold(0, |bits, role| bits | bits_of(gives, role));
                if given == *all { Ok(()) } else { Err(forbidden(lacking(asked, given, identity))) }
            }
        }
    }

    fn judge_scopes(&self, identity: Option<&Identity>) -> Result<(), Refusal> {
        if self.scopes.is_empty() {
            return Ok(());
        }
        let identity = identity.ok_or_else(nobody)?;
        let has = |scope: &str| identity.scopes().any(|had| had == scope);
        match self.scopes.iter().find(|scope| !has(scope)) {
            Some(scope) => {
                let refusal =
                    forbidden(format!("the scope {scope} is missing: {}", listed("scopes", identity.scopes())));
                let is_token = identity.method().is_token();
                Err(if is_token { refusal.with(BearerError::InsufficientScope) } else { refusal })
            }
            None => Ok(()),
        }
    }

    fn judge_claims(&self, identity: Option<&Identity>) -> Result<(), Refusal> {
        if self.claims.is_empty() {
            return Ok(());
        }
        let identity = identity.ok_or_else(nobody)?;
        match self.claims.iter().find(|(place, condition)| !condition.holds(identity.claim(*place))) {
            Some((_, condition)) => {
                Err(forbidden(format!("the claim {} is missing or not what the route asks for", condition.path)))
            }
            None => Ok(()),
        }
    }

    fn judge_conditions(&self, identity: Option<&Identity>, facts: &RequestFacts<'_>) -> Result<(), Refusal> {
        let judge = Judge { facts, identity };
        self.conditions.iter().try_for_each(|condition| judge.demand(condition))
    }
}

fn nobody() -> Refusal {
    Refusal::new(Reject::MissingToken, "the route needs an identity")
}

fn forbidden(why: String) -> Refusal {
    Refusal::new(Reject::Forbidden, why)
}

/// How many names of one kind a line of the log lists.
const LISTED: usize = 10;

/// Which permissions are missing, and which roles there are.
fn lacking(asked: &[Box<str>], given: u64, identity: &Identity) -> String {
    let missing = asked.iter().enumerate().filter(|(at, _)| given & (1_u64 << at) == 0).map(|(_, asked)| &**asked);
    format!("missing {}; {}", listed("permissions", missing), listed("roles", identity.roles()))
}

/// `roles: reader, editor and 3 more`.
fn listed<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&'a str> = names.collect();
    let (shown, rest) = names.split_at(names.len().min(LISTED));
    match (shown.is_empty(), rest.len()) {
        (true, _) => format!("no {kind}"),
        (_, 0) => format!("{kind} {}", shown.join(", ")),
        (_, more) => format!("{kind} {} and {more} more", shown.join(", ")),
    }
}

fn bits_of(gives: &[(Box<str>, u64)], role: &str) -> u64 {
    let found = gives.binary_search_by(|(name, _)| (**name).cmp(role)).ok();
    found.and_then(|at| gives.get(at)).map_or(0, |(_, bits)| *bits)
}
