//! Decides what counts as an observation about a source.

use serde::{Deserialize, Serialize};

/// An observation about a source, made over a *completed* connection: nobody can make it in another's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// A TLS handshake that failed through the client's fault.
    BadHandshake,
    /// A request that breaks HTTP, or that two parsers could read differently.
    BadRequest,
    /// A token that was presented and is not valid.
    BadToken,
    /// Authenticated, and asked for what it may not have.
    Forbidden,
    /// A body that its schema refuses.
    InvalidBody,
    /// No token where one is needed.
    MissingToken,
    /// Over a request limit.
    OverLimit,
    /// Headers or body that came too slowly.
    SlowClient,
    /// Larger than it may be.
    TooLarge,
    /// A path, method or host that does not exist here.
    UnknownRoute,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 10] = [
        Self::BadHandshake,
        Self::BadRequest,
        Self::BadToken,
        Self::Forbidden,
        Self::InvalidBody,
        Self::MissingToken,
        Self::OverLimit,
        Self::SlowClient,
        Self::TooLarge,
        Self::UnknownRoute,
    ];

    /// The name in configuration, logs and the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadHandshake => "bad_handshake",
            Self::BadRequest => "bad_request",
            Self::BadToken => "bad_token",
            Self::Forbidden => "forbidden",
            Self::InvalidBody => "invalid_body",
            Self::MissingToken => "missing_token",
            Self::OverLimit => "over_limit",
            Self::SlowClient => "slow_client",
            Self::TooLarge => "too_large",
            Self::UnknownRoute => "unknown_route",
        }
    }
}
