//! `[jwt]` and `[issuer.NAME]`: whose tokens are accepted, and how strictly.

use std::time::Duration;

use crate::{
    claim::{ClaimCondition, ClaimPath},
    file::NamedFile,
};

/// Whose tokens are accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Each has another `iss`.
    pub issuers: Vec<Issuer>,
    /// `jwt.cache`: how many verified tokens are remembered, over all issuers and workers.
    pub cache: usize,
    /// The claims that conditions of routes look at: what is remembered of a token beside its principal and roles.
    pub kept: Vec<ClaimPath>,
}

impl Settings {
    /// Keeps these claims, each once.
    pub fn keep(&mut self, paths: &[&ClaimPath]) {
        for path in paths {
            if !self.kept.contains(path) {
                self.kept.push((*path).clone());
            }
        }
    }
}

/// One issuer of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// Its table: `jwt`, or `issuer.NAME`.
    pub key: String,
    /// `NAME` of `[issuer.NAME]`, which is how the principals of its tokens begin; `None`: that of `[jwt]`, whose
    /// principals are its subjects.
    pub name: Option<String>,
    /// `issuer`: what `iss` must be, byte for byte.
    pub issuer: String,
    /// `audience`: of these, `aud` must be or hold one.
    pub audiences: Vec<String>,
    /// `audience_claim`: the claim that is looked at in the place of `aud`.
    pub audience_claim: ClaimPath,
    /// What its tokens are verified by.
    pub keys: KeySource,
    /// `leeway`: how far the issuer's clock may be off.
    pub leeway: Duration,
    /// `max_lifetime`: the longest `exp - iat` accepted, `None` for any.
    pub max_lifetime: Option<Duration>,
    /// `type`: what the header's `typ` must be, without regard to case; `None` for any.
    pub typ: Option<String>,
    /// `subject_claim`: the claim that names the principal.
    pub subject_claim: ClaimPath,
    /// `roles_claim`: the claims that name the roles, each an array of strings or one string of them with blanks between.
    pub roles_claims: Vec<ClaimPath>,
    /// `roles`: of the roles that its tokens name, these count; `None`: all.
    pub roles: Option<Vec<String>>,
    /// `scope_claim`: the claim that names the scopes, likewise.
    pub scope_claim: ClaimPath,
    /// `claims`: what its tokens must say.
    pub claims: Vec<ClaimCondition>,
}

/// What tokens are verified by.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// `jwks`: a key set (RFC 7517) of public keys.
    Jwks(NamedFile),
    /// `secret`: what issuer and gateway share, for HMAC.
    Secret(NamedFile),
}

impl KeySource {
    /// The file that it is read from.
    #[must_use]
    pub const fn file(&self) -> &NamedFile {
        match self {
            Self::Jwks(file) | Self::Secret(file) => file,
        }
    }
}
