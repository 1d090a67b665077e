//! How clients prove who they are: the settings of every method but client certificates, and which of them a route accepts.

use super::{api_keys, basic, introspection, jwt, revocation::Unavailable};
use crate::identity::claim::ClaimPath;

/// How clients prove who they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// API keys. `[api_keys]`.
    pub api_keys: Option<api_keys::Settings>,
    /// Names and passwords. `[basic]`.
    pub basic: Option<basic::Settings>,
    /// Tokens. `[jwt]` and `[issuer.NAME]`.
    pub jwt: Option<jwt::Settings>,
    /// Servers that are asked about opaque tokens. `[introspection.NAME]`.
    pub introspection: Vec<introspection::IntrospectionServer>,
    /// The claims that conditions of routes look at: what is kept of a token beside its principal and roles.
    pub kept: Vec<ClaimPath>,
    /// What becomes of tokens while it is not known which are revoked. `revocation.unavailable`.
    pub without_revocations: Unavailable,
}

impl Settings {
    /// Whether anybody can come with what can be revoked: a token, or an API key.
    #[must_use]
    pub const fn has_revocable(&self) -> bool {
        self.api_keys.is_some() || self.jwt.is_some() || !self.introspection.is_empty()
    }

    /// Keeps these claims, each once.
    pub fn keep(&mut self, paths: &[&ClaimPath]) {
        for path in paths {
            if !self.kept.contains(path) {
                self.kept.push((*path).clone());
            }
        }
        if let Some(jwt) = &mut self.jwt {
            jwt.kept.clone_from(&self.kept);
        }
    }
}

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A key that the gateway made.
    ApiKey,
    /// A user's name and password (RFC 7617).
    Basic,
    /// A client certificate, in the TLS handshake.
    Certificate,
    /// A token that its issuer is asked about (RFC 7662).
    Introspection,
    /// A token that is verified by its issuer's keys.
    Jwt,
}

impl Method {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::ApiKey, Self::Basic, Self::Certificate, Self::Introspection, Self::Jwt];

    /// Its name in `route.authenticate`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::Basic => "basic",
            Self::Certificate => "certificate",
            Self::Introspection => "introspection",
            Self::Jwt => "jwt",
        }
    }

    /// The table that it is configured by.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::ApiKey => "[api_keys]",
            Self::Basic => "[basic]",
            Self::Certificate => "[client_certificates.NAME]",
            Self::Introspection => "[introspection]",
            Self::Jwt => "[jwt]",
        }
    }

    /// Whether it is a bearer token (RFC 6750): it may have scopes and claims.
    #[must_use]
    pub const fn is_token(self) -> bool {
        matches!(self, Self::Introspection | Self::Jwt)
    }

    /// Whether it reads `Authorization`.
    #[must_use]
    pub const fn reads_authorization(self) -> bool {
        matches!(self, Self::Basic | Self::Introspection | Self::Jwt)
    }
}

/// What a route accepts as proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// By which methods. `route.authenticate`.
    pub methods: Methods,
    /// Whether a token must be bound to a client certificate. `route.certificate_bound`.
    pub bound_tokens: bool,
}

/// The methods that a route accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    /// Every one of these. The first says who the client is and what it may do.
    All(Vec<Method>),
    /// Any of these.
    Any(Vec<Method>),
}

impl Methods {
    /// The methods that are accepted.
    #[must_use]
    pub fn listed(&self) -> &[Method] {
        match self {
            Self::All(methods) | Self::Any(methods) => methods,
        }
    }

    /// Whether `method` is one of them.
    #[must_use]
    pub fn has(&self, method: Method) -> bool {
        self.listed().contains(&method)
    }

    /// Whether `method` can say who the client is. Where all methods are asked for, only the first does.
    #[must_use]
    pub fn may_name_by(&self, method: Method) -> bool {
        match self {
            Self::All(methods) => methods.first() == Some(&method),
            Self::Any(methods) => methods.contains(&method),
        }
    }

    /// Whether an identity can be proved by a token, which may have scopes and claims.
    #[must_use]
    pub fn may_prove_by_token(&self) -> bool {
        match self {
            Self::All(methods) => methods.first().is_some_and(|method| method.is_token()),
            Self::Any(methods) => methods.iter().any(|method| method.is_token()),
        }
    }
}
