//! The table of refusals: status, public text, log label and Signal of each, one row each.
//!
//! *Invariant:* internals (which claim failed, which upstream) go to the log only, through [`Refusal::detail`].

use std::{borrow::Cow, sync::Arc};

use http::StatusCode;

use crate::{refusal::violation::Violation, signal::Signal};

pub mod violation;

/// Every way to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// The client is banned, and is known by the word of a trusted proxy: its packets cannot be told apart.
    Banned,
    /// The request breaks HTTP or could be read in two ways.
    BadRequest,
    /// Whether the body matches the route's schema takes too long to find out.
    BodyTooComplex,
    /// The body is over the route's limit.
    BodyTooLarge,
    /// It expects something that no server is asked for.
    ExpectationFailed,
    /// Authenticated, not permitted.
    Forbidden,
    /// A page of an origin that is not allowed asks. It says nothing about whose browser it is in.
    ForeignOrigin,
    /// The head has too many headers, or too many bytes.
    HeadersTooLarge,
    /// Rules have found an attack in it.
    Injection,
    /// The body does not match the route's schema.
    InvalidBody,
    /// Other credentials than a token were presented and are not valid.
    InvalidCredentials,
    /// A parameter of the path, the query, the headers or the cookies is not what its route takes.
    InvalidParameter,
    /// A token was presented and is not valid.
    InvalidToken,
    /// The path exists, not with this method.
    MethodNotAllowed,
    /// The host is not served on this connection.
    Misdirected,
    /// No token where one is needed.
    MissingToken,
    /// No such route.
    NotFound,
    /// The client took too long to send the request.
    RequestTimeout,
    /// The route is for clients elsewhere. Who is outside an office is no attacker: it says nothing about the source.
    SourceNotAllowed,
    /// Over a request limit.
    TooManyRequests,
    /// The body's media type is not what the route takes.
    UnsupportedMediaType,
    /// The upstream could not be reached or broke off.
    UpstreamFailed,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The gateway itself cannot serve now: draining or overloaded.
    Unavailable,
    /// A WebSocket of another version than the one there is.
    UpgradeRequired,
    /// The request line is too long.
    UriTooLong,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct RefusalRow {
    /// The status of the answer.
    pub status: StatusCode,
    /// What the client is told (RFC 9457 `title`).
    pub title: &'static str,
    /// The label in logs and metrics, and the tail of the problem's `type`.
    pub label: &'static str,
    /// What it says about the source.
    pub signal: Option<Signal>,
}

impl Reject {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 26] = [
        Self::Banned,
        Self::BadRequest,
        Self::BodyTooComplex,
        Self::BodyTooLarge,
        Self::ExpectationFailed,
        Self::Forbidden,
        Self::ForeignOrigin,
        Self::HeadersTooLarge,
        Self::Injection,
        Self::InvalidBody,
        Self::InvalidCredentials,
        Self::InvalidParameter,
        Self::InvalidToken,
        Self::MethodNotAllowed,
        Self::Misdirected,
        Self::MissingToken,
        Self::NotFound,
        Self::RequestTimeout,
        Self::SourceNotAllowed,
        Self::TooManyRequests,
        Self::UnsupportedMediaType,
        Self::UpstreamFailed,
        Self::UpstreamTimeout,
        Self::Unavailable,
        Self::UpgradeRequired,
        Self::UriTooLong,
    ];

    /// Whether other credentials might do (401).
    #[must_use]
    pub const fn is_unauthenticated(self) -> bool {
        matches!(self, Self::InvalidCredentials | Self::InvalidToken | Self::MissingToken)
    }

    /// The row of this refusal.
    #[must_use]
    pub const fn row(self) -> RefusalRow {
        use Signal as S;
        use StatusCode as C;
        let (status, title, label, signal) = match self {
            Self::BadRequest => (C::BAD_REQUEST, "Malformed request", "bad_request", Some(S::BadRequest)),
            Self::Banned => (C::FORBIDDEN, "Blocked", "banned", None),
            Self::BodyTooComplex => (C::BAD_REQUEST, "Body too complex", "body_too_complex", Some(S::InvalidBody)),
            Self::BodyTooLarge => (C::PAYLOAD_TOO_LARGE, "Body too large", "body_too_large", Some(S::TooLarge)),
            Self::ExpectationFailed => {
                (C::EXPECTATION_FAILED, "Expectation not known", "expectation_failed", Some(S::BadRequest))
            }
            Self::Forbidden => (C::FORBIDDEN, "Not permitted", "forbidden", Some(S::Forbidden)),
            Self::ForeignOrigin => (C::FORBIDDEN, "Origin not allowed", "foreign_origin", None),
            Self::HeadersTooLarge => {
                (C::REQUEST_HEADER_FIELDS_TOO_LARGE, "Headers too large", "headers_too_large", Some(S::TooLarge))
            }
            Self::Injection => (C::FORBIDDEN, "Request refused", "injection", Some(S::Injection)),
            Self::InvalidBody => (C::UNPROCESSABLE_ENTITY, "Body not valid", "invalid_body", Some(S::InvalidBody)),
            Self::InvalidCredentials => {
                (C::UNAUTHORIZED, "Credentials not valid", "invalid_credentials", Some(S::WrongPassword))
            }
            Self::InvalidParameter => {
                (C::BAD_REQUEST, "Parameter not valid", "invalid_parameter", Some(S::InvalidParameter))
            }
            Self::InvalidToken => (C::UNAUTHORIZED, "Token not valid", "invalid_token", Some(S::ForgedToken)),
            Self::MethodNotAllowed => {
                (C::METHOD_NOT_ALLOWED, "Method not allowed", "method_not_allowed", Some(S::UnknownRoute))
            }
            Self::Misdirected => (C::MISDIRECTED_REQUEST, "Wrong host", "misdirected", None),
            Self::MissingToken => (C::UNAUTHORIZED, "Token needed", "missing_token", Some(S::MissingToken)),
            Self::NotFound => (C::NOT_FOUND, "No such resource", "not_found", Some(S::UnknownRoute)),
            Self::RequestTimeout => (C::REQUEST_TIMEOUT, "Request too slow", "request_timeout", Some(S::SlowClient)),
            Self::SourceNotAllowed => (C::FORBIDDEN, "Not allowed from here", "source_not_allowed", None),
            Self::TooManyRequests => {
                (C::TOO_MANY_REQUESTS, "Too many requests", "too_many_requests", Some(S::OverLimit))
            }
            Self::UnsupportedMediaType => {
                (C::UNSUPPORTED_MEDIA_TYPE, "Media type not supported", "unsupported_media_type", Some(S::InvalidBody))
            }
            Self::UpstreamFailed => (C::BAD_GATEWAY, "Upstream failed", "upstream_failed", None),
            Self::UpstreamTimeout => (C::GATEWAY_TIMEOUT, "Upstream too slow", "upstream_timeout", None),
            Self::Unavailable => (C::SERVICE_UNAVAILABLE, "Not available now", "unavailable", None),
            Self::UpgradeRequired => {
                (C::UPGRADE_REQUIRED, "Other version needed", "upgrade_required", Some(S::BadRequest))
            }
            Self::UriTooLong => (C::URI_TOO_LONG, "Request line too long", "uri_too_long", Some(S::TooLarge)),
        };
        RefusalRow { status, title, label, signal }
    }
}

/// In which way a token is not valid. The client is told none of it; it decides what the refusal says about the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// Its time is over.
    Expired,
    /// No issuer makes such a token.
    Forged,
    /// The server that it was asked about does not call it active.
    Inactive,
    /// It is no token at all.
    Malformed,
    /// Its time has not come.
    NotYetValid,
    /// It was good, and has been revoked.
    Revoked,
    /// An issuer may well make such a token, for others than us.
    Unfit,
    /// By a key that the key set does not have.
    UnknownKey,
    /// For somebody else.
    WrongAudience,
    /// Of another issuer.
    WrongIssuer,
}

impl TokenFault {
    /// What it says about the source.
    #[must_use]
    pub const fn signal(self) -> Signal {
        match self {
            Self::Expired => Signal::ExpiredToken,
            Self::Forged => Signal::ForgedToken,
            Self::Inactive => Signal::InactiveToken,
            Self::Malformed => Signal::MalformedToken,
            Self::NotYetValid => Signal::NotYetValid,
            Self::Revoked => Signal::RevokedToken,
            Self::Unfit => Signal::UnfitToken,
            Self::UnknownKey => Signal::UnknownKey,
            Self::WrongAudience => Signal::WrongAudience,
            Self::WrongIssuer => Signal::WrongIssuer,
        }
    }
}

/// What a client is told of its bearer token (RFC 6750 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BearerError {
    /// It is valid, and not good for this.
    InsufficientScope,
    /// There is more than one, or one in two places.
    InvalidRequest,
    /// It is not valid.
    InvalidToken,
}

/// A request refused: which way, and why for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which way.
    pub reject: Reject,
    /// Why, for the log only. Holds no secret.
    pub detail: Cow<'static, str>,
    /// After how many whole seconds trying again makes sense (RFC 9110 10.2.3).
    pub retry_after: Option<u64>,
    /// What it says about the source: what its row says, unless something else is set. `None`: nothing.
    pub signal: Option<Signal>,
    /// What the client is told of its bearer token, where one was looked at.
    pub bearer_error: Option<BearerError>,
    /// The limits that it is over, by their names.
    pub policies: Box<[Arc<str>]>,
    /// Whose the credential says that it is, where it has not proved it: rules tell by it one account that is tried from
    /// one that many are. It is never logged.
    pub claimed: Option<Box<str>>,
    /// The rules of its route that the request breaks, for the client.
    pub violations: Box<[Violation]>,
}

impl Refusal {
    /// A refusal with its reason.
    #[must_use]
    pub fn new(reject: Reject, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reject,
            detail: detail.into(),
            retry_after: None,
            signal: reject.row().signal,
            bearer_error: None,
            policies: Box::default(),
            claimed: None,
            violations: Box::default(),
        }
    }

    /// The same, of a credential that says it is of `principal`.
    #[must_use]
    pub fn claiming(self, principal: &str) -> Self {
        Self { claimed: Some(principal.into()), ..self }
    }

    /// A refusal of a token or client certificate.
    #[must_use]
    pub fn token(fault: TokenFault, detail: &'static str) -> Self {
        Self { signal: Some(fault.signal()), ..Self::new(Reject::InvalidToken, detail) }
    }

    /// The same, with what the client is told of its bearer token.
    #[must_use]
    pub fn with(self, error: BearerError) -> Self {
        Self { bearer_error: Some(error), ..self }
    }

    /// There is more than one token, or one in two places (RFC 6750 3.1).
    #[must_use]
    pub fn ambiguous(detail: &'static str) -> Self {
        Self::new(Reject::BadRequest, detail).with(BearerError::InvalidRequest)
    }

    /// Its row of the table, with what this one says about the source.
    #[must_use]
    pub fn row(&self) -> RefusalRow {
        RefusalRow { signal: self.signal, ..self.reject.row() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refusal_says_about_the_source() {
        let forged = Refusal::new(Reject::InvalidToken, "");
        let malformed = Refusal::token(TokenFault::Malformed, "");
        let nothing = Refusal { signal: None, ..forged.clone() };
        for (refusal, expect) in [
            (forged, Some(Signal::ForgedToken)),
            (malformed, Some(Signal::MalformedToken)),
            (nothing, None),
            (Refusal::new(Reject::Unavailable, ""), None),
        ] {
            assert_eq!(refusal.row().signal, expect, "{refusal:?}");
        }
    }

    #[test]
    fn the_page_has_the_same_table() {
        let page = include_str!("../../docs/refusals.md");
        for reject in Reject::ALL {
            let RefusalRow { status, title, label, .. } = reject.row();
            let row = format!("| `{label}` | {} | {title} | ", status.as_u16());
            assert!(page.contains(&row), "docs/refusals.md lacks {row}");
        }
    }
}
