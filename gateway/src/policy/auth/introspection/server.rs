//! One introspection server: what it was found to say, which sources may ask, and whether it is well.

use std::{
    cell::RefCell,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use gateway_common::{
    limit::{ArrivalTime, Rate},
    source::Source,
};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::{
    answer::{self, Failure, IntrospectionResult},
    breaker::Breaker,
    request::{IntrospectionRequest, ServerCredentials},
};
use crate::{
    collections::bounded::Sharded,
    diagnostic::Diagnostic,
    identity::claim::ClaimPath,
    os::clock::{MINUTE, Now, SECOND},
    policy::auth::{
        Identity,
        claims::{self, Read, Validity},
        invalid::Invalid,
        jwt::statement::SignedStatement,
        revocation::Revocable,
        role_paths::RolePaths,
    },
    refusal::{Refusal, Reject, TokenFault},
    settings::{
        auth::Method,
        introspection::{IntrospectionServer as Settings, Proof},
    },
};

/// How many sources are kept count of, for each server.
const SOURCES: usize = 16_384;

/// How long an answer without `exp` proves an identity at most, in seconds: a tunnel on it ends then.
pub(super) const WITHOUT_EXPIRY: u64 = 3_600;

/// A token is not good, as its server says.
const INACTIVE: Invalid = Invalid::new(TokenFault::Inactive, "its server does not call it active");

/// A token is of a kind that its server says nothing about.
const UNSUPPORTED: Invalid = Invalid::unfit("its server says nothing about tokens of its kind");

/// What stands for a token: nobody can find another for it, or the token itself.
pub(super) type TokenHash = [u8; 32];

/// What came of asking a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerResponse<'a> {
    /// The status of its answer.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
}

/// What an operator is told of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// It answers again.
    Recovered,
    /// It is not asked for a while. Why, for the log.
    Paused(String),
}

/// One server, with all that is remembered of what it said.
pub(super) struct AskedServer {
    pub(super) settings: Settings,
    pub(super) kept: Vec<ClaimPath>,
    pub(super) role_paths: RolePaths,
    asker: ServerCredentials,
    /// How many questions are under way.
    under_way: AtomicUsize,
    /// What tokens are hashed with.
    key: hmac::Key,
    good: Sharded<TokenHash, GoodToken>,
    bad: Sharded<TokenHash, BadToken>,
    breaker: Mutex<Breaker>,
    /// What each source has left of tokens that are not good.
    budgets: Sharded<Source, ArrivalTime>,
    rate: Rate,
    counts: ResultCounts,
}

/// What is remembered of a good token.
struct GoodToken {
    identity: Arc<Identity>,
    validity: Validity,
    /// Until when the answer counts: `CLOCK_MONOTONIC`, nanoseconds.
    until: u64,
}

/// What is remembered of another token.
struct BadToken {
    refusal: Refusal,
    /// As [`GoodToken::until`].
    until: u64,
}

/// Verifies what is signed, and says what it claims and by which key.
pub(super) type VerifyStatement<'a> = &'a dyn Fn(&[u8]) -> Result<SignedStatement, &'static str>;

/// What becomes of requests with tokens of a server: labels of metrics. Those of answers come first.
pub const RESULTS: [&str; 6] = ["active", "inactive", "failed", "credentials", "paused", "over_limit"];

/// What became of requests with its tokens, in the order of [`RESULTS`].
#[derive(Debug, Default)]
struct ResultCounts([AtomicU64; RESULTS.len()]);

impl ResultCounts {
    fn add(&self, result: &str) {
        for (_, count) in RESULTS.iter().zip(&self.0).filter(|(name, _)| **name == result) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self) -> [u64; RESULTS.len()] {
        self.0.each_ref().map(|count| count.swap(0, Ordering::Relaxed))
    }
}

impl AskedServer {
    pub(super) fn new(settings: &Settings, kept: &[ClaimPath]) -> Result<Self, Diagnostic> {
        let mut secret = [0; 32];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_unspecified| Diagnostic::new("client_id", "the machine has no randomness"))?;
        Ok(Self {
            asker: ServerCredentials::new(&settings.client)?,
            under_way: AtomicUsize::new(0),
            kept: kept.to_vec(),
            role_paths: RolePaths::new(&settings.key, &settings.rules),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            good: Sharded::new(settings.cache),
            bad: Sharded::new(settings.cache),
            breaker: Mutex::new(Breaker::NEW),
            budgets: Sharded::new(SOURCES),
            rate: Rate::per(settings.inactive_per_source.into(), MINUTE, settings.inactive_per_source.into())
                .unwrap_or(Rate::UNLIMITED),
            counts: ResultCounts::default(),
            settings: settings.clone(),
        })
    }

    /// What nobody can find another token for, or the token itself.
    pub(super) fn hash(&self, token: &str) -> TokenHash {
        let tag = hmac::sign(&self.key, token.as_bytes());
        let mut hash = [0; 32];
        hash.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        hash
    }

    /// What an earlier answer says, if it still counts.
    pub(super) fn remember(&self, hash: &TokenHash, now: Now) -> Option<Result<Arc<Identity>, Refusal>> {
        let mut good = self.good.lock(hash);
        if let Some(known) = good.find(hash) {
            if now.monotonic < known.until && known.validity.check(now.unix_seconds()).is_ok() {
                return Some(Ok(Arc::clone(&known.identity)));
            }
            good.forget(hash);
            return None;
        }
        drop(good);
        let mut bad = self.bad.lock(hash);
        let known = bad.find(hash)?;
        if now.monotonic < known.until {
            return Some(Err(known.refusal.clone()));
        }
        bad.forget(hash);
        None
    }

    /// Whether a source may cause a question now.
    ///
    /// # Errors
    /// It asked about too many tokens that are not good, or the server is left alone.
    pub(super) fn admit(&self, source: Source, now: Now) -> Result<(), Refusal> {
        let arrival = self.budgets.lock(&source).find(&source).copied().unwrap_or_default();
        if self.rate.spend(arrival, now.monotonic, 1).is_none() {
            self.counts.add("over_limit");
            let wait = self.rate.wait(arrival, now.monotonic).div_ceil(SECOND).max(1);
            let why = "its source asked about too many tokens that are not active";
            return Err(Refusal { retry_after: Some(wait), ..Refusal::new(Reject::TooManyRequests, why) });
        }
        let admitted = self.breaker().admit(nanos(self.settings.outbound.timeout), now.monotonic);
        admitted.map_err(|wait| {
            self.counts.add("paused");
            unavailable("the introspection server is not asked, as it failed before".to_owned(), wait)
        })
    }

    /// Has the source pay that caused a question, if its token was found to be none that is good.
    pub(super) fn settle(&self, source: Source, hash: &TokenHash, now: Now) {
        if self.bad.lock(hash).find(hash).is_none() {
            return;
        }
        let mut budgets = self.budgets.lock(&source);
        let arrival = budgets.find(&source).copied().unwrap_or_default();
        // Without room there is nothing more to take.
        if let Some(next) = self.rate.spend(arrival, now.monotonic, 1) {
            budgets.put(source, next, |_, arrival| *arrival);
        }
    }

    /// Whether one more question may be under way. Its end is told by [`Self::end`].
    pub(super) fn begin(&self) -> bool {
        let most = self.settings.max_concurrent;
        let more = |under_way| (under_way < most).then_some(under_way + 1);
        self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// A question is not under way any more.
    pub(super) fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// What became of requests with its tokens since the last call, in the order of [`RESULTS`]; and whether it is left
    /// alone.
    pub(super) fn take_counts(&self) -> ([u64; RESULTS.len()], bool) {
        (self.counts.take(), self.breaker().is_open())
    }

    /// What is asked about a token.
    pub(super) fn request(&self, token: &str, nonce: u128, now: Now) -> IntrospectionRequest {
        self.asker.ask(token, self.settings.signed, nonce, now.unix_seconds())
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn received(
        &self,
        hash: &TokenHash,
        received: Result<ServerResponse<'_>, &str>,
        verify: VerifyStatement<'_>,
        now: Now,
    ) -> (Result<Arc<Identity>, Refusal>, Option<ServerEvent>) {
        let signer = RefCell::new(None);
        let said = match received {
            Err(why) => return self.failed("failed", why.to_owned(), now),
            Ok(ServerResponse { status, headers, body }) => {
                let verify = |signed: &[u8]| {
                    let SignedStatement { claims, signer: key } = verify(signed)?;
                    signer.replace(key);
                    self.verified(claims, now)
                };
                let verify: Option<&dyn Fn(&[u8]) -> _> = if self.settings.signed { Some(&verify) } else { None };
                answer::read(status, headers, body, verify)
            }
        };
        match said {
            Ok(IntrospectionResult::Active(claims)) => {
                (self.active(hash, &claims, signer.into_inner(), now), self.succeeded())
            }
            Ok(IntrospectionResult::Inactive) => {
                self.counts.add("inactive");
                (Err(self.bad(hash, INACTIVE.into(), now)), self.succeeded())
            }
            Ok(IntrospectionResult::Unsupported) => {
                self.counts.add("inactive");
                (Err(self.bad(hash, UNSUPPORTED.into(), now)), self.succeeded())
            }
            Err(Failure::Question(status)) => {
                self.counts.add("failed");
                self.undecided();
                let wait = nanos(self.settings.cache_inactive_for);
                (Err(self.bad(hash, unavailable(Failure::Question(status).why(), wait), now)), None)
            }
            Err(failure) => {
                let is_ours = matches!(failure, Failure::Credentials(_));
                self.failed(if is_ours { "credentials" } else { "failed" }, failure.why(), now)
            }
        }
    }

    /// What RFC 9701 5 asks of the claims of a signed answer besides its signature, type and issuer.
    fn verified(&self, claims: Map<String, Value>, now: Now) -> Result<Map<String, Value>, &'static str> {
        let ours = &self.settings.client.id;
        let is_for_us = match claims.get("aud") {
            Some(Value::String(audience)) => audience == ours,
            Some(Value::Array(audiences)) => audiences.iter().any(|audience| audience == ours.as_str()),
            _ => false,
        };
        if !is_for_us {
            return Err("the signed answer's aud is not `client_id`");
        }
        let leeway = self.settings.rules.leeway.as_secs() + self.settings.outbound.timeout.as_secs();
        let issued = claims.get("iat").and_then(Value::as_f64);
        #[expect(clippy::cast_precision_loss, reason = "seconds are few enough")]
        let is_fresh = issued.is_some_and(|issued| (now.unix_seconds() as f64 - issued).abs() <= (leeway + 1) as f64);
        if is_fresh { Ok(claims) } else { Err("the signed answer's iat is not now") }
    }

    /// The identity of a token that its server calls active. `signer`: the key that has signed this answer. The identity rests
    /// on it too: once it is revoked, nothing counts that it has signed.
    fn active(
        &self,
        hash: &TokenHash,
        claims: &Map<String, Value>,
        signer: Option<Box<str>>,
        now: Now,
    ) -> Result<Arc<Identity>, Refusal> {
        self.counts.add("active");
        let seconds = now.unix_seconds();
        let read = self
            .check(claims)
            .and_then(|()| claims::read(Method::Introspection, claims, &self.settings.rules, &self.kept, seconds));
        let Read { identity, validity, role_paths } = match read {
            Ok(read) => read,
            Err(why) => return Err(self.bad(hash, why.into(), now)),
        };
        self.role_paths.note(role_paths);
        let expires = if claims.contains_key("exp") { validity.until } else { seconds.saturating_add(WITHOUT_EXPIRY) };
        let mut rests_on: Vec<Arc<Revocable>> = identity.rests_on.iter().map(|what| self.of_issuer(what)).collect();
        for what in &mut rests_on {
            Arc::make_mut(what).signer.clone_from(&signer);
        }
        let identity = Arc::new(Identity { expires, rests_on, ..identity });
        // The leeway is in it, and the server is to be asked once its own `exp` has come (RFC 7662 4). From then on those
        // who come within a second share one answer.
        let left = validity.until.saturating_sub(self.settings.rules.leeway.as_secs()).saturating_sub(seconds).max(1);
        let until = now.monotonic.saturating_add(nanos(self.settings.cache_for.min(Duration::from_secs(left))));
        let good = GoodToken { identity: Arc::clone(&identity), validity, until };
        self.good.lock(hash).put(*hash, good, |_, good| good.until);
        Ok(identity)
    }

    /// What revocations may be about. A server that does not say whose its tokens are has one issuer, the configured one.
    fn of_issuer(&self, what: &Arc<Revocable>) -> Arc<Revocable> {
        match &self.settings.issuer {
            Some(issuer) if what.issuer.is_empty() => {
                Arc::new(Revocable { issuer: issuer.as_str().into(), ..(**what).clone() })
            }
            _ => Arc::clone(what),
        }
    }

    /// What is asked of every answer about an active token.
    fn check(&self, claims: &Map<String, Value>) -> Result<(), Invalid> {
        let is = |name: &str, wanted: &str| match claims.get(name) {
            None => true,
            Some(value) => value.as_str().is_some_and(|value| value.eq_ignore_ascii_case(wanted)),
        };
        if let (Some(issuer), Some(said)) = (&self.settings.issuer, claims.get("iss"))
            && said.as_str() != Some(issuer)
        {
            return Err(Invalid::new(TokenFault::WrongIssuer, "its iss is not `issuer`"));
        }
        // What else there is has to be shown in another way than as a bearer token (RFC 9449).
        if !is("token_type", "Bearer") && !is("token_type", "access_token") {
            return Err(Invalid::unfit("its token_type is not Bearer"));
        }
        Ok(())
    }

    /// The refusal of a token, which is remembered for a short while.
    fn bad(&self, hash: &TokenHash, refusal: Refusal, now: Now) -> Refusal {
        let until = now.monotonic.saturating_add(nanos(self.settings.cache_inactive_for));
        self.bad.lock(hash).put(*hash, BadToken { refusal: refusal.clone(), until }, |_, bad| bad.until);
        refusal
    }

    /// A question came to nothing that says how the server is.
    pub(super) fn undecided(&self) {
        self.breaker().undecided();
    }

    fn succeeded(&self) -> Option<ServerEvent> {
        let mut breaker = self.breaker();
        let was_open = breaker.is_open();
        breaker.succeeded();
        was_open.then_some(ServerEvent::Recovered)
    }

    fn failed(&self, result: &str, why: String, now: Now) -> (Result<Arc<Identity>, Refusal>, Option<ServerEvent>) {
        self.counts.add(result);
        let mut breaker = self.breaker();
        let opened = breaker.failed(&self.settings.breaker, now.monotonic);
        let wait = if opened { nanos(self.settings.breaker.open_for) } else { 0 };
        drop(breaker);
        (Err(unavailable(why.clone(), wait)), opened.then_some(ServerEvent::Paused(why)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nobody can say whether the token is good. `wait` is in nanoseconds.
fn unavailable(why: String, wait: u64) -> Refusal {
    Refusal { retry_after: Some(wait.div_ceil(SECOND).max(1)), ..Refusal::new(Reject::Unavailable, why) }
}

impl fmt::Debug for AskedServer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proof = match &self.settings.client.proof {
            Proof::Certificate => "certificate",
            Proof::PrivateKey { .. } => "private key",
            Proof::SecretInHeader(_) | Proof::SecretInBody(_) => "secret",
        };
        write!(out, "Server({:?}, by {proof})", self.settings.name)
    }
}
