//! Why a token is not valid, and what that says about its sender. A forgery is an attack. Anything else may as well be a
//! fault of the client's clock, of the issuer, or of the gateway.

use crate::refusal::{BearerError, Refusal, TokenFault};

/// Why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) fault: TokenFault,
    /// For the log: never a part of the token.
    pub(super) why: &'static str,
}

impl Invalid {
    pub(super) const fn new(fault: TokenFault, why: &'static str) -> Self {
        Self { fault, why }
    }

    /// No issuer makes such a token: somebody tries what is accepted.
    pub(super) const fn forged(why: &'static str) -> Self {
        Self::new(TokenFault::Forged, why)
    }

    /// It is no token at all: a client that is broken sends such, and whoever tries out what is accepted.
    pub(super) const fn malformed(why: &'static str) -> Self {
        Self::new(TokenFault::Malformed, why)
    }

    /// An issuer may well make such a token, for others than us.
    pub(super) const fn unfit(why: &'static str) -> Self {
        Self::new(TokenFault::Unfit, why)
    }
}

impl From<Invalid> for Refusal {
    fn from(Invalid { fault, why }: Invalid) -> Self {
        Self::token(fault, why).with(BearerError::InvalidToken)
    }
}
