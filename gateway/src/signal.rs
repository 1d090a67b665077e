//! The signals: what can be observed about a source and may count towards a ban.

use serde::{Deserialize, Serialize};

/// An observation about a source, made over a *completed* connection: nobody can make it in another's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// It alone sends so much more than is usual of all that `[anomalies]` tells of it, and it is no fault of ours.
    Anomaly,
    /// A TLS handshake that failed through the client's fault.
    BadHandshake,
    /// A request that breaks HTTP, or that two parsers could read differently.
    BadRequest,
    /// A token or client certificate that has expired.
    ExpiredToken,
    /// It says that it is a crawler, and is found not to be.
    FalseCrawler,
    /// Authenticated, and asked for what it may not have.
    Forbidden,
    /// A token that no issuer makes: its signature is not its key's, it has none, or it brings a key of its own.
    ForgedToken,
    /// More connections or TLS handshakes than a limit lets its source make.
    HandshakeAbuse,
    /// A token that the introspection server does not call active: made up, revoked or expired.
    InactiveToken,
    /// An attack on what is behind the gateway, such as SQL injection, that a rule has found.
    Injection,
    /// A body that its schema refuses.
    InvalidBody,
    /// A parameter that its route refuses.
    InvalidParameter,
    /// What is sent as a token is none: not three parts, no base64url, no JSON.
    MalformedToken,
    /// No token where one is needed.
    MissingToken,
    /// A token whose time has not come.
    NotYetValid,
    /// Over a request limit.
    OverLimit,
    /// A token or key that was good and has been revoked.
    RevokedToken,
    /// A path that vulnerability scanners ask for, and that does not exist here.
    ScanPath,
    /// A request that an upstream has served.
    Served,
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
    /// Authenticated, and from a source, with a program or by a TLS fingerprint that its principal never came with.
    Unusual,
    /// An upstream failed to serve the request, by its own word: a status of 5xx.
    UpstreamError,
    /// An upstream forbids it: its status is 403.
    UpstreamForbidden,
    /// An upstream does not have it: its status is 404 or 410.
    UpstreamNotFound,
    /// An upstream does not take who asks for anybody it knows: its status is 401.
    UpstreamUnauthorized,
    /// A token for somebody else.
    WrongAudience,
    /// A token of another issuer.
    WrongIssuer,
    /// A name and a password that are no user's.
    WrongPassword,
}

/// What [`Signal::ForgedToken`] was called in configurations while every token that is not valid counted as it.
pub const FORMER: (&str, Signal) = ("bad_token", Signal::ForgedToken);

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 32] = [
        Self::Anomaly,
        Self::BadHandshake,
        Self::BadRequest,
        Self::ExpiredToken,
        Self::FalseCrawler,
        Self::Forbidden,
        Self::ForgedToken,
        Self::HandshakeAbuse,
        Self::InactiveToken,
        Self::Injection,
        Self::InvalidBody,
        Self::InvalidParameter,
        Self::MalformedToken,
        Self::MissingToken,
        Self::NotYetValid,
        Self::OverLimit,
        Self::RevokedToken,
        Self::ScanPath,
        Self::Served,
        Self::SlowClient,
        Self::TooLarge,
        Self::UnfitToken,
        Self::UnknownKey,
        Self::UnknownRoute,
        Self::Unusual,
        Self::UpstreamError,
        Self::UpstreamForbidden,
        Self::UpstreamNotFound,
        Self::UpstreamUnauthorized,
        Self::WrongAudience,
        Self::WrongIssuer,
        Self::WrongPassword,
    ];

    /// What a page of another site can cause in the name of whoever visits it, as the path or the query alone
    /// causes it.
    pub const BY_LINK: [Self; 4] = [Self::Injection, Self::ScanPath, Self::UnknownRoute, Self::UpstreamNotFound];

    /// What following every link of a site causes: nothing that is held against a crawler that is known to be one.
    pub const BY_CRAWLING: [Self; 8] = [
        Self::MissingToken,
        Self::ScanPath,
        Self::Served,
        Self::UnknownRoute,
        Self::UpstreamError,
        Self::UpstreamForbidden,
        Self::UpstreamNotFound,
        Self::UpstreamUnauthorized,
    ];

    /// The name in configuration, logs and the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anomaly => "anomaly",
            Self::BadHandshake => "bad_handshake",
            Self::BadRequest => "bad_request",
            Self::ExpiredToken => "expired_token",
            Self::FalseCrawler => "false_crawler",
            Self::Forbidden => "forbidden",
            Self::ForgedToken => "forged_token",
            Self::HandshakeAbuse => "handshake_abuse",
            Self::InactiveToken => "inactive_token",
            Self::Injection => "injection",
            Self::InvalidBody => "invalid_body",
            Self::InvalidParameter => "invalid_parameter",
            Self::MalformedToken => "malformed_token",
            Self::MissingToken => "missing_token",
            Self::NotYetValid => "not_yet_valid",
            Self::OverLimit => "over_limit",
            Self::RevokedToken => "revoked_token",
            Self::ScanPath => "scan_path",
            Self::Served => "served",
            Self::SlowClient => "slow_client",
            Self::TooLarge => "too_large",
            Self::UnfitToken => "unfit_token",
            Self::UnknownKey => "unknown_key",
            Self::UnknownRoute => "unknown_route",
            Self::Unusual => "unusual",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamForbidden => "upstream_forbidden",
            Self::UpstreamNotFound => "upstream_not_found",
            Self::UpstreamUnauthorized => "upstream_unauthorized",
            Self::WrongAudience => "wrong_audience",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongPassword => "wrong_password",
        }
    }

    /// Several of them, for people.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Anomaly => "anomalies",
            Self::BadHandshake => "bad handshakes",
            Self::BadRequest => "bad requests",
            Self::ExpiredToken => "expired tokens",
            Self::FalseCrawler => "requests of false crawlers",
            Self::Forbidden => "forbidden requests",
            Self::ForgedToken => "forged tokens",
            Self::HandshakeAbuse => "connections over a limit",
            Self::InactiveToken => "inactive tokens",
            Self::Injection => "attempts at injection",
            Self::InvalidBody => "invalid bodies",
            Self::InvalidParameter => "invalid parameters",
            Self::MalformedToken => "malformed tokens",
            Self::MissingToken => "missing tokens",
            Self::NotYetValid => "tokens that are not yet valid",
            Self::OverLimit => "requests over a limit",
            Self::RevokedToken => "revoked tokens",
            Self::ScanPath => "scanner requests",
            Self::Served => "requests that were served",
            Self::SlowClient => "slow requests",
            Self::TooLarge => "requests that are too large",
            Self::UnfitToken => "unfit tokens",
            Self::UnknownKey => "tokens by unknown keys",
            Self::UnknownRoute => "unknown routes",
            Self::Unusual => "unusual requests",
            Self::UpstreamError => "errors of an upstream",
            Self::UpstreamForbidden => "requests that an upstream forbade",
            Self::UpstreamNotFound => "requests for what an upstream does not have",
            Self::UpstreamUnauthorized => "requests that an upstream did not authenticate",
            Self::WrongAudience => "tokens for another audience",
            Self::WrongIssuer => "tokens of another issuer",
            Self::WrongPassword => "wrong passwords",
        }
    }

    /// What one of it is called, for people.
    #[must_use]
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Anomaly => "anomaly",
            Self::BadHandshake => "bad handshake",
            Self::BadRequest => "bad request",
            Self::ExpiredToken => "expired token",
            Self::FalseCrawler => "request of a false crawler",
            Self::Forbidden => "forbidden request",
            Self::ForgedToken => "forged token",
            Self::HandshakeAbuse => "connection over a limit",
            Self::InactiveToken => "inactive token",
            Self::Injection => "attempt at injection",
            Self::InvalidBody => "invalid body",
            Self::InvalidParameter => "invalid parameter",
            Self::MalformedToken => "malformed token",
            Self::MissingToken => "missing token",
            Self::NotYetValid => "token that is not yet valid",
            Self::OverLimit => "request over a limit",
            Self::RevokedToken => "revoked token",
            Self::ScanPath => "scanner request",
            Self::Served => "request that was served",
            Self::SlowClient => "slow request",
            Self::TooLarge => "request that is too large",
            Self::UnfitToken => "unfit token",
            Self::UnknownKey => "token by an unknown key",
            Self::UnknownRoute => "unknown route",
            Self::Unusual => "unusual request",
            Self::UpstreamError => "error of an upstream",
            Self::UpstreamForbidden => "request that an upstream forbade",
            Self::UpstreamNotFound => "request for what an upstream does not have",
            Self::UpstreamUnauthorized => "request that an upstream did not authenticate",
            Self::WrongAudience => "token for another audience",
            Self::WrongIssuer => "token of another issuer",
            Self::WrongPassword => "wrong password",
        }
    }

    /// Whether it can be about somebody: whom the client has proved to be, or whom its credential says it is. `with_keys`:
    /// there are API keys, which say whose they are before they are looked up. Tokens do not: nothing that a forged token
    /// says is looked at.
    #[must_use]
    pub const fn is_about_somebody(self, with_keys: bool) -> bool {
        match self {
            Self::Forbidden
            | Self::Injection
            | Self::InvalidBody
            | Self::InvalidParameter
            | Self::OverLimit
            | Self::RevokedToken
            | Self::SlowClient
            | Self::TooLarge
            | Self::Unusual
            | Self::Served
            | Self::UpstreamError
            | Self::UpstreamForbidden
            | Self::UpstreamNotFound
            | Self::UpstreamUnauthorized
            | Self::WrongPassword => true,
            Self::ExpiredToken | Self::ForgedToken | Self::UnknownKey => with_keys,
            Self::Anomaly
            | Self::BadHandshake
            | Self::BadRequest
            | Self::FalseCrawler
            | Self::HandshakeAbuse
            | Self::InactiveToken
            | Self::MalformedToken
            | Self::MissingToken
            | Self::NotYetValid
            | Self::ScanPath
            | Self::UnfitToken
            | Self::UnknownRoute
            | Self::WrongAudience
            | Self::WrongIssuer => false,
        }
    }

    /// How much it counts in a rule that does not say so. What happens to everybody who buys another laptop bans nobody by
    /// itself.
    #[must_use]
    pub const fn weight(self) -> u32 {
        match self {
            Self::Unusual => 0,
            _ => 1,
        }
    }

    /// Whether keys, clocks, trust, routes or roles of ours decide about it: where they are wrong, it is good clients
    /// that cause it, many at once. What is left is how a client behaves, whatever we have configured.
    #[must_use]
    pub const fn may_be_ours(self) -> bool {
        match self {
            Self::Anomaly
            | Self::BadRequest
            | Self::HandshakeAbuse
            | Self::OverLimit
            | Self::Served
            | Self::SlowClient
            | Self::TooLarge => false,
            Self::BadHandshake
            | Self::ExpiredToken
            | Self::FalseCrawler
            | Self::Forbidden
            | Self::ForgedToken
            | Self::InactiveToken
            | Self::Injection
            | Self::InvalidBody
            | Self::InvalidParameter
            | Self::MalformedToken
            | Self::MissingToken
            | Self::NotYetValid
            | Self::RevokedToken
            | Self::ScanPath
            | Self::UnfitToken
            | Self::UnknownKey
            | Self::UnknownRoute
            | Self::Unusual
            | Self::UpstreamError
            | Self::UpstreamForbidden
            | Self::UpstreamNotFound
            | Self::UpstreamUnauthorized
            | Self::WrongAudience
            | Self::WrongIssuer
            | Self::WrongPassword => true,
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
