//! The signals: what can be observed about a source and may count towards a ban.

use serde::{Deserialize, Serialize};

/// An observation about a source, made over a *completed* connection: nobody can make it in another's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// A TLS handshake that failed through the client's fault.
    BadHandshake,
    /// A request that breaks HTTP, or that two parsers could read differently.
    BadRequest,
    /// A token or client certificate that has expired.
    ExpiredToken,
    /// Authenticated, and asked for what it may not have.
    Forbidden,
    /// A token that no issuer makes: its signature is not its key's, it is none at all, or it brings a key of its own.
    ForgedToken,
    /// A body that its schema refuses.
    InvalidBody,
    /// No token where one is needed.
    MissingToken,
    /// A token whose time has not come.
    NotYetValid,
    /// Over a request limit.
    OverLimit,
    /// Headers or body that came too slowly.
    SlowClient,
    /// Larger than it may be.
    TooLarge,
    /// A token that may be an issuer's and is not what `[jwt]` asks for: another type, too long a life, no subject.
    UnfitToken,
    /// A token by a key that the key set does not have.
    UnknownKey,
    /// A path, method or host that does not exist here.
    UnknownRoute,
    /// A token for somebody else.
    WrongAudience,
    /// A token of another issuer.
    WrongIssuer,
}

/// What [`Signal::ForgedToken`] was called in configurations while every token that is not valid counted as it.
pub const FORMER: (&str, Signal) = ("bad_token", Signal::ForgedToken);

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 16] = [
        Self::BadHandshake,
        Self::BadRequest,
        Self::ExpiredToken,
        Self::Forbidden,
        Self::ForgedToken,
        Self::InvalidBody,
        Self::MissingToken,
        Self::NotYetValid,
        Self::OverLimit,
        Self::SlowClient,
        Self::TooLarge,
        Self::UnfitToken,
        Self::UnknownKey,
        Self::UnknownRoute,
        Self::WrongAudience,
        Self::WrongIssuer,
    ];

    /// The name in configuration, logs and the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadHandshake => "bad_handshake",
            Self::BadRequest => "bad_request",
            Self::ExpiredToken => "expired_token",
            Self::Forbidden => "forbidden",
            Self::ForgedToken => "forged_token",
            Self::InvalidBody => "invalid_body",
            Self::MissingToken => "missing_token",
            Self::NotYetValid => "not_yet_valid",
            Self::OverLimit => "over_limit",
            Self::SlowClient => "slow_client",
            Self::TooLarge => "too_large",
            Self::UnfitToken => "unfit_token",
            Self::UnknownKey => "unknown_key",
            Self::UnknownRoute => "unknown_route",
            Self::WrongAudience => "wrong_audience",
            Self::WrongIssuer => "wrong_issuer",
        }
    }

    /// Several of them, for people.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::BadHandshake => "bad handshakes",
            Self::BadRequest => "bad requests",
            Self::ExpiredToken => "expired tokens",
            Self::Forbidden => "forbidden requests",
            Self::ForgedToken => "forged tokens",
            Self::InvalidBody => "invalid bodies",
            Self::MissingToken => "missing tokens",
            Self::NotYetValid => "tokens that are not yet valid",
            Self::OverLimit => "requests over a limit",
            Self::SlowClient => "slow requests",
            Self::TooLarge => "requests that are too large",
            Self::UnfitToken => "unfit tokens",
            Self::UnknownKey => "tokens by unknown keys",
            Self::UnknownRoute => "unknown routes",
            Self::WrongAudience => "tokens for another audience",
            Self::WrongIssuer => "tokens of another issuer",
        }
    }

    /// Whether keys, clocks, trust, routes or roles of ours decide about it: where they are wrong, it is good clients
    /// that cause it, many at once. What is left is how a client behaves, whatever we have configured.
    #[must_use]
    pub const fn may_be_ours(self) -> bool {
        match self {
            Self::BadRequest | Self::OverLimit | Self::SlowClient | Self::TooLarge => false,
            Self::BadHandshake
            | Self::ExpiredToken
            | Self::Forbidden
            | Self::ForgedToken
            | Self::InvalidBody
            | Self::MissingToken
            | Self::NotYetValid
            | Self::UnfitToken
            | Self::UnknownKey
            | Self::UnknownRoute
            | Self::WrongAudience
            | Self::WrongIssuer => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_explains_every_signal() {
        let page = include_str!("../../docs/bans.md");
        for signal in Signal::ALL {
            assert!(page.contains(&format!("`{}`", signal.name())), "docs/bans.md lacks {}", signal.name());
        }
    }
}
