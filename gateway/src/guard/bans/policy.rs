//! What rules may ban, and what keeps them from it: each part by itself, and knowing nothing of how bans are kept.

use std::collections::BTreeMap;

use crate::settings::detect::Rule;

pub(super) mod anomalies;
pub(super) mod breaker;
pub(super) mod clamps;
pub(super) mod good_clients;
mod ladder;
pub(super) mod pardons;
pub(super) mod plan_budgets;
pub(super) mod probations;
pub(super) mod protected_addresses;
pub(super) mod refusals;
pub(super) mod safety;
pub(super) mod trouble;

use anomalies::AnomalyPolicy;
use breaker::BanBreaker;
use clamps::Clamps;
use good_clients::Good;
use pardons::Pardons;
use plan_budgets::PlanBudgets;
use probations::Probations;
use refusals::Refusals;
use safety::ProtectedAddresses;
use trouble::FailingClients;

/// All that is asked before a rule bans.
pub(super) struct BanPolicy {
    /// The rules of the configuration.
    pub(super) rules: Vec<Rule>,
    /// Shadow rules and limits that enforce all the same, and who said so.
    pub(super) promoted: BTreeMap<String, String>,
    /// What must not be banned.
    pub(super) protected: ProtectedAddresses,
    /// What rules have banned since it was looked last who is logged in, and when: `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) unproven: Vec<(u64, u64)>,
    /// How fast rules may ban.
    pub(super) breaker: BanBreaker,
    /// Who has less of the kernel's budgets for a while.
    pub(super) clamps: Clamps,
    /// Who has the budget of a plan.
    pub(super) plan_budgets: PlanBudgets,
    /// Whom operators have unbanned.
    pub(super) pardons: Pardons,
    /// Who was banned until a moment ago.
    pub(super) probations: Probations,
    /// Who was served with a valid token.
    pub(super) good: Good,
    /// Which of them fail.
    pub(super) trouble: FailingClients,
    /// What is not usual, and whose requests are limited because of that.
    pub(super) anomalies: AnomalyPolicy,
    /// What is told of refused asks.
    pub(super) refusals: Refusals,
}
