//! Revocations: which tokens are good no longer, though their issuer made them and they have not expired.
//!
//! Tokens that were verified are remembered with the [`Revocations::epoch`] of that moment. It changes with every
//! revocation, so that none is taken by what was known before it: whoever finds another epoch asks again.
//!
//! *Invariant:* a token without the time that a revocation asks for is revoked.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

/// The most revocations in force.
pub const MOST: usize = 1_000_000;

/// Tokens that are good no longer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Revoked {
    /// The API key of this id.
    Key(u64),
    /// All tokens of an issuer that were issued before a moment; `None`: all of them.
    Issuer {
        /// Its `iss`.
        issuer: String,
        /// Seconds since the Unix epoch.
        before: Option<u64>,
    },
    /// All tokens of one of its subjects, likewise.
    Subject {
        /// The issuer's `iss`.
        issuer: String,
        /// The subject, as the token has it.
        subject: String,
        /// Seconds since the Unix epoch.
        before: Option<u64>,
    },
    /// One token.
    Token {
        /// The issuer's `iss`.
        issuer: String,
        /// Its `jti` (RFC 7519 4.1.7).
        id: String,
    },
    /// Whatever an issuer has signed by one of its keys.
    Signer {
        /// The issuer's `iss`.
        issuer: String,
        /// The `kid` of the key, as the issuer's key set has it.
        kid: String,
    },
}

/// What has become of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationChange {
    /// This is revoked from now on.
    Revoked(Revoked),
    /// This is not revoked any more.
    Lifted(Revoked),
}

/// What of a token, or of a key, revocations are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocable {
    /// The token's `iss`; empty: it is none.
    pub issuer: Box<str>,
    /// Its `jti`, if it has one.
    pub id: Option<Box<str>>,
    /// Its subject.
    pub subject: Box<str>,
    /// When it was issued, in seconds since the Unix epoch, if it says so.
    pub issued: Option<u64>,
    /// The API key.
    pub key: Option<u64>,
    /// The `kid` of the key that has verified it: as the key set has it, whatever the token's header says.
    pub signer: Option<Box<str>>,
}

/// The revocations in force, shared by all workers and all configurations.
#[derive(Debug, Default)]
pub struct Revocations {
    /// How often they have changed.
    epoch: AtomicU64,
    in_force: RwLock<RevocationsInForce>,
}

#[derive(Debug, Default)]
struct RevocationsInForce {
    issuers: HashMap<String, OfIssuer>,
    keys: HashSet<u64>,
}

#[derive(Debug, Default)]
struct OfIssuer {
    /// Tokens that were issued before these moments; the largest number: all.
    befores: Vec<u64>,
    subjects: HashMap<String, Vec<u64>>,
    ids: HashSet<String>,
    signers: HashSet<String>,
}

impl OfIssuer {
    fn is_empty(&self) -> bool {
        self.befores.is_empty() && self.subjects.is_empty() && self.ids.is_empty() && self.signers.is_empty()
    }
}

const ALL: u64 = u64::MAX;

impl Revocations {
    /// How often they have changed. What is known of this many changes holds as long as there are no more.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether this is revoked.
    #[must_use]
    pub fn revokes(&self, what: &Revocable) -> bool {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        if what.key.is_some_and(|key| in_force.keys.contains(&key)) {
            return true;
        }
        let Some(of) = in_force.issuers.get(&*what.issuer) else { return false };
        let is_older = |befores: &Vec<u64>| befores.iter().any(|before| what.issued.is_none_or(|at| at < *before));
        is_older(&of.befores)
            || of.subjects.get(&*what.subject).is_some_and(is_older)
            || what.id.as_ref().is_some_and(|id| of.ids.contains(&**id))
            || what.signer.as_ref().is_some_and(|kid| of.signers.contains(&**kid))
    }

    /// One after the other, these are revoked from now on, or not any more.
    pub fn change(&self, changes: impl IntoIterator<Item = RevocationChange>) {
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                RevocationChange::Revoked(one) => in_force.revoke(one),
                RevocationChange::Lifted(one) => in_force.lift(one),
            }
        }
        // While nobody reads: whoever has seen the new epoch finds what is new.
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// Something else has ended that identities rest on: whoever remembers one looks at it again.
    pub fn touch(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// These are revoked from now on, and no others.
    pub fn replace(&self, revoked: impl IntoIterator<Item = Revoked>) {
        let mut next = RevocationsInForce::default();
        revoked.into_iter().for_each(|one| next.revoke(one));
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *in_force, next);
        self.epoch.fetch_add(1, Ordering::Release);
        drop(in_force);
        // Freed while nobody waits.
        drop(before);
    }
}

impl RevocationsInForce {
    fn revoke(&mut self, one: Revoked) {
        match one {
            Revoked::Key(id) => {
                self.keys.insert(id);
            }
            Revoked::Issuer { issuer, before } => {
                add(&mut self.issuers.entry(issuer).or_default().befores, before);
            }
            Revoked::Subject { issuer, subject, before } => {
                add(self.issuers.entry(issuer).or_default().subjects.entry(subject).or_default(), before);
            }
            Revoked::Token { issuer, id } => {
                self.issuers.entry(issuer).or_default().ids.insert(id);
            }
            Revoked::Signer { issuer, kid } => {
                self.issuers.entry(issuer).or_default().signers.insert(kid);
            }
        }
    }

    fn lift(&mut self, one: Revoked) {
        let name = match one {
            Revoked::Key(id) => {
                self.keys.remove(&id);
                return;
            }
            Revoked::Issuer { issuer, before } => {
                let Some(of) = self.issuers.get_mut(&issuer) else { return };
                remove(&mut of.befores, before);
                issuer
            }
            Revoked::Subject { issuer, subject, before } => {
                let Some(of) = self.issuers.get_mut(&issuer) else { return };
                if let Some(befores) = of.subjects.get_mut(&subject) {
                    remove(befores, before);
                    if befores.is_empty() {
                        of.subjects.remove(&subject);
                    }
                }
                issuer
            }
            Revoked::Token { issuer, id } => {
                let Some(of) = self.issuers.get_mut(&issuer) else { return };
                of.ids.remove(&id);
                issuer
            }
            Revoked::Signer { issuer, kid } => {
                let Some(of) = self.issuers.get_mut(&issuer) else { return };
                of.signers.remove(&kid);
                issuer
            }
        };
        if self.issuers.get(&name).is_some_and(OfIssuer::is_empty) {
            self.issuers.remove(&name);
        }
    }
}

fn add(befores: &mut Vec<u64>, before: Option<u64>) {
    let before = before.unwrap_or(ALL);
    if !befores.contains(&before) {
        befores.push(before);
    }
}

fn remove(befores: &mut Vec<u64>, before: Option<u64>) {
    let before = before.unwrap_or(ALL);
    befores.retain(|known| *known != before);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://issuer.example";

    fn token(id: Option<&str>, subject: &str, issued: Option<u64>) -> Revocable {
        Revocable {
            issuer: ISSUER.into(),
            id: id.map(Into::into),
            subject: subject.into(),
            issued,
            ..Revocable::default()
        }
    }

    fn of_issuer(before: Option<u64>) -> Revoked {
        Revoked::Issuer { issuer: ISSUER.to_owned(), before }
    }

    fn of_subject(subject: &str, before: Option<u64>) -> Revoked {
        Revoked::Subject { issuer: ISSUER.to_owned(), subject: subject.to_owned(), before }
    }

    fn of_token(id: &str) -> Revoked {
        Revoked::Token { issuer: ISSUER.to_owned(), id: id.to_owned() }
    }

    /// What is revoked of tokens, where these revocations are in force.
    #[track_caller]
    fn check(revoked: &[Revoked], expect: &[(Revocable, bool)]) {
        let revocations = Revocations::default();
        revocations.change(revoked.iter().cloned().map(RevocationChange::Revoked));
        for (what, is_revoked) in expect {
            assert_eq!(revocations.revokes(what), *is_revoked, "{revoked:?} {what:?}");
        }
        let before = revocations.epoch();
        revocations.change(revoked.iter().cloned().map(RevocationChange::Lifted));
        assert!(revocations.epoch() > before);
        for (what, _) in expect {
            assert!(!revocations.revokes(what), "lifted: {what:?}");
        }
        assert!(revocations.in_force.read().unwrap().issuers.is_empty(), "nothing stays of what was lifted");
        revocations.replace(revoked.to_vec());
        for (what, is_revoked) in expect {
            assert_eq!(revocations.revokes(what), *is_revoked, "replaced: {revoked:?} {what:?}");
        }
    }

    #[test]
    fn j16_what_is_revoked() {
        let foreign = Revocable { issuer: "https://other.example".into(), ..token(Some("a"), "ada", Some(1)) };
        let (a, b) = (token(Some("a"), "ada", Some(100)), token(Some("b"), "bob", Some(200)));
        let (untimed, unnamed) = (token(Some("c"), "ada", None), token(None, "ada", Some(100)));
        check(
            &[of_token("a")],
            &[(a.clone(), true), (b.clone(), false), (unnamed.clone(), false), (foreign.clone(), false)],
        );
        check(
            &[of_subject("ada", None)],
            &[(a.clone(), true), (untimed.clone(), true), (b.clone(), false), (foreign.clone(), false)],
        );
        check(
            &[of_subject("ada", Some(100))],
            &[(a.clone(), false), (token(None, "ada", Some(99)), true), (untimed.clone(), true), (b.clone(), false)],
        );
        check(
            &[of_issuer(Some(150))],
            &[(a.clone(), true), (b.clone(), false), (untimed.clone(), true), (foreign.clone(), false)],
        );
        check(&[of_issuer(None)], &[(a.clone(), true), (b.clone(), true), (foreign, false)]);
        check(&[of_issuer(Some(50)), of_issuer(Some(150))], &[(a, true), (b, false)]);
        let by = |kid: &str| Revocable { signer: Some(kid.into()), ..untimed.clone() };
        let elsewhere = Revocable { issuer: "https://other.example".into(), ..by("k1") };
        let signer = Revoked::Signer { issuer: ISSUER.to_owned(), kid: "k1".to_owned() };
        check(
            &[signer],
            &[(by("k1"), true), (by("k2"), false), (elsewhere, false), (token(Some("k1"), "k1", None), false)],
        );
        let key = |key| Revocable { key: Some(key), ..Revocable::default() };
        check(&[Revoked::Key(7)], &[(key(7), true), (key(8), false), (untimed, false)]);
        check(&[], &[(unnamed, false)]);
    }

    #[test]
    fn one_of_two_is_lifted() {
        let revocations = Revocations::default();
        revocations.change([of_issuer(None), of_issuer(Some(10))].map(RevocationChange::Revoked));
        revocations.change([RevocationChange::Lifted(of_issuer(None))]);
        assert!(revocations.revokes(&token(None, "a", Some(9))) && !revocations.revokes(&token(None, "a", Some(10))));
    }
}
