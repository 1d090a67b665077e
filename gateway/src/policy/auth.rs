//! Authentication: who a request comes from.
//!
//! *Invariant:* a credential that is not valid is refused, whatever else the request has: no other credential is looked
//! at in its place. Only a request without any other credential is the one of its client certificate.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use api_key::{ApiKeys, Use};
use credentials::Authorization;
use gateway_common::source::Source;
use http::HeaderMap;
use introspection::Introspection;
use role_paths::UnseenRoles;
use tables::CredentialTables;

use crate::{
    diagnostic::Diagnostic,
    os::clock::Now,
    refusal::{Refusal, Reject, TokenFault},
    settings::{
        auth::{self, Accepted, Method, Methods},
        revocation::Unavailable,
    },
    signal::Signal,
};

pub mod api_key;
pub mod certificate;
pub mod crypto;
pub mod identity;
pub mod introspection;
pub mod jwt;
pub mod lookup;
pub mod revocation;
pub mod role_paths;
pub mod tables;

mod basic;
mod binding;
mod challenge;
mod claims;
mod credentials;
mod headers;
mod internal_token;
mod invalid;

pub use basic::hash::PasswordCheck;
pub use binding::NO_CERTIFICATE;
pub use challenge::Challenges;
pub use claims::{is_for_us, moment};
pub use credentials::holds_password;
pub use crypto::{ensure as ensure_crypto, install as install_crypto};
pub use headers::IdentityHeaders;
pub use identity::Identity;
pub use internal_token::InternalTokens;
pub use lookup::{AuthOutcome, Lookup, LookupAnswer};

#[cfg(test)]
mod tests;

/// All methods of authentication, as configured.
#[derive(Debug)]
pub struct Authenticators {
    /// Whose names and passwords are good; `None`: nobody's.
    basic: Option<basic::Basic>,
    /// Whose tokens are good; `None`: nobody's.
    jwt: Option<Arc<jwt::Jwt>>,
    /// Who is asked about tokens that say nothing by themselves.
    introspection: Introspection,
    /// Which API keys are good; `None`: none.
    api_keys: Option<ApiKeys>,
    /// Which keys there are, and what is revoked.
    tables: Arc<CredentialTables>,
    /// What becomes of tokens while it is not known which are revoked.
    without_revocations: Unavailable,
}

/// What a request shows of who it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// A token that was found elsewhere than in `Authorization`.
    pub carried: Option<&'a [u8]>,
    /// The client certificate that was shown for its host.
    pub certificate: Option<&'a certificate::ClientCertificate>,
    /// Where it comes from.
    pub source: Source,
    /// From which address; `None`: a trusted proxy does not name its client, which is nowhere then.
    pub client: Option<IpAddr>,
    /// The host that it asks, in lower case, without a port.
    pub host: &'a str,
    /// What was looked up for it until now.
    pub answers: &'a [LookupAnswer],
}

impl Authenticators {
    /// Reads and checks what the methods are configured with.
    ///
    /// # Errors
    /// Every fault, under its key: `jwt.jwks`.
    pub fn new(settings: &auth::Settings) -> Result<Self, Vec<Diagnostic>> {
        let basic = settings.basic.as_ref().map(basic::Basic::new).transpose();
        let jwt = settings.jwt.as_ref().map(|jwt| jwt::Jwt::new(jwt).map(Arc::new)).transpose();
        let introspection = Introspection::new(&settings.introspection, &settings.kept);
        Self::of(settings, basic, jwt, introspection, Arc::default())
    }

    /// Those of another configuration. What has not changed is shared, with all that is remembered.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn succeeded_by(&self, settings: &auth::Settings) -> Result<Self, Vec<Diagnostic>> {
        let jwt = settings.jwt.as_ref().map(|jwt| match &self.jwt {
            Some(before) => before.succeeded_by(jwt),
            None => jwt::Jwt::new(jwt).map(Arc::new),
        });
        let basic = settings.basic.as_ref().map(|basic| match &self.basic {
            Some(before) => before.succeeded_by(basic),
            None => basic::Basic::new(basic),
        });
        let introspection = self.introspection.succeeded_by(&settings.introspection, &settings.kept);
        Self::of(settings, basic.transpose(), jwt.transpose(), introspection, Arc::clone(&self.tables))
    }

    /// All of them, or every fault of any.
    fn of(
        settings: &auth::Settings,
        basic: Result<Option<basic::Basic>, Vec<Diagnostic>>,
        jwt: Result<Option<Arc<jwt::Jwt>>, Vec<Diagnostic>>,
        introspection: Result<Introspection, Vec<Diagnostic>>,
        tables: Arc<CredentialTables>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let api_keys = settings.api_keys.as_ref().map(|keys| ApiKeys::new(keys, Arc::clone(&tables)));
        match (basic, jwt, introspection, api_keys.transpose()) {
            (Ok(basic), Ok(jwt), Ok(introspection), Ok(api_keys)) => {
                let without_revocations = settings.without_revocations;
                Ok(Self { basic, jwt, introspection, api_keys, tables, without_revocations })
            }
            (basic, jwt, introspection, api_keys) => {
                let others = [basic.err(), jwt.err(), introspection.err()].into_iter().flatten().flatten();
                Err(others.chain(api_keys.err()).collect())
            }
        }
    }

    /// Which keys there are, and what is revoked: the same for all configurations.
    #[must_use]
    pub const fn tables(&self) -> &Arc<CredentialTables> {
        &self.tables
    }

    /// An identity that was proved just now.
    ///
    /// # Errors
    /// What it rests on may have been revoked, and that is not known.
    pub fn admit(&self, identity: Arc<Identity>) -> Result<Arc<Identity>, Refusal> {
        self.tables.admit(identity, self.without_revocations)
    }

    /// What works and is unwise.
    #[must_use]
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let keys = self.jwt.iter().flat_map(|jwt| jwt.warnings());
        self.basic.iter().flat_map(basic::Basic::warnings).chain(keys).collect()
    }

    /// Goes on with files of keys that have changed.
    ///
    /// # Errors
    /// Everything that is wrong with them: those before stay.
    pub fn renew(&self, files: &[(PathBuf, Vec<u8>)]) -> Result<(), Vec<Diagnostic>> {
        self.jwt.as_ref().map_or(Ok(()), |jwt| jwt.renew(files))
    }

    /// The keys that have to be fetched.
    pub fn key_sets(&self) -> impl Iterator<Item = &Arc<jwt::KeySet>> {
        self.jwt.iter().flat_map(|jwt| jwt.fetched())
    }

    /// Begins with keys that a process before this one fetched for `issuer`, a table of the configuration.
    pub fn adopt(&self, issuer: &str, source: &str, document: &[u8], confirmed: u64, now: Now) {
        for set in self.key_sets().filter(|set| set.key() == issuer) {
            set.adopt(source, document, confirmed, now);
        }
    }

    /// The servers that are asked about tokens.
    #[must_use]
    pub const fn introspection(&self) -> &Introspection {
        &self.introspection
    }

    /// How many tokens were verified by keys since the last call: those that were not remembered.
    pub fn take_verifications(&self) -> u64 {
        self.jwt.as_ref().map_or(0, |jwt| jwt.take_verifications())
    }

    /// Whether something may have to be looked up at servers.
    #[must_use]
    pub fn asks_servers(&self) -> bool {
        !self.introspection.is_empty()
    }

    /// Where roles are read from that no token has had yet, of many.
    pub fn unseen_roles(&self) -> impl Iterator<Item = UnseenRoles> {
        self.jwt.iter().flat_map(|jwt| jwt.unseen_roles()).chain(self.introspection.unseen_roles())
    }

    /// Whom a request comes from, by what its route accepts.
    pub fn identify(&self, presented: &Presented<'_>, accepted: &Accepted, now: Now) -> AuthOutcome {
        let methods = accepted.methods.listed();
        let authorization = match Authorization::read(presented.headers, presented.carried, methods) {
            Ok(Authorization::Other) => {
                let why = "Authorization has no scheme that the route accepts";
                return AuthOutcome::refused(Refusal::token(TokenFault::Unfit, why));
            }
            Ok(authorization) => authorization,
            Err(refusal) => return AuthOutcome::refused(refusal),
        };
        let key = match &self.api_keys {
            Some(keys) if methods.contains(&Method::ApiKey) => keys.find(presented.headers),
            _ => Ok(None),
        };
        let key = match key {
            Ok(key) => key,
            Err(refusal) => return AuthOutcome::refused(refusal),
        };
        let judge = Judge { all: self, presented, authorization, key, bound_tokens: accepted.bound_tokens, now };
        match accepted.methods {
            Methods::All(_) => judge.every(methods),
            Methods::Any(_) => judge.one(methods),
        }
    }
}

/// Judges the credentials of one request.
struct Judge<'a> {
    all: &'a Authenticators,
    presented: &'a Presented<'a>,
    authorization: Authorization<'a>,
    /// The API key, where one is accepted.
    key: Option<&'a [u8]>,
    /// Whether tokens have to be bound to a client certificate.
    bound_tokens: bool,
    now: Now,
}

impl Judge<'_> {
    /// By the one credential that there is; by the client certificate only where there is none else.
    fn one(&self, methods: &[Method]) -> AuthOutcome {
        match (self.key, self.authorization) {
            (Some(_), Authorization::None) => self.by(Method::ApiKey),
            (Some(_), _) => {
                Some(AuthOutcome::refused(Refusal::new(Reject::BadRequest, "an API key beside another credential")))
            }
            (None, Authorization::Basic(_)) => self.by(Method::Basic),
            (None, Authorization::Bearer(token)) => Some(self.held(self.token(token, methods))),
            (None, Authorization::None | Authorization::Other) if methods.contains(&Method::Certificate) => {
                self.by(Method::Certificate)
            }
            (None, Authorization::None | Authorization::Other) => None,
        }
        .unwrap_or_else(|| AuthOutcome::refused(missing(methods)))
    }

    /// By all of them. The first says who the client is and what it may do; the others must be good, and add nothing.
    fn every(&self, methods: &[Method]) -> AuthOutcome {
        let mut proved: Option<Arc<Identity>> = None;
        for method in methods {
            let outcome = self.by(*method).unwrap_or_else(|| AuthOutcome::refused(missing(&[*method])));
            let identity = match outcome {
                AuthOutcome::Decided(Ok(identity)) => identity,
                AuthOutcome::Decided(Err(_)) | AuthOutcome::Needs(_) => return outcome,
            };
            proved = Some(match proved {
                None => identity,
                Some(first) => first.beside(&identity),
            });
        }
        proved.ok_or_else(|| missing(methods)).into()
    }

    /// By one method; `None`: there is no such credential.
    fn by(&self, method: Method) -> Option<AuthOutcome> {
        let Self { all, presented, authorization, now, .. } = self;
        Some(match (method, authorization) {
            (Method::ApiKey, _) => {
                let used = Use { client: presented.client, host: presented.host };
                all.api_keys.as_ref()?.judge(self.key?, used, *now).into()
            }
            (Method::Basic, Authorization::Basic(credentials)) => {
                all.basic.as_ref()?.authenticate(credentials, presented.answers, *now)
            }
            (Method::Certificate, _) => presented.certificate?.identity(*now).into(),
            (Method::Introspection | Method::Jwt, Authorization::Bearer(token)) => {
                self.held(self.token(token, &[method]))
            }
            _ => return None,
        })
    }

    /// By a bearer token. Its form says whether it is verified by keys, or whether its server is asked about it; a JWT of
    /// no known issuer is asked about where that is set.
    fn token(&self, token: &[u8], methods: &[Method]) -> AuthOutcome {
        let asks = methods.contains(&Method::Introspection);
        // The form is looked at only where it decides anything.
        let may_verify = || methods.contains(&Method::Jwt) && (!asks || introspection::is_jwt(token));
        match self.all.jwt.as_ref().filter(|_| may_verify()) {
            Some(jwt) => {
                match jwt.authenticate(token, self.presented.answers, &self.all.tables.revocations, self.now) {
                    AuthOutcome::Decided(Err(refusal))
                        if asks
                            && refusal.signal == Some(Signal::WrongIssuer)
                            && self.all.introspection.accepts_jwts(token) =>
                    {
                        self.introspect(token)
                    }
                    outcome => outcome,
                }
            }
            None if asks => self.introspect(token),
            None => AuthOutcome::refused(Refusal::token(TokenFault::Unfit, "nobody's tokens are accepted")),
        }
    }

    fn introspect(&self, token: &[u8]) -> AuthOutcome {
        let Self { all, presented, now, .. } = self;
        let answer = presented.answers.iter().find_map(|answer| match answer {
            LookupAnswer::Introspection(said) => Some(said),
            LookupAnswer::Keys(_) | LookupAnswer::Password(_) => None,
        });
        // The server does not know of it, and nobody who shows a token that was good once is held to have guessed.
        match all.introspection.authenticate(token, presented.source, answer, all.jwt.as_ref(), *now) {
            AuthOutcome::Decided(Ok(identity)) if all.tables.is_revoked(&identity, now.unix_seconds()) => {
                AuthOutcome::refused(Refusal::token(
                    TokenFault::Revoked,
                    "its server calls it active, and it is revoked here",
                ))
            }
            outcome => outcome,
        }
    }

    /// A token's outcome, once it is sure that the client may use it.
    fn held(&self, outcome: AuthOutcome) -> AuthOutcome {
        let AuthOutcome::Decided(Ok(identity)) = outcome else { return outcome };
        let held = binding::check(&identity, self.presented.certificate, self.bound_tokens, self.now);
        held.map(|()| identity).into()
    }
}

/// What is said of a request that has no credential of these methods.
fn missing(methods: &[Method]) -> Refusal {
    let reads_authorization = methods.iter().any(|method| method.reads_authorization());
    let why = match (reads_authorization, methods.contains(&Method::ApiKey)) {
        (true, true) => "no Authorization, and no API key",
        (true, false) => "no Authorization",
        (false, true) => "no API key",
        (false, false) => "no client certificate",
    };
    Refusal::new(Reject::MissingToken, why)
}
