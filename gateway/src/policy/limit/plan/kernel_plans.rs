//! Whose plans give the source of a connection a budget of packets in the kernel.

use crate::{
    identity::claim::ClaimPath,
    policy::{
        auth::Identity,
        limit::plan::{self, PlanMembership},
    },
    settings::limit,
};

/// Plans, the first that fits first, and whether each gives a budget.
#[derive(Debug)]
pub struct KernelPlans {
    plans: Box<[PlanMembership]>,
    gives: Box<[bool]>,
}

impl KernelPlans {
    /// `kept`: the claims that identities keep. `None`: no plan gives a budget.
    #[must_use]
    pub fn new(settings: &limit::Settings, kept: &[ClaimPath]) -> Option<Self> {
        settings.plan_budgets().next()?;
        Some(Self {
            plans: settings.plans.iter().map(|plan| PlanMembership::new(plan, kept)).collect(),
            gives: settings.plans.iter().map(|plan| plan.packets.is_some()).collect(),
        })
    }

    /// The plan of a client that gives a budget, if its plan does.
    #[must_use]
    pub fn of(&self, identity: &Identity) -> Option<&str> {
        let place = plan::of(&self.plans, identity)?;
        let gives = self.gives.get(place).copied().unwrap_or(false);
        self.plans.get(place).filter(|_| gives).map(|plan| &*plan.name)
    }
}
