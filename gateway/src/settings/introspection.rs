//! `[introspection.NAME]`: servers that are asked about tokens which say nothing by themselves (RFC 7662).

use std::time::Duration;

use super::{claims::ClaimRules, outbound};
use crate::{os::file::NamedFile, web::url::Url};

/// One server that is asked about tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct IntrospectionServer {
    /// Its table: `introspection.NAME`.
    pub key: String,
    /// `NAME`, which is how the principals of its tokens begin.
    pub name: String,
    /// `issuer`: what `iss` must be where the server says it. Without it: anything.
    pub issuer: Option<String>,
    /// Where it is asked.
    pub endpoint: Endpoint,
    /// How it is asked: TLS, addresses, and how long an answer may take.
    pub outbound: outbound::OutboundServer,
    /// How the gateway proves to the server who it is.
    pub client: ClientAuth,
    /// `token_prefix`: only tokens that begin so are the server's.
    pub token_prefix: String,
    /// `accept_jwts`: whether it is asked about tokens, too, that look like a JWT of no known issuer.
    pub accepts_jwts: bool,
    /// `signed`: whether its answers have to be JWTs (RFC 9701).
    pub signed: bool,
    /// `cache`: how many tokens are remembered that are good, and how many that are not.
    pub cache: usize,
    /// `cache_for`: how long an answer about a good token counts at most.
    pub cache_for: Duration,
    /// `cache_inactive_for`: how long an answer about another token counts.
    pub cache_inactive_for: Duration,
    /// `max_concurrent`: how many questions may be under way at once.
    pub max_concurrent: usize,
    /// `inactive_per_source`: how many tokens that are not good a source may ask about in a minute.
    pub inactive_per_source: u32,
    /// When it is not asked for a while.
    pub breaker: IntrospectionBreaker,
    /// What of its answers counts.
    pub rules: ClaimRules,
}

/// Where a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `endpoint`.
    At(Url),
    /// What the metadata of `issuer`, whose URL this is, names as `introspection_endpoint` (RFC 8414).
    Discovered(Url),
}

impl Endpoint {
    /// The endpoint, or where the metadata begins that names it.
    #[must_use]
    pub const fn url(&self) -> &Url {
        match self {
            Self::At(url) | Self::Discovered(url) => url,
        }
    }
}

/// How the gateway proves to a server who it is: `client_id` and `client_auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// `client_id`.
    pub id: String,
    /// `client_auth`.
    pub proof: Proof,
}

/// What a client shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing but its TLS certificate (RFC 8705 2): `outbound.tls.certificate`.
    Certificate,
    /// A JWT that it signed (RFC 7523).
    PrivateKey {
        /// `client_key`: PEM, PKCS#8.
        key: NamedFile,
        /// `client_key_id`: the `kid` of its header.
        id: Option<String>,
        /// `assertion_audience`: its `aud`.
        audience: String,
    },
    /// A secret, in `Authorization` (RFC 6749 2.3.1).
    SecretInHeader(NamedFile),
    /// A secret, in the body of the request.
    SecretInBody(NamedFile),
}

/// `[introspection.NAME.breaker]`: when a server is not asked for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntrospectionBreaker {
    /// `failures`: after so many in a row.
    pub failures: u32,
    /// `open_for`: for so long. Then one question finds out whether it is well again.
    pub open_for: Duration,
}
