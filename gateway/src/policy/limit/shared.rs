//! A limit that several machines share: what this machine may spend of it without asking.
//!
//! The budget is in a store between the machines, which grants portions of it. No request waits for the store. A machine
//! spends what it was granted, and one portion ahead of the store's word (two, of a key that the store was never asked
//! about). What was spent ahead is charged to the store by the next call. Once the store has nothing left, requests are
//! refused here until the time that it named.
//!
//! *Invariant:* of each key a machine holds at most one portion, or has spent at most two that the store does not know
//! of. So all machines together let through at most `rate * time + burst + 2 * nodes * portion` (`tests/shared.rs`).
//! While the store is away, a machine counts by its own share of the rate: never not at all.

use std::{sync::Arc, time::Duration};

use gateway_common::limit::Pace;

use super::{
    counter::{Counts, Over},
    key::Hasher,
    quota::Seal,
    shared::{
        lease::{Lease, Leases},
        queue::{BudgetQueue, PendingKey, SharedBudget},
    },
};
use crate::{
    os::clock::SECOND,
    settings::limit::{self, Allowance, Limit, Rate},
};

pub(super) mod ask;
pub(super) mod lease;
pub(super) mod queue;

/// How much of a rate a portion has at least: so much time of it, divided by the machines.
const PORTION_TIME: Duration = Duration::from_millis(20);

/// What all limits of a configuration share: whom they share them with, and the way to the store.
#[derive(Clone, Debug)]
pub(super) struct Circle {
    pub(super) nodes: u64,
    /// Which of them this machine is, in the order of their names.
    pub(super) place: u64,
    pub(super) asks: Arc<BudgetQueue>,
    /// Makes the keys of what is shared.
    pub(super) hasher: Hasher,
    pub(super) seal: Arc<Seal>,
}

/// A budget that machines share, as one of them spends it.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    budget: Arc<SharedBudget>,
    pace: Pace,
    asks: Arc<BudgetQueue>,
}

/// A request is let through: so many units are left, and all are there again in so many seconds.
pub(super) struct Admitted {
    pub(super) left: u64,
    pub(super) reset: u64,
}

/// It is not: so many units are left, as far as this machine knows, and in so many seconds there may be enough.
pub(super) struct BudgetRefused {
    pub(super) left: u64,
    pub(super) reset: u64,
}

impl Circle {
    /// `before`: what was in force until now. `None`: no limit is shared.
    pub(super) fn new(settings: &limit::Settings, before: Option<&Self>) -> Option<Self> {
        let sharing = settings.sharing.as_ref().filter(|_| settings.limits.iter().any(|limit| limit.shared))?;
        let asks = before.map_or_else(Arc::default, |before| Arc::clone(&before.asks));
        let seal = Arc::new(Seal::new(&sharing.secret.bytes));
        Some(Self { nodes: sharing.nodes, place: sharing.place, asks, hasher: Hasher::keyed(sharing), seal })
    }
}

impl Shared {
    /// `known`: what it was in the configuration before. `None`: it is not shared, or no rate.
    pub(super) fn new(
        limit: &Limit,
        rate: Rate,
        plan: Option<&str>,
        circle: Option<&Circle>,
        known: Option<&Self>,
    ) -> Option<Self> {
        let Circle { nodes, asks, hasher, .. } = circle.filter(|_| limit.shared)?;
        let secret = hasher.seed();
        // By another secret, the keys of leases mean nothing.
        let leases = known.filter(|known| known.budget.secret == secret).map(|known| &known.budget.leases);
        let leases = leases.filter(|known| known.capacity == limit.capacity.max(1));
        let name = match plan {
            Some(plan) => format!("{}/{plan}", limit.name),
            None => limit.name.clone(),
        };
        let leases = leases.map_or_else(|| Arc::new(Leases::new(limit.capacity, secret)), Arc::clone);
        let budget = SharedBudget {
            name: name.into(),
            rate,
            portion: portion(&rate, heaviest(limit), *nodes),
            nodes: *nodes,
            secret,
            is_later: limit.cost.is_later(),
            leases,
        };
        Some(Self { budget: Arc::new(budget), pace: rate.pace()?, asks: Arc::clone(asks) })
    }

    /// The rate that this machine keeps to while the store is away: its share.
    pub(super) fn share(limit: &Limit, rate: Rate, circle: Option<&Circle>) -> Rate {
        let Some(Circle { nodes, .. }) = circle.filter(|_| limit.shared) else { return rate };
        let per = rate.per.saturating_mul(u32::try_from(*nodes).unwrap_or(u32::MAX));
        Rate { units: rate.units, per, burst: (rate.burst / nodes).max(heaviest(limit)).min(rate.burst) }
    }

    /// Units that come at once, to all machines together.
    pub(super) fn burst(&self) -> u64 {
        self.budget.rate.burst
    }

    /// Judges a request of so many units; of costs that are known later, whether anything is left. `None`: the store is
    /// away, or there is no room for the key: this machine's share decides.
    pub(super) fn judge(&self, key: u64, units: u64, now: u64, over: Over) -> Option<Result<Admitted, BudgetRefused>> {
        let SharedBudget { portion, is_later, leases, .. } = &*self.budget;
        if !self.asks.is_reachable() {
            self.asks.count_alone();
            return None;
        }
        let mut part = leases.part(key);
        let part = &mut *part;
        let refill = self.pace.refill();
        let mut lease = part.of(key, now, refill)?;
        lease.used = now;
        let is_spent = lease.refused_until > now;
        if is_spent && lease.is_alone {
            part.put(key, lease);
            self.asks.count_alone();
            return None;
        }
        let ahead = match (is_spent, lease.is_known) {
            (true, _) => 0,
            (false, true) => *portion,
            (false, false) => portion.saturating_mul(2),
        };
        let taken = if *is_later { 1 } else { units };
        let may = lease.balance.saturating_add(signed(ahead)) >= signed(taken);
        if may && !is_later {
            lease.balance = lease.balance.saturating_sub(signed(units));
        }
        let is_low = lease.balance < signed(portion.div_ceil(2));
        if (is_low || !may) && !is_spent && !lease.is_asked {
            lease.is_asked = self.ask(key, false);
        }
        part.put(key, lease);
        if !may {
            part.count_over(over);
            let wait = lease.refused_until.saturating_sub(now);
            let left = if is_spent { 0 } else { self.left(&lease) };
            return Some(Err(BudgetRefused { left, reset: wait.div_ceil(SECOND).max(1) }));
        }
        part.counts.admitted += 1;
        let left = self.left(&lease);
        Some(Ok(Admitted { left, reset: self.full_in(left) }))
    }

    /// Units that are left, as far as this machine knows.
    fn left(&self, lease: &Lease) -> u64 {
        let burst = self.budget.rate.burst;
        let left = if lease.is_known { lease.left } else { burst };
        left.saturating_add_signed(lease.balance).min(burst)
    }

    /// In how many seconds a budget is full that has so many units left.
    fn full_in(&self, left: u64) -> u64 {
        self.pace.cost(self.budget.rate.burst.saturating_sub(left)).div_ceil(SECOND)
    }

    /// `false`: there is no room to wait.
    fn ask(&self, key: u64, is_reset: bool) -> bool {
        self.asks.push(PendingKey { budget: Arc::clone(&self.budget), key, is_reset })
    }

    /// The store is away, and this machine's share has let units through: they are charged once the store is back, as far
    /// as units may be spent ahead.
    pub(super) fn owe(&self, key: u64, units: u64, now: u64) {
        let mut part = self.budget.leases.part(key);
        let Some(lease) = part.of(key, now, self.pace.refill()) else { return };
        let most = signed(self.budget.portion.saturating_mul(2)).saturating_neg();
        let balance = lease.balance.saturating_sub(signed(units)).max(most.min(lease.balance));
        part.put(key, Lease { balance, used: now, ..lease });
    }

    /// Gives back what [`Self::judge`] took for a request that was refused by another limit. `false`: this machine's share
    /// has it.
    pub(super) fn refund(&self, key: u64, units: u64) -> bool {
        if !self.asks.is_reachable() {
            return false;
        }
        let mut part = self.budget.leases.part(key);
        let part = &mut *part;
        let Some(lease) = part.keys.find(key, &key).filter(|lease| !lease.is_alone) else { return false };
        if !self.budget.is_later {
            lease.balance = lease.balance.saturating_add(signed(units));
        }
        part.counts.admitted = part.counts.admitted.saturating_sub(1);
        true
    }

    /// Takes units that are known only now. `false`: the store is away, or the key is not known here, so that this
    /// machine's share is charged.
    pub(super) fn charge(&self, key: u64, units: u64) -> bool {
        if !self.asks.is_reachable() {
            return false;
        }
        let mut part = self.budget.leases.part(key);
        let Some(lease) = part.keys.find(key, &key).filter(|lease| !lease.is_alone) else { return false };
        lease.balance = lease.balance.saturating_sub(signed(units));
        if lease.balance < 0 && !lease.is_asked {
            lease.is_asked = self.ask(key, false);
        }
        true
    }

    /// Makes the budget of `key` full again, on all machines as soon as the store knows. `false`: too much waits for the
    /// store, so that it stays as it is.
    pub(super) fn reset(&self, key: u64) -> bool {
        let is_asked = self.ask(key, true);
        if is_asked {
            self.budget.leases.part(key).keys.forget(key, &key);
        }
        is_asked
    }

    /// What is left of the budget of `key`, and in how many seconds it is full again, as far as this machine knows.
    pub(super) fn find(&self, key: u64) -> Option<(u64, u64)> {
        let lease = self.budget.leases.part(key).keys.find(key, &key).copied()?;
        let left = self.left(&lease);
        Some((left, self.full_in(left)))
    }

    /// What became of requests, and how many keys are known.
    pub(super) fn counts(&self) -> (Counts, usize) {
        self.budget.leases.counts()
    }
}

/// How many units one of so many machines may hold of each key of a shared limit; `None`: it is not shared.
#[must_use]
pub fn portion_of(limit: &Limit, nodes: u64) -> Option<u64> {
    match limit.allowance {
        Allowance::Rate(rate) if limit.shared => Some(portion(&rate, heaviest(limit), nodes)),
        _ => None,
    }
}

/// How many units a machine may hold of each key.
fn portion(rate: &Rate, heaviest: u64, nodes: u64) -> u64 {
    let nodes = nodes.max(1);
    let of_time = u128::from(rate.units) * PORTION_TIME.as_nanos() / (rate.per.as_nanos().max(1) * u128::from(nodes));
    let of_burst = rate.burst.div_ceil(nodes.saturating_mul(2));
    of_burst.max(u64::try_from(of_time).unwrap_or(u64::MAX)).max(heaviest).clamp(1, rate.burst.max(1))
}

/// What the dearest request counts.
fn heaviest(limit: &Limit) -> u64 {
    limit.weights.iter().map(|(_, weight)| *weight).max().unwrap_or(1).max(1)
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}
