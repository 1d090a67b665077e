//! The budgets that plans give to sources, while connections of their members live there.
//!
//! *Invariant:* at most [`MOST`] sources have one, at most [`MOST_EACH`] by the same principal, and each ends [`LEASE`] after
//! the proxy last told of it.

use std::collections::BTreeMap;

use gateway_common::source::Source;

use crate::os::clock::SECOND;

/// How many sources have the budget of a plan at once: half of the budgets that the kernel has room for.
pub(in crate::guard::bans) const MOST: usize = gateway_common::maps::BUDGETS as usize / 2;

/// How many sources one principal gives a budget.
pub(in crate::guard::bans) const MOST_EACH: usize = 16;

/// How long a budget lasts that the proxy does not tell of again: it does every 20 seconds.
pub(in crate::guard::bans) const LEASE: u64 = 60 * SECOND;

/// A source's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guard::bans) struct BudgetLease {
    /// The plan's name.
    pub(in crate::guard::bans) plan: String,
    /// The hash of the principal who has it.
    pub(in crate::guard::bans) principal: u64,
    /// When it ends: `CLOCK_MONOTONIC`, nanoseconds.
    pub(in crate::guard::bans) expires: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct PlanBudgets {
    known: BTreeMap<Source, BudgetLease>,
    by_principal: BTreeMap<u64, usize>,
}

impl PlanBudgets {
    pub(in crate::guard::bans) fn find(&self, source: Source) -> Option<&BudgetLease> {
        self.known.get(&source)
    }

    pub(in crate::guard::bans) fn iter(&self) -> impl Iterator<Item = (Source, &BudgetLease)> {
        self.known.iter().map(|(source, lease)| (*source, lease))
    }

    /// A connection of a member lives at `source`. `false`: no more can have one. Of several plans at one source the one
    /// that `is_better` says counts, until it ends.
    pub(in crate::guard::bans) fn note(
        &mut self,
        source: Source,
        plan: &str,
        principal: u64,
        now: u64,
        is_better: impl Fn(&str, &str) -> bool,
    ) -> bool {
        let expires = now.saturating_add(LEASE);
        if let Some(lease) = self.known.get_mut(&source) {
            if lease.plan == plan {
                lease.expires = expires;
                return true;
            }
            if lease.expires > now && !is_better(plan, &lease.plan) {
                return true;
            }
        }
        // What another has here makes room, and is taken away only where there is room then.
        let (taken, own) =
            self.known.get(&source).map_or((0, 0), |lease| (1, usize::from(lease.principal == principal)));
        let of_principal = self.by_principal.get(&principal).copied().unwrap_or(0) - own;
        if self.known.len() - taken >= MOST || of_principal >= MOST_EACH {
            return false;
        }
        self.remove(source);
        self.by_principal.insert(principal, of_principal + 1);
        self.known.insert(source, BudgetLease { plan: plan.to_owned(), principal, expires });
        true
    }

    pub(in crate::guard::bans) fn remove(&mut self, source: Source) {
        let Some(lease) = self.known.remove(&source) else { return };
        if let Some(count) = self.by_principal.get_mut(&lease.principal) {
            *count -= 1;
            if *count == 0 {
                self.by_principal.remove(&lease.principal);
            }
        }
    }

    /// Those for which `is_over` holds; they are removed.
    pub(in crate::guard::bans) fn take(&mut self, is_over: impl Fn(Source, &BudgetLease) -> bool) -> Vec<Source> {
        let over: Vec<Source> =
            self.known.iter().filter(|(source, lease)| is_over(**source, lease)).map(|(source, _)| *source).collect();
        over.iter().for_each(|source| self.remove(*source));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64)
    }

    #[test]
    fn d06_one_principal_gives_few_sources_a_budget_and_all_together_no_more_than_there_is_room_for() {
        let mut budgets = PlanBudgets::default();
        let never = |_: &str, _: &str| false;
        let given = (0..1_000).filter(|number| budgets.note(source(*number), "gold", 7, 0, never)).count();
        assert_eq!(given, MOST_EACH);
        let given = (1_000..10_000).filter(|number| budgets.note(source(*number), "gold", (*number).into(), 0, never));
        assert_eq!(given.count(), MOST - MOST_EACH);
        assert_eq!(budgets.take(|_, lease| lease.expires <= LEASE).len(), MOST);
        assert!(budgets.by_principal.is_empty() && budgets.note(source(1), "gold", 7, 0, never));
    }

    #[test]
    fn who_has_no_room_for_one_more_takes_none_away() {
        let mut budgets = PlanBudgets::default();
        let better = |one: &str, other: &str| (one, other) == ("gold", "silver");
        assert!(budgets.note(source(1), "silver", 1, 0, better));
        for number in 0..u32::try_from(MOST_EACH).unwrap() {
            assert!(budgets.note(source(1_000 + number), "gold", 2, 0, better));
        }
        assert!(!budgets.note(source(1), "gold", 2, 0, better), "it has as many as one may have");
        assert_eq!(budgets.find(source(1)).map(|lease| lease.plan.as_str()), Some("silver"));
        // Its own takes the place of its own.
        assert!(budgets.note(source(2), "silver", 3, 0, better));
        for number in 1..u32::try_from(MOST_EACH).unwrap() {
            assert!(budgets.note(source(2_000 + number), "gold", 3, 0, better));
        }
        assert!(budgets.note(source(2), "gold", 3, 0, better));
        assert_eq!(budgets.take(|_, _| true).len(), 1 + 2 * MOST_EACH);
        assert!(budgets.by_principal.is_empty());
    }

    #[test]
    fn the_better_plan_of_a_source_counts_until_it_ends() {
        let mut budgets = PlanBudgets::default();
        let better = |one: &str, other: &str| (one, other) == ("gold", "silver");
        let plan = |budgets: &PlanBudgets| budgets.find(source(1)).map(|lease| lease.plan.clone());
        assert!(budgets.note(source(1), "silver", 1, 0, better) && budgets.note(source(1), "gold", 2, 0, better));
        assert_eq!(plan(&budgets).as_deref(), Some("gold"));
        assert!(budgets.note(source(1), "silver", 1, LEASE - 1, better));
        assert_eq!(plan(&budgets).as_deref(), Some("gold"));
        assert!(budgets.note(source(1), "silver", 1, LEASE, better));
        assert_eq!(plan(&budgets).as_deref(), Some("silver"));
    }
}
