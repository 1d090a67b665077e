//! JWT authentication: whether a bearer token (RFC 6750) is a valid JWT (RFC 7519, RFC 8725) of the configured issuer.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, header::AUTHORIZATION};
use invalid::Invalid;
use jsonwebtoken::Validation;
use keys::Keys;
use serde::de::IgnoredAny;
use token::{Unverified, Validity};

use crate::{
    auth::Identity,
    bounded::Sharded,
    clock::Now,
    diagnostic::Diagnostic,
    refusal::{Refusal, Reject, TokenFault},
    settings::jwt::Settings,
};

mod invalid;
mod keys;
mod token;

#[cfg(test)]
mod tests;

/// What comes before the token: the scheme in any case and exactly one space.
const SCHEME: &[u8] = b"Bearer ";

/// The bearer tokens of all issuers.
///
/// Verified tokens are remembered, whole, until they expire, at most `jwt.cache` of them: a newcomer takes the place
/// of the least recently used of a few picked at random. Other keys or settings start with none, so a key that is no
/// longer there vouches for nothing from then on. What is not valid is not remembered: it is what an attacker has most of.
pub struct Jwt {
    settings: Settings,
    /// Those of each issuer.
    keys: Vec<Keys>,
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
    /// When it was last presented: `CLOCK_MONOTONIC`, nanoseconds.
    used: u64,
}

impl Jwt {
    /// Reads and checks the keys of every issuer.
    ///
    /// # Errors
    /// Every fault of them, under the keys of their files: `jwt.jwks`, `issuer.NAME.secret`.
    pub fn new(settings: &Settings) -> Result<Self, Vec<Diagnostic>> {
        let (mut keys, mut diagnostics) = (Vec::new(), Vec::new());
        for issuer in &settings.issuers {
            match Keys::of(&issuer.keys) {
                Ok(of) => keys.push(of),
                Err(found) => diagnostics.extend(found.into_iter().map(|one| one.under(&issuer.key))),
            }
        }
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let verified = (settings.cache > 0).then(|| Sharded::new(settings.cache));
        Ok(Self { settings: settings.clone(), keys, verified, verifications: AtomicU64::new(0) })
    }

    /// The tokens of another configuration: these, with all that is remembered, where nothing of them has changed.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn succeeded_by(self: &Arc<Self>, settings: &Settings) -> Result<Arc<Self>, Vec<Diagnostic>> {
        if *settings == self.settings { Ok(Arc::clone(self)) } else { Self::new(settings).map(Arc::new) }
    }

    /// How many tokens were verified since the last call.
    pub fn take_verifications(&self) -> u64 {
        self.verifications.swap(0, Ordering::Relaxed)
    }

    /// Judges the request's `Authorization`, or the token that it `carried` elsewhere.
    ///
    /// # Errors
    /// [`Reject::MissingToken`] without the header, [`Reject::BadRequest`] with more than one token, else
    /// [`Reject::InvalidToken`], whose detail names the check that failed and nothing of the token, and
    /// whose signal says whether it was forged.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        carried: Option<&[u8]>,
        now: Now,
    ) -> Result<Arc<Identity>, Refusal> {
        let token = match carried {
            Some(_) if headers.contains_key(AUTHORIZATION) => {
                return Err(Refusal::new(Reject::BadRequest, "a token in two places"));
            }
            Some(token) => token,
            None => bearer(headers)?,
        };
        if let Some(identity) = self.remember(token, now) {
            return Ok(identity);
        }
        self.verifications.fetch_add(1, Ordering::Relaxed);
        let (identity, validity) = self.verify(token, now)?;
        let identity = Arc::new(identity);
        if let Some(verified) = &self.verified {
            let entry = Verified { identity: Arc::clone(&identity), validity, used: now.monotonic };
            verified.lock(token).put(token.into(), entry, |_, entry| entry.used);
        }
        Ok(identity)
    }

    /// The identity that a verified token proved, if it still does.
    fn remember(&self, token: &[u8], now: Now) -> Option<Arc<Identity>> {
        let mut verified = self.verified.as_ref()?.lock(token);
        let entry = verified.find(token)?;
        if entry.validity.check(now.unix_seconds()).is_err() {
            verified.forget(token);
            return None;
        }
        // Seldom enough that the cores that read it need not hand it to each other for every request.
        if now.monotonic.saturating_sub(entry.used) >= RECENT {
            entry.used = now.monotonic;
        }
        Some(Arc::clone(&entry.identity))
    }

    fn verify(&self, token: &[u8], now: Now) -> Result<(Identity, Validity), Invalid> {
        let Unverified { issuer, algorithm, kid, identity, validity } =
            token::read(token, &self.settings, now.unix_seconds())?;
        let keys = self.keys.get(issuer).ok_or(Invalid::new(TokenFault::UnknownKey, "its issuer has no keys"))?;
        let key = keys.find(kid.as_deref(), &algorithm)?;
        // Claims were judged by `token`: which ones count is the issuer's, and the library would read a clock.
        let mut validation = Validation::new(key.algorithm());
        validation.set_required_spec_claims::<&str>(&[]);
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.validate_nbf = false;
        jsonwebtoken::decode::<IgnoredAny>(token, &key.decoding, &validation)
            .map_err(|_why| Invalid::forged("its signature is not its key's"))?;
        Ok((Identity { expires: validity.until, ..identity }, validity))
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<&str> = self.settings.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
        write!(out, "Jwt({issuers:?}, {:?})", self.keys)
    }
}

/// The one bearer token of a request in `Authorization` (RFC 6750 2.1).
fn bearer(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut authorizations = headers.get_all(AUTHORIZATION).iter();
    let authorization = match (authorizations.next(), authorizations.next()) {
        (None, _) => return Err(Refusal::new(Reject::MissingToken, "no Authorization")),
        (Some(_), Some(_)) => return Err(Refusal::new(Reject::BadRequest, "more than one Authorization")),
        (Some(authorization), None) => authorization.as_bytes(),
    };
    match authorization.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(token),
        _ => Err(Invalid::unfit("Authorization is not Bearer").into()),
    }
}
