//! Decides what a token that is not valid says about whoever presented it: a forgery is an attempt, all else is as
//! likely a fault of the client's clock, of the issuer, or ours.

use crate::{
    detect::signal::Signal,
    proxy::reject::{Refusal, Reject},
};

/// Why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    /// What that says about its source.
    pub(super) signal: Signal,
    /// For the log: never a part of the token.
    pub(super) why: &'static str,
}

impl Invalid {
    pub(super) const fn new(signal: Signal, why: &'static str) -> Self {
        Self { signal, why }
    }

    /// No issuer makes such a token: somebody tries what is accepted.
    pub(super) const fn forged(why: &'static str) -> Self {
        Self::new(Signal::ForgedToken, why)
    }

    /// An issuer may well make such a token, for others than us.
    pub(super) const fn unfit(why: &'static str) -> Self {
        Self::new(Signal::UnfitToken, why)
    }
}

impl From<Invalid> for Refusal {
    fn from(Invalid { signal, why }: Invalid) -> Self {
        Self::new(Reject::InvalidToken, why).with_signal(signal)
    }
}
