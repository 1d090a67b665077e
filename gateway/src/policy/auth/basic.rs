//! HTTP Basic (RFC 7617): whether a name and a password are a user's.
//!
//! To compare a password takes long on purpose, so the policy asks for it as a lookup and remembers the result. What is
//! remembered is a keyed hash of name, password and stored hash: another password in the file is another entry.
//!
//! *Invariant:* an unknown name costs what a known one does, so that nobody learns by the time which names there are.
//! Neither name nor password is ever logged; only the principal of a user that is proved is.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use data_encoding::BASE64;
use zeroize::Zeroizing;

use self::{
    hash::{Key, PasswordCheck},
    users::Users,
};
use super::lookup::{AuthOutcome, Lookup, LookupAnswer};
use crate::{
    collections::bounded::Sharded,
    diagnostic::Diagnostic,
    os::clock::Now,
    refusal::{Refusal, Reject},
    settings::basic,
};

pub(super) mod hash;

mod users;

#[cfg(test)]
mod tests;

/// The longest name and password together, in bytes.
const MAX_CREDENTIALS: usize = 1_024;

/// For how long a password that was wrong is not compared again, in nanoseconds: clients that try the same one over and
/// over cost nothing.
const WRONG_FOR: u64 = 10_000_000_000;

/// The users, with what is remembered of their passwords.
pub(super) struct Basic {
    settings: basic::Settings,
    users: Users,
    results: Arc<Results>,
}

/// Results of comparisons. They outlive a reload.
struct Results {
    known: Sharded<Key, KnownPassword>,
    capacity: usize,
    key: hmac::Key,
}

#[derive(Clone, Copy)]
struct KnownPassword {
    is_right: bool,
    /// Until when it counts: `CLOCK_MONOTONIC`, nanoseconds.
    until: u64,
}

impl Basic {
    /// Reads the users.
    ///
    /// # Errors
    /// Every fault of the file, with its line.
    pub(super) fn new(settings: &basic::Settings) -> Result<Self, Vec<Diagnostic>> {
        Self::with(settings, None)
    }

    /// Those of another configuration, with all that is remembered.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn succeeded_by(&self, settings: &basic::Settings) -> Result<Self, Vec<Diagnostic>> {
        Self::with(settings, Some(&self.results))
    }

    fn with(settings: &basic::Settings, before: Option<&Arc<Results>>) -> Result<Self, Vec<Diagnostic>> {
        let under = |found: Vec<Diagnostic>| found.into_iter().map(|one| one.under("basic")).collect::<Vec<_>>();
        let users = Users::read(settings).map_err(under)?;
        let results = match before.filter(|before| before.capacity == settings.cache) {
            Some(before) => Arc::clone(before),
            None => Arc::new(Results::new(settings.cache).map_err(|wrong| under(vec![wrong]))?),
        };
        Ok(Self { settings: settings.clone(), users, results })
    }

    /// What works and is unwise.
    pub(super) fn warnings(&self) -> Vec<Diagnostic> {
        self.users.warnings(&self.settings).into_iter().map(|warning| warning.under("basic")).collect()
    }

    /// Judges the credentials of an `Authorization: Basic`.
    ///
    /// The refusal is [`Reject::InvalidCredentials`] whether the name is unknown, the password wrong, or both unreadable.
    pub(super) fn authenticate(&self, credentials: &[u8], answers: &[LookupAnswer], now: Now) -> AuthOutcome {
        let wrong = |why| AuthOutcome::refused(Refusal::new(Reject::InvalidCredentials, why));
        let Some(decoded) = decode(credentials) else { return wrong("Authorization: Basic is not in base64") };
        let Some((name, password)) = split(&decoded) else {
            return wrong("Authorization: Basic is no name with a password");
        };
        let user = self.users.find(name);
        let Some(hash) = user.map(|user| &user.hash).or_else(|| self.users.decoy(self.results.number(name))) else {
            return wrong("there are no users");
        };
        let key = self.results.key(name, password, hash.text());
        let compared = answers.iter().find_map(|answer| match answer {
            LookupAnswer::Password(is_right) => Some(*is_right),
            LookupAnswer::Introspection(_) | LookupAnswer::Keys(_) => None,
        });
        let is_right = match (self.results.find(&key, now), compared) {
            (Some(known), _) => known,
            (None, Some(is_right)) => {
                let until = if is_right { self.settings.remember.as_nanos() } else { u128::from(WRONG_FOR) };
                let until = now.monotonic.saturating_add(u64::try_from(until).unwrap_or(u64::MAX));
                self.results.put(key, KnownPassword { is_right, until });
                is_right
            }
            (None, None) => {
                let check = PasswordCheck::new(key, hash, password);
                return AuthOutcome::Needs(Lookup::Password(Box::new(check)));
            }
        };
        match user.filter(|_| is_right) {
            Some(user) => AuthOutcome::Decided(Ok(Arc::clone(&user.identity))),
            None => {
                let refusal = Refusal::new(Reject::InvalidCredentials, "the name or the password is wrong");
                AuthOutcome::refused(refusal.claiming(&format!("basic:{name}")))
            }
        }
    }
}

impl fmt::Debug for Basic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Basic({} users)", self.users.len())
    }
}

impl Results {
    fn new(capacity: usize) -> Result<Self, Diagnostic> {
        let mut secret = Zeroizing::new([0; 32]);
        let filled = SystemRandom::new().fill(&mut *secret);
        filled.map_err(|_unspecified| Diagnostic::new("", "the machine has no randomness"))?;
        Ok(Self { known: Sharded::new(capacity), capacity, key: hmac::Key::new(hmac::HMAC_SHA256, &*secret) })
    }

    fn key(&self, name: &str, password: &[u8], hash: &str) -> Key {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name.as_bytes(), hash.as_bytes(), password] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().unwrap_or([0; 32])
    }

    /// A number that belongs to a name, and that nobody can foretell.
    fn number(&self, name: &str) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.key(name, b"", "");
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    fn find(&self, key: &Key, now: Now) -> Option<bool> {
        let mut known = self.known.lock(key);
        known.find(key).filter(|known| now.monotonic < known.until).map(|known| known.is_right)
    }

    /// Remembers a result. Right ones are worth more: wrong ones are what an attacker has any number of.
    fn put(&self, key: Key, result: KnownPassword) {
        self.known.lock(&key).put(key, result, |_, known| (known.is_right, known.until));
    }
}

/// Name and password, with the colon between.
fn decode(credentials: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if credentials.len() > MAX_CREDENTIALS.div_ceil(3) * 4 {
        return None;
    }
    BASE64.decode(credentials).ok().map(Zeroizing::new)
}

/// The name ends at the first colon (RFC 7617 2). Neither may have control characters.
fn split(decoded: &[u8]) -> Option<(&str, &[u8])> {
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = decoded.split_at_checked(colon)?;
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    let password = password.get(1..)?;
    let is_control = |byte: &u8| byte.is_ascii_control();
    (!name.as_bytes().iter().chain(password).any(is_control)).then_some((name, password))
}
