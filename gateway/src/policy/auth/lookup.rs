//! What authentication needs to know from elsewhere: the policy says so, the proxy finds it out and asks again.

use std::sync::Arc;

use super::{
    Identity,
    basic::hash::PasswordCheck,
    introspection::question::Question,
    jwt::{KeysAnswer, KeysLookup},
};
use crate::refusal::Refusal;

/// What the policy says of one request.
#[derive(Debug)]
pub enum AuthOutcome {
    /// Who it is, or why that is refused.
    Decided(Result<Arc<Identity>, Refusal>),
    /// It has to know this first. It is asked again with the [`LookupAnswer`], and never for the same lookup twice.
    Needs(Lookup),
}

/// Something to find out.
#[derive(Debug)]
pub enum Lookup {
    /// What the server of an opaque token says of it.
    Introspection(Question),
    /// Whether an issuer has a key that is not among those that were fetched.
    Keys(KeysLookup),
    /// Whether a password is the one of its hash, which takes long on purpose.
    Password(Box<PasswordCheck>),
}

/// What was found out. What could not be found out refuses the request, unless its variant says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupAnswer {
    /// Whom an opaque token proves, or why it proves nobody.
    Introspection(Result<Arc<Identity>, Refusal>),
    /// What came of looking for a key.
    Keys(KeysAnswer),
    /// Whether the password is the one of its hash.
    Password(bool),
}

impl AuthOutcome {
    /// A refusal.
    #[must_use]
    pub const fn refused(refusal: Refusal) -> Self {
        Self::Decided(Err(refusal))
    }
}

impl From<Result<Arc<Identity>, Refusal>> for AuthOutcome {
    fn from(decided: Result<Arc<Identity>, Refusal>) -> Self {
        Self::Decided(decided)
    }
}
