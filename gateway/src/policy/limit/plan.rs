//! Who is a member of a plan.

use crate::{
    identity::claim::{ClaimCondition, ClaimPath},
    policy::auth::Identity,
    settings::limit::Plan,
};

pub(super) mod kernel_plans;

/// Who has a plan.
#[derive(Debug)]
pub struct PlanMembership {
    pub(super) name: Box<str>,
    /// Each with its place among the claims that identities keep.
    claims: Box<[(usize, ClaimCondition)]>,
    roles: Box<[String]>,
    principals: Box<[String]>,
}

/// The plan of whoever asks: the one that an operator gave its API key, else the first that it is a member of. A plan that
/// is configured no more counts as none given.
#[must_use]
pub fn of(plans: &[PlanMembership], identity: &Identity) -> Option<usize> {
    let given = identity.plan().and_then(|given| plans.iter().position(|plan| *plan.name == *given));
    given.or_else(|| plans.iter().position(|plan| plan.has(identity)))
}

impl PlanMembership {
    /// The members of a plan. `kept`: the claims that identities keep.
    #[must_use]
    pub fn new(plan: &Plan, kept: &[ClaimPath]) -> Self {
        let place = |path| kept.iter().position(|kept| kept == path).unwrap_or(usize::MAX);
        Self {
            name: plan.name.as_str().into(),
            claims: plan.claims.iter().map(|condition| (place(&condition.path), condition.clone())).collect(),
            roles: plan.roles.as_slice().into(),
            principals: plan.principals.as_slice().into(),
        }
    }

    /// Whether a client is one.
    #[must_use]
    pub fn has(&self, identity: &Identity) -> bool {
        self.principals.iter().any(|principal| principal == identity.principal())
            || identity.roles().any(|role| self.roles.iter().any(|own| own == role))
            || !self.claims.is_empty()
                && self.claims.iter().all(|(place, condition)| condition.holds(identity.claim(*place)))
    }
}
