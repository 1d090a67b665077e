//! The identity of an authenticated client: principal, kind, roles, scopes, claims.
//!
//! *Invariant:* only this module's parent makes an [`Identity`]. A principal reads the same in a header, in a log and in
//! a policy, and says by its beginning how it was proved: no token can be taken for a certificate or a key.

use serde_json::Value;

/// How principals begin that no token proves: client certificates, and keys.
const KINDS: [&str; 2] = ["cert:", "key:"];

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
    pub(super) principal: Box<str>,
    pub(super) roles: Vec<Box<str>>,
    pub(super) scopes: Vec<Box<str>>,
    /// In the order of the settings' `kept`; empty: it is not proved by a token.
    pub(super) claims: Box<[Option<Value>]>,
    /// Seconds since the Unix epoch.
    pub(super) expires: u64,
}

impl Identity {
    /// An identity that no token proves.
    pub(super) fn proved_otherwise(principal: Box<str>, roles: Vec<Box<str>>, expires: u64) -> Self {
        Self { principal, roles, scopes: Vec::new(), claims: Box::default(), expires }
    }

    /// Who: the token's `sub` (RFC 7519 4.1.2).
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
        Self { principal: principal.into(), roles: words(roles), scopes: words(scopes), claims, expires: 0 }
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
            ("key:deploy", true, false),
            ("Key:", true, false),
        ] {
            assert_eq!((is_name(text), is_subject(text)), (name, subject), "{text:?}");
        }
    }
}
