//! `[jwt]`: whose tokens are accepted, and how strictly.

use std::time::Duration;

use crate::file::NamedFile;

/// `[jwt]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `jwt.issuer`: what `iss` must be, byte for byte.
    pub issuer: String,
    /// `jwt.audience`: what `aud` must be or hold.
    pub audience: String,
    /// `jwt.jwks`: the key set (RFC 7517).
    pub jwks: NamedFile,
    /// `jwt.leeway`: how far the issuer's clock may be off.
    pub leeway: Duration,
    /// `jwt.max_lifetime`: the longest `exp - iat` accepted, `None` for any.
    pub max_lifetime: Option<Duration>,
    /// `jwt.type`: what the header's `typ` must be, without regard to case; `None` for any.
    pub typ: Option<String>,
    /// `jwt.roles_claim`: the claim that names the roles, an array of strings or one string of them with blanks between.
    pub roles_claim: String,
    /// `jwt.cache`: how many verified tokens are remembered, over all workers.
    pub cache: usize,
}
