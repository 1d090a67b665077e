//! The identity of an authenticated client: principal, kind, roles, scopes, claims.
//!
//! *Invariant:* only this module's parent makes an [`Identity`]. A principal reads the same in a header, in a log and in
//! a policy, and says by its beginning how it was proved: no token can be taken for a certificate or a key.

use std::sync::Arc;

use serde_json::Value;

use super::revocation::Revocable;
use crate::settings::auth::Method;

/// How principals begin that no token proves: users with passwords, client certificates, and keys.
const KINDS: [&str; 3] = ["basic:", "cert:", "key:"];

/// Whether a name can stand for one client: it is something, nothing of it is invisible, and nothing of it goes away
/// where blanks around a value do (RFC 9110 5.5).
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.trim().len() == text.len()
        && !text.chars().any(|letter| letter.is_control() || is_unseen(letter))
}

/// Whether a name may be that of a token: it is one, and no name of another kind.
pub(super) fn is_subject(text: &str) -> bool {
    let begins = |kind: &&str| text.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind));
    is_name(text) && !KINDS.iter().any(begins)
}

/// Letters without width, and those that turn the direction of others (Unicode's general category Cf, and line ends).
const fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Proof of authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub(super) method: Method,
    pub(super) principal: Box<str>,
    pub(super) roles: Vec<Box<str>>,
    pub(super) scopes: Vec<Box<str>>,
    /// In the order of the settings' `kept`; empty: it is not proved by a token.
    pub(super) claims: Box<[Option<Value>]>,
    /// SHA-256 of the client certificate without which the token proves nothing; `None`: it is bound to none.
    pub(super) bound_to: Option<[u8; 32]>,
    /// The plan that its API key has.
    pub(super) plan: Option<Box<str>>,
    /// Seconds since the Unix epoch.
    pub(super) expires: u64,
    /// What can be revoked of what proved it.
    pub(super) rests_on: Vec<Arc<Revocable>>,
}

impl Identity {
    /// An identity that no token proves.
    pub(super) fn proved_otherwise(method: Method, principal: Box<str>, roles: Vec<Box<str>>, expires: u64) -> Self {
        let (scopes, claims, rests_on) = (Vec::new(), Box::default(), Vec::new());
        Self { method, principal, roles, scopes, claims, bound_to: None, plan: None, expires, rests_on }
    }

    /// The same, which rests on what proved `other`, too.
    pub(super) fn beside(self: Arc<Self>, other: &Self) -> Arc<Self> {
        if self.expires <= other.expires && other.rests_on.is_empty() {
            return self;
        }
        let rests_on = self.rests_on.iter().chain(&other.rests_on).map(Arc::clone).collect();
        Arc::new(Self { expires: self.expires.min(other.expires), rests_on, ..(*self).clone() })
    }

    /// What can be revoked of what proved it.
    pub(super) fn rests_on(&self) -> impl Iterator<Item = &Revocable> {
        self.rests_on.iter().map(|what| &**what)
    }

    /// How it was proved; by the first of several methods that a route asks for together.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Who: of a token its `sub` (RFC 7519 4.1.2).
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// Which roles the token names, whether or not the configuration knows them.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|role| &**role)
    }

    /// What it may be used for: the token's scopes (RFC 6749 3.3).
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(|scope| &**scope)
    }

    /// The plan that an operator gave its API key; `None`: whatever else it is a member of.
    #[must_use]
    pub fn plan(&self) -> Option<&str> {
        self.plan.as_deref()
    }

    /// One of the claims that are kept, by its place among them.
    #[must_use]
    pub fn claim(&self, index: usize) -> Option<&Value> {
        self.claims.get(index)?.as_ref()
    }

    /// Until when it was proved, in seconds since the Unix epoch, with what the issuer's clock may be off.
    #[must_use]
    pub const fn expires(&self) -> u64 {
        self.expires
    }

    /// The same, of an API key with this plan.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_plan(self, plan: &str) -> Self {
        Self { plan: Some(plan.into()), ..self }
    }

    /// An identity that nobody proved, for the tests of what follows authentication.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn of(principal: &str, roles: &[&str]) -> Self {
        Self::of_token(principal, roles, &[], Vec::new())
    }

    /// The same with scopes, and the claims that are kept.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn of_token(principal: &str, roles: &[&str], scopes: &[&str], claims: Vec<Option<Value>>) -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).into()).collect();
        let claims = claims.into();
        let (principal, method) = (principal.into(), Method::Jwt);
        let (roles, scopes, rests_on) = (words(roles), words(scopes), Vec::new());
        Self { method, principal, roles, scopes, claims, bound_to: None, plan: None, expires: 0, rests_on }
    }
}

/// What would be if somebody had proved to be this: for explanations. Requests never make one.
#[derive(Clone, Debug)]
pub struct Supposed(Identity);

impl Supposed {
    /// `claims` in the order of the settings' `kept`.
    #[must_use]
    pub fn new(
        method: Method,
        principal: &str,
        roles: &[String],
        scopes: &[String],
        claims: Box<[Option<Value>]>,
    ) -> Self {
        let words = |words: &[String]| words.iter().map(|word| word.as_str().into()).collect();
        let (roles, scopes) = (words(roles), words(scopes));
        let (principal, bound_to, plan, expires) = (principal.into(), None, None, u64::MAX);
        Self(Identity { method, principal, roles, scopes, claims, bound_to, plan, expires, rests_on: Vec::new() })
    }

    /// What the identity would be.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_misread() {
        for (text, name, subject) in [
            ("ada", true, true),
            ("Ada Lovelace", true, true),
            ("auth0|5f7c", true, true),
            ("spiffe://example/a", true, true),
            ("j\u{fc}rgen", true, true),
            ("certificate", true, true),
            ("xcert:a", true, true),
            ("", false, false),
            (" ", false, false),
            (" admin", false, false),
            ("admin ", false, false),
            ("\tadmin", false, false),
            ("admin\n", false, false),
            ("ad\u{0}min", false, false),
            ("admin\u{7f}", false, false),
            ("admin\u{85}", false, false),
            ("\u{a0}admin", false, false),
            ("admin\u{2003}", false, false),
            ("admin\u{3000}", false, false),
            ("admin\u{200b}", false, false),
            ("\u{feff}admin", false, false),
            ("ad\u{202e}nim", false, false),
            ("ad\u{2028}min", false, false),
            ("cert:partners:a", true, false),
            ("CERT:partners:a", true, false),
            ("cert:", true, false),
            ("basic:ada", true, false),
            ("key:deploy", true, false),
            ("Key:", true, false),
        ] {
            assert_eq!((is_name(text), is_subject(text)), (name, subject), "{text:?}");
        }
    }
}
