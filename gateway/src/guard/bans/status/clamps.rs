//! Tells of budgets that single sources have in the kernel.

use crate::guard::bans::*;
use crate::guard::control::{ClampEntry, KernelBudgets, PlanEntry, TotalBudget};

impl Guard {
    /// Every clamp in force.
    pub(in crate::guard::bans) fn clamps(&self, now: Now) -> Vec<ClampEntry> {
        self.policy.clamps.iter().filter_map(|(source, _)| self.clamp_entry(source, now)).collect()
    }

    /// The clamp of a source.
    pub(in crate::guard::bans) fn clamp_entry(&self, source: Source, now: Now) -> Option<ClampEntry> {
        let clamp = self.policy.clamps.find(source).filter(|clamp| clamp.expires > now.monotonic)?;
        let over = self.key(source).and_then(|key| self.enforcer.path().find_budget(key)).map(|it| it.over);
        let over = over.unwrap_or_default();
        Some(ClampEntry {
            source,
            limit: clamp.limit.clone(),
            divide: clamp.divide,
            mode: if clamp.shadow { "shadow" } else { "enforce" }.to_owned(),
            started: clock::rfc3339(clamp.started),
            remaining_seconds: clamp.expires.saturating_sub(now.monotonic).div_ceil(SECOND),
            packets: over.packets,
            bytes: over.bytes,
            evidence: clamp.evidence.clone(),
        })
    }

    /// The plan whose budget a source has.
    pub(in crate::guard::bans) fn plan_entry(&self, source: Source, now: Now) -> Option<PlanEntry> {
        let lease = self.policy.plan_budgets.find(source).filter(|lease| lease.expires > now.monotonic)?;
        let budget = self.settings.plan_budgets.iter().find(|budget| budget.plan == lease.plan)?;
        Some(PlanEntry {
            plan: lease.plan.clone(),
            packets_per_second: budget.per_second,
            remaining_seconds: lease.expires.saturating_sub(now.monotonic).div_ceil(SECOND),
        })
    }

    /// What the kernel has of budgets besides those that every source has.
    pub(in crate::guard::bans) fn kernel_budgets(&self) -> KernelBudgets {
        let mut plans: BTreeMap<String, u64> =
            self.settings.plan_budgets.iter().map(|budget| (budget.plan.clone(), 0)).collect();
        for (_, lease) in self.policy.plan_budgets.iter() {
            *plans.entry(lease.plan.clone()).or_default() += 1;
        }
        let clamps = |shadow| self.policy.clamps.iter().filter(|(_, clamp)| clamp.shadow == shadow).count();
        let count = |length| u64::try_from(length).unwrap_or(u64::MAX);
        KernelBudgets {
            total: self.settings.total_limit.map(|limit| TotalBudget {
                per_second: limit.per_second,
                burst: limit.burst,
                fast_lane_per_second: limit.per_second.saturating_mul(limit.fast_lane.into()) / 1_000_000,
                shadow: limit.shadow,
            }),
            clamps: count(clamps(false)),
            shadow_clamps: count(clamps(true)),
            plans: plans.into_iter().collect(),
        }
    }
}
