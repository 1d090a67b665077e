//! What a limit allows everybody, or the members of one plan: a rate, a number of requests at once or a quota, and its
//! counters.

use std::sync::Arc;

use gateway_common::limit::Pace;
use http::HeaderValue;

use super::{
    counter::{Budget, Counter, Counts, Over},
    in_flight::{Entered, InFlight},
    key::Key,
    quota::{Left, QuotaCounts, QuotaRules, TooFew},
    shared::{Admitted, BudgetRefused, Circle, Shared, queue},
};
use crate::{
    os::clock::SECOND,
    settings::limit::{Allowance, Cost, Limit},
};

/// What a limit allows, and its counters.
#[derive(Debug)]
pub(super) struct Allowed {
    /// The plan that has this instead of what everybody has.
    pub(super) plan: Option<Box<str>>,
    pub(super) allowance: Allowance,
    pub(super) budgets: Budgets,
    /// The same budgets as all machines of the cluster have them; `None`: it is this machine's alone.
    pub(super) shared: Option<Shared>,
    /// What one unit costs of a rate, in nanoseconds.
    cost: u64,
    /// How long requests may wait for their turn, in nanoseconds.
    delay: u64,
    /// As clients are told of it.
    pub(super) policy: HeaderValue,
}

/// The counters of one kind. They outlive configurations.
#[derive(Clone, Debug)]
pub(super) enum Budgets {
    InFlight(Arc<InFlight>),
    /// Everybody's counts are in one table: whoever gets another plan goes on with what it has used up.
    Quota(Arc<QuotaCounts>, QuotaRules),
    Rate(Arc<Counter>, Pace),
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Admitted {
        /// So many units are left.
        left: u64,
        /// In so many seconds all of them are there again.
        reset: Option<u64>,
        /// It has to wait for so many nanoseconds.
        wait: u64,
        entered: Option<Entered>,
        /// Its key has used up nothing of the quota before.
        is_new: bool,
    },
    /// So many units are left, too few for the request. In so many seconds there are enough; `None`: once another request
    /// is over.
    Over { left: u64, reset: Option<u64> },
}

impl Allowed {
    /// `known`: what the same plan had in the configuration before. `quota`: the counts of a quota.
    pub(super) fn new(
        limit: &Limit,
        allowance: &Allowance,
        plan: Option<&str>,
        known: Option<&Self>,
        circle: Option<&Circle>,
        quota: Option<&Arc<QuotaCounts>>,
        seed: u64,
    ) -> Self {
        let shared = match allowance {
            Allowance::Concurrent(_) | Allowance::Quota(_) => None,
            Allowance::Rate(rate) => {
                let known = known.and_then(|known| known.shared.as_ref());
                Shared::new(limit, *rate, plan, circle, known)
            }
        };
        let known = known.map(|known| &known.budgets);
        let (budgets, cost, policy) = match allowance {
            Allowance::Quota(most) => {
                let counts = quota.zip(limit.quota.as_ref()).map(|(counts, it)| {
                    let circle = circle.filter(|_| limit.shared);
                    let shared = circle.map(|it| queue::SharedQuota::new(limit, *most, it, counts));
                    (counts, QuotaRules::new(it, *most, shared))
                });
                let window = limit.quota.as_ref().map_or(0, |quota| quota.period.usual_seconds());
                let policy = format!("\"{}\";q={most}{};w={window}", limit.name, unit(&limit.cost));
                match counts {
                    Some((counts, rules)) => (Budgets::Quota(Arc::clone(counts), rules), 1, policy),
                    // A quota without a period was refused when the configuration was read.
                    None => (Budgets::InFlight(Arc::new(InFlight::new(0, 1, seed))), 0, policy),
                }
            }
            Allowance::Concurrent(most) => {
                let counter = match known {
                    Some(Budgets::InFlight(known)) => Arc::clone(known),
                    _ => Arc::new(InFlight::new(*most, limit.capacity, seed)),
                };
                (Budgets::InFlight(counter), 0, format!("\"{}\";q={most};qu=\"concurrent-requests\"", limit.name))
            }
            Allowance::Rate(rate) => {
                // What is no pace was refused when the configuration was read.
                let pace = Shared::share(limit, *rate, circle).pace().unwrap_or(Pace::ONE);
                let counter = match known {
                    Some(Budgets::Rate(known, _)) if known.capacity() == limit.capacity.max(1) => Arc::clone(known),
                    _ => Arc::new(Counter::new(pace, limit.capacity, seed)),
                };
                let window = rate.pace().unwrap_or(Pace::ONE).refill().div_ceil(SECOND);
                let policy = format!("\"{}\";q={}{};w={window}", limit.name, rate.burst, unit(&limit.cost));
                (Budgets::Rate(counter, pace), pace.cost(1), policy)
            }
        };
        let delay = u64::try_from(limit.delay.as_nanos()).unwrap_or(0);
        // A name has nothing that a header has not.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("\"limit\""));
        Self { plan: plan.map(Into::into), allowance: *allowance, budgets, shared, cost, delay, policy }
    }

    /// What a request costs that counts as `weight`. Where that is known only `later`, the least there is: it is let
    /// through as long as anything is left.
    const fn cost(&self, weight: u64, is_later: bool) -> u64 {
        if is_later { 1 } else { self.cost.saturating_mul(weight) }
    }

    #[inline]
    pub(super) fn judge(&self, key: Key, weight: u64, is_later: bool, now: u64, over: Over) -> Judgement {
        match &self.budgets {
            Budgets::InFlight(counter) => match counter.enter(key.own, weight, over) {
                Ok((entered, left)) => {
                    Judgement::Admitted { left, reset: None, wait: 0, entered: Some(entered), is_new: false }
                }
                Err(left) => Judgement::Over { left, reset: None },
            },
            Budgets::Quota(counts, rules) => {
                match counts.spend(key.own, if is_later { 0 } else { weight }, rules, now, over) {
                    Ok(Left { units, reset, is_new }) => {
                        Judgement::Admitted { left: units, reset: Some(reset), wait: 0, entered: None, is_new }
                    }
                    Err(TooFew { units, reset }) => Judgement::Over { left: units, reset: Some(reset) },
                }
            }
            Budgets::Rate(counter, _) => {
                let cost = self.cost(weight, is_later);
                match self.shared.as_ref().and_then(|shared| shared.judge(key.common, weight, now, over)) {
                    Some(Ok(Admitted { left, reset })) => {
                        // Should the store go away now, nobody begins anew.
                        counter.drain(key.own, cost, now);
                        return Judgement::Admitted { left, reset: Some(reset), wait: 0, entered: None, is_new: false };
                    }
                    Some(Err(BudgetRefused { left, reset })) => return Judgement::Over { left, reset: Some(reset) },
                    None => {}
                }
                match counter.spend(key.own, cost, self.delay, now, over) {
                    Ok(Budget { arrival, pace }) => {
                        if let Some(shared) = &self.shared {
                            shared.owe(key.common, if is_later { 0 } else { weight }, now);
                        }
                        Judgement::Admitted {
                            left: pace.left(arrival, now),
                            reset: Some(arrival.saturating_sub(now).div_ceil(SECOND)),
                            wait: pace.overdrawn(arrival, now),
                            entered: None,
                            is_new: false,
                        }
                    }
                    Err(Budget { arrival, pace }) => Judgement::Over {
                        left: pace.left(arrival, now),
                        reset: Some(pace.wait(arrival, now, cost).saturating_sub(self.delay).div_ceil(SECOND)),
                    },
                }
            }
        }
    }

    /// How many units of a rate may come at once, or of a quota at all.
    pub(super) fn burst(&self) -> u64 {
        match (&self.budgets, &self.shared) {
            (Budgets::Quota(_, rules), _) => rules.most,
            (_, Some(shared)) => shared.burst(),
            (Budgets::InFlight(_), None) => u64::MAX,
            (Budgets::Rate(_, pace), None) => pace.burst(),
        }
    }

    /// Gives back what [`Self::judge`] took of a rate or a quota.
    pub(super) fn refund(&self, key: Key, weight: u64, is_later: bool, now: u64) {
        match &self.budgets {
            Budgets::InFlight(_) => {}
            Budgets::Quota(counts, rules) => counts.refund(key.own, if is_later { 0 } else { weight }, rules, now),
            Budgets::Rate(counter, _) => {
                if !self.shared.as_ref().is_some_and(|shared| shared.refund(key.common, weight)) {
                    counter.refund(key.own, self.cost(weight, is_later));
                }
            }
        }
    }

    /// Takes units that are known only now.
    pub(super) fn charge(&self, key: Key, units: u64, now: u64) {
        match &self.shared {
            Some(shared) if shared.charge(key.common, units) => {}
            Some(shared) => {
                self.budgets.charge(key.own, units, now);
                shared.owe(key.common, units, now);
            }
            None => self.budgets.charge(key.own, units, now),
        }
    }

    /// Makes the budget of `key` full again; whether it was known. What is in flight stays.
    pub(super) fn reset(&self, key: Key) -> bool {
        let was_shared = match self.shared.as_ref().map(|shared| shared.reset(key.common)) {
            // The store's word would undo it.
            Some(false) => return false,
            // Another machine may know the key.
            Some(true) => true,
            None => false,
        };
        self.budgets.reset(key.own) || was_shared
    }

    /// What became of requests, and how many keys are known.
    pub(super) fn counts(&self) -> (Counts, usize) {
        let (counts, keys) = self.budgets.counts();
        let Some(shared) = &self.shared else { return (counts, keys) };
        let (more, known) = shared.counts();
        (counts.and(more), keys.max(known))
    }

    /// Goes on with the counts of another configuration, with room for `capacity` keys.
    pub(super) fn take_over(&self, before: &Self, capacity: usize, now: u64) {
        match (&self.budgets, &before.budgets, &self.allowance) {
            (Budgets::Rate(counter, pace), Budgets::Rate(known, _), _) => {
                if Arc::ptr_eq(counter, known) {
                    counter.change(*pace, now);
                } else {
                    counter.take_over(known, now);
                }
            }
            (Budgets::InFlight(counter), Budgets::InFlight(known), Allowance::Concurrent(most))
                if Arc::ptr_eq(counter, known) =>
            {
                counter.change(*most, capacity);
            }
            _ => {}
        }
    }
}

impl Budgets {
    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::InFlight(counter) => counter.capacity(),
            Self::Quota(counts, _) => counts.capacity(),
            Self::Rate(counter, _) => counter.capacity(),
        }
    }

    /// A request is over.
    pub(super) fn leave(&self, entered: Entered) {
        if let Self::InFlight(counter) = self {
            counter.leave(entered);
        }
    }

    /// A request that was counted as in flight was refused by another limit.
    pub(super) fn refund_entered(&self, entered: Entered) {
        if let Self::InFlight(counter) = self {
            counter.refund(entered);
        }
    }

    /// Takes units that are known only now.
    pub(super) fn charge(&self, key: u64, units: u64, now: u64) {
        match self {
            Self::InFlight(_) => {}
            Self::Quota(counts, rules) => counts.charge(key, units, rules, now),
            Self::Rate(counter, _) => counter.charge(key, units, now),
        }
    }

    /// Makes the budget of `key` full again; whether it was known. What is in flight stays, and quotas do.
    pub(super) fn reset(&self, key: u64) -> bool {
        match self {
            Self::InFlight(_) | Self::Quota(..) => false,
            Self::Rate(counter, _) => counter.reset(key),
        }
    }

    /// What became of requests, and how many keys are known.
    pub(super) fn counts(&self) -> (Counts, usize) {
        match self {
            Self::InFlight(counter) => counter.counts(),
            Self::Quota(counts, _) => counts.counts(),
            Self::Rate(counter, _) => counter.counts(),
        }
    }
}

/// The unit of a policy, where it is not requests.
const fn unit(cost: &Cost) -> &'static str {
    match cost {
        Cost::RequestBytes | Cost::ResponseBytes => ";qu=\"content-bytes\"",
        Cost::GrpcMessages | Cost::Header(_) | Cost::Requests => "",
    }
}
