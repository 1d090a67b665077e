//! JWT authentication: whether a bearer token (RFC 6750) is a valid JWT (RFC 7519, RFC 8725) of the configured issuer.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use keys::JwtKeys;
use token::Unverified;

use crate::{
    collections::bounded::Sharded,
    diagnostic::Diagnostic,
    os::clock::Now,
    policy::auth::{
        AuthOutcome, Identity, Lookup, LookupAnswer,
        claims::{Read, Validity},
        invalid::Invalid,
        revocation::Revocations,
        role_paths::{RolePaths, UnseenRoles},
    },
    refusal::{Refusal, Reject, TokenFault},
    settings::jwt,
};

pub mod discovery;
pub mod keys;
pub mod refresh;
pub mod statement;

mod key_set;
mod token;

pub use key_set::{KeySet, KeysAnswer, KeysLookup, source};
pub use keys::KeyName;

#[cfg(test)]
mod tests;

/// The bearer tokens of all issuers.
///
/// Verified tokens are remembered, whole, until they expire, at most `jwt.cache` of them: a newcomer takes the place
/// of the least recently used of a few picked at random. Other keys or settings start with none, so a key that is no
/// longer there vouches for nothing from then on. What is not valid is not remembered: it is what an attacker has most of.
pub struct Jwt {
    settings: jwt::Settings,
    /// Those of each issuer.
    sets: Vec<Arc<KeySet>>,
    /// Where the roles of each are, likewise.
    role_paths: Vec<RolePaths>,
    // Nobody chooses which tokens are signed, and only those are kept: a fast hash will do for what is long.
    verified: Option<Sharded<Box<[u8]>, Verified, foldhash::quality::RandomState>>,
    /// How many tokens were verified: those that were not remembered.
    verifications: AtomicU64,
}

/// How exactly it is remembered when a token was used, in nanoseconds.
const RECENT: u64 = 1_000_000_000;

/// What is remembered of a token.
struct Verified {
    identity: Arc<Identity>,
    validity: Validity,
    /// Whose keys: an index into the issuers of the settings.
    issuer: usize,
    /// That of the keys.
    revision: u64,
    /// When it was last presented: `CLOCK_MONOTONIC`, nanoseconds.
    used: u64,
    /// The [`Revocations::epoch`] up to which it is known not to be revoked.
    epoch: u64,
}

impl Jwt {
    /// Reads and checks the keys of every issuer.
    ///
    /// # Errors
    /// Every fault of them, under the keys of their files: `jwt.jwks`, `issuer.NAME.secret`.
    pub fn new(settings: &jwt::Settings) -> Result<Self, Vec<Diagnostic>> {
        Self::with(settings, &[])
    }

    /// Goes on with the keys that were fetched for `known`.
    fn with(settings: &jwt::Settings, known: &[Arc<KeySet>]) -> Result<Self, Vec<Diagnostic>> {
        let (mut sets, mut diagnostics) = (Vec::new(), Vec::new());
        for issuer in &settings.issuers {
            match KeySet::new(issuer, known) {
                Ok(set) => sets.push(set),
                Err(found) => diagnostics.extend(found),
            }
        }
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let verified = (settings.cache > 0).then(|| Sharded::new(settings.cache));
        let role_paths = settings.issuers.iter().map(|issuer| RolePaths::new(&issuer.key, &issuer.rules)).collect();
        Ok(Self { settings: settings.clone(), sets, role_paths, verified, verifications: AtomicU64::new(0) })
    }

    /// The tokens of another configuration: these, with all that is remembered, where nothing of them has changed. Key
    /// sets in files may have been read again since these settings were: what is in force counts.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn succeeded_by(self: &Arc<Self>, settings: &jwt::Settings) -> Result<Arc<Self>, Vec<Diagnostic>> {
        let mut sets = self.sets.iter().zip(&settings.issuers);
        if *settings == self.settings && sets.all(|(set, issuer)| set.are_of(&issuer.keys)) {
            return Ok(Arc::clone(self));
        }
        Self::with(settings, &self.sets).map(Arc::new)
    }

    /// How many tokens were verified since the last call.
    pub fn take_verifications(&self) -> u64 {
        self.verifications.swap(0, Ordering::Relaxed)
    }

    /// Goes on with files of keys that have changed: with all, or with none.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn renew(&self, files: &[(PathBuf, Vec<u8>)]) -> Result<(), Vec<Diagnostic>> {
        let read = self.sets.iter().map(|set| Ok((set, set.read_again(files)?)));
        let read: Vec<_> = read.collect::<Result<_, Vec<Diagnostic>>>()?;
        for (set, keys) in read.into_iter().filter_map(|(set, keys)| Some((set, keys?))) {
            if let Some(skipped) = keys::told(keys.skipped()) {
                tracing::warn!(issuer = set.key(), skipped, "keys of its file cannot be used");
            }
            set.put(keys);
        }
        Ok(())
    }

    /// The keys that have to be fetched.
    pub fn fetched(&self) -> impl Iterator<Item = &Arc<KeySet>> {
        self.sets.iter().filter(|set| set.fetch().is_some())
    }

    /// Judges a bearer token. `answers`: what was looked up for it until now.
    ///
    /// It is refused by [`Reject::InvalidToken`], whose detail names the check that failed and nothing of the token, and
    /// whose signal says whether it was forged; or by [`Reject::Unavailable`] where it is our keys that are missing.
    pub fn authenticate(
        &self,
        token: &[u8],
        answers: &[LookupAnswer],
        revocations: &Revocations,
        now: Now,
    ) -> AuthOutcome {
        // Before the token is looked at: whatever is revoked from here on has another epoch.
        let epoch = revocations.epoch();
        if let Some(identity) = self.remember(token, revocations, epoch, now) {
            return AuthOutcome::Decided(Ok(identity));
        }
        self.verifications.fetch_add(1, Ordering::Relaxed);
        let (proved, revision) = match self.verify(token, now) {
            Ok(verified) => verified,
            Err(NotVerified::Invalid(invalid)) => return AuthOutcome::refused(invalid.into()),
            Err(NotVerified::NoKey(lookup)) => return without_key(lookup, answers),
        };
        let Proved { issuer, identity, validity, role_paths } = proved;
        // Last: what is forged is no token of the issuer's, revoked or not.
        if identity.rests_on().any(|what| revocations.revokes(what)) {
            return AuthOutcome::refused(Invalid::new(TokenFault::Revoked, "it is revoked").into());
        }
        if let Some(paths) = self.role_paths.get(issuer) {
            paths.note(role_paths);
        }
        let identity = Arc::new(identity);
        if let Some(verified) = &self.verified {
            let identity = Arc::clone(&identity);
            let entry = Verified { identity, validity, issuer, revision, used: now.monotonic, epoch };
            verified.lock(token).put(token.into(), entry, |_, entry| entry.used);
        }
        AuthOutcome::Decided(Ok(identity))
    }

    /// The identity that a verified token proved, if it still does.
    fn remember(&self, token: &[u8], revocations: &Revocations, epoch: u64, now: Now) -> Option<Arc<Identity>> {
        let mut verified = self.verified.as_ref()?.lock(token);
        let entry = verified.find(token)?;
        let vouches = |set: &Arc<KeySet>| set.vouches(entry.revision, now.monotonic);
        let is_vouched_for = self.sets.get(entry.issuer).is_some_and(vouches);
        let is_revoked = || entry.identity.rests_on().any(|what| revocations.revokes(what));
        let is_over = entry.validity.check(now.unix_seconds()).is_err() || !is_vouched_for;
        if is_over || entry.epoch != epoch && is_revoked() {
            verified.forget(token);
            return None;
        }
        if entry.epoch != epoch {
            entry.epoch = epoch;
        }
        // Seldom enough that the cores that read it need not hand it to each other for every request.
        if now.monotonic.saturating_sub(entry.used) >= RECENT {
            entry.used = now.monotonic;
        }
        Some(Arc::clone(&entry.identity))
    }

    fn verify(&self, token: &[u8], now: Now) -> Result<(Proved, u64), NotVerified> {
        let Unverified { issuer, algorithm, kid, proved } = token::read(token, &self.settings, now.unix_seconds())?;
        let Read { identity, validity, role_paths } = proved;
        let set = self.sets.get(issuer).ok_or(Invalid::new(TokenFault::UnknownKey, "its issuer has no keys"))?;
        // Before the keys: what is verified by keys that go meanwhile is not remembered for long.
        let revision = set.revision();
        let keys = set.load();
        let found = match keys.as_ref() {
            Some(keys) if set.is_usable(now.monotonic) => keys.find(kid.as_deref(), &algorithm),
            _ => Err(Invalid::new(TokenFault::UnknownKey, "the keys of its issuer are not there")),
        };
        let (key, algorithm) = match found {
            Err(Invalid { fault: TokenFault::UnknownKey, .. })
                if set.fetch().is_some() && JwtKeys::is_known(&algorithm) =>
            {
                let name = KeyName { kid: kid.map(Into::into), algorithm: algorithm.into() };
                return Err(NotVerified::NoKey(KeysLookup { set: Arc::clone(set), name }));
            }
            found => found?,
        };
        key.check(algorithm, token)?;
        let mut identity = Identity { expires: validity.until, ..identity };
        for what in &mut identity.rests_on {
            Arc::make_mut(what).signer = key.kid.clone();
        }
        Ok((Proved { issuer, identity, validity, role_paths }, revision))
    }

    /// Which keys in files cannot be used. Those of sets that are fetched are told of when they are fetched.
    pub(super) fn warnings(&self) -> impl Iterator<Item = Diagnostic> {
        self.sets.iter().filter(|set| set.fetch().is_none()).filter_map(|set| {
            let warning = set.load().as_ref().as_ref().and_then(JwtKeys::warning);
            Some(warning?.under(set.key()))
        })
    }

    /// Where roles are read from that no token has had yet, of many.
    pub fn unseen_roles(&self) -> impl Iterator<Item = UnseenRoles> {
        self.role_paths.iter().flat_map(RolePaths::unseen)
    }

    /// The keys of an issuer.
    #[must_use]
    pub fn keys_of(&self, issuer: &str) -> Option<&Arc<KeySet>> {
        self.sets.iter().find(|set| set.issuer() == issuer)
    }
}

/// What a token has proved.
struct Proved {
    issuer: usize,
    identity: Identity,
    validity: Validity,
    role_paths: u64,
}

/// Why a token is not verified.
enum NotVerified {
    Invalid(Invalid),
    /// Its key is not there, and may be at its issuer.
    NoKey(KeysLookup),
}

impl From<Invalid> for NotVerified {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// What is said of a token whose key is not there.
fn without_key(lookup: KeysLookup, answers: &[LookupAnswer]) -> AuthOutcome {
    let answer = answers.iter().find_map(|answer| match answer {
        LookupAnswer::Keys(answer) => Some(*answer),
        LookupAnswer::Introspection(_) | LookupAnswer::Password(_) => None,
    });
    let pause = match answer {
        None => return AuthOutcome::Needs(Lookup::Keys(lookup)),
        Some(KeysAnswer::Absent) => {
            return AuthOutcome::refused(Invalid::new(TokenFault::UnknownKey, "its issuer has no such key").into());
        }
        // Between answer and question it went again.
        Some(KeysAnswer::Known) => Duration::ZERO,
        Some(KeysAnswer::Later(pause)) => pause,
    };
    // It may well be good: nothing is held against whoever shows it.
    let why = "its key is not among those that were fetched, and no others can be fetched now";
    let retry_after = Some(pause.as_secs().saturating_add(1));
    AuthOutcome::refused(Refusal { retry_after, ..Refusal::new(Reject::Unavailable, why) })
}

impl fmt::Debug for Jwt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<&str> = self.settings.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
        write!(out, "Jwt({issuers:?}, {:?})", self.sets)
    }
}
