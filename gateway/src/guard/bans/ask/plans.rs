//! Gives sources the budget of a plan, while connections of its members live there.
//!
//! A source gets it by a connection over which its client proved who it is: no packet of another's name can bring that
//! about. It is bounded per principal and in all, and ends by itself.

use crate::guard::{bans::*, kernel::BudgetOverride};
use crate::message::{MAX_PLAN_MEMBERS, PlanMember};

impl Guard {
    /// The proxy tells where members of plans have connections.
    pub(crate) fn hear_plan_members(&mut self, members: &[PlanMember], now: Now) {
        for member in members.iter().take(MAX_PLAN_MEMBERS) {
            self.hear_plan_member(member, now);
        }
    }

    fn hear_plan_member(&mut self, member: &PlanMember, now: Now) {
        let PlanMember { source, principal, plan } = member;
        let Some(key) = self.key(*source).filter(|_| self.enforcer.path().gives_budgets()) else { return };
        // Whoever is allowlisted has no budget to be over.
        if self.enforcer.prefixes().allowed(*source).is_some() {
            return;
        }
        let Self { policy, settings, .. } = self;
        let packets =
            |name: &str| settings.plan_budgets.iter().find(|budget| budget.plan == name).map(|it| it.per_second);
        if packets(plan).is_none() {
            return;
        }
        let is_better = |one: &str, other: &str| packets(one) > packets(other);
        if !policy.plan_budgets.note(*source, plan, *principal, now.monotonic, is_better) {
            return;
        }
        if policy.clamps.find(*source).is_some() {
            return;
        }
        let Some((share, expires)) = self.plan_share(*source) else { return };
        if let Err(refused) = self.give_budget(key, share, expires) {
            tracing::warn!(%source, plan, error = %refused, "a source does not get the budget of its plan");
        }
    }

    /// The budget that a source has by a plan, and until when.
    pub(in crate::guard::bans) fn plan_share(&self, source: Source) -> Option<(BudgetOverride, u64)> {
        let lease = self.policy.plan_budgets.find(source)?;
        let budget = self.settings.plan_budgets.iter().find(|budget| budget.plan == lease.plan)?;
        Some((BudgetOverride::Packets { per_second: budget.per_second, burst: budget.burst }, lease.expires))
    }
}
