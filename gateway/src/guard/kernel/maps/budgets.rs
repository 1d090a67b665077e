//! Budgets that single sources have of their own, in the place of what all have.
//!
//! *Invariant:* as with bans, the bit of an entry in the bitmap is set before the entry is made.

use std::os::fd::AsFd as _;

use aya::maps::IterableMap as _;
use gateway_common::{
    limit::{ByteRate, Rate},
    maps::{BUDGETS, Budget, Limits, name},
    source::SourceKey,
};

use super::tries::errno;
use crate::guard::kernel::{
    error::{KernelError, refused},
    handle::Kernel,
    load::object::Laid,
    sys,
};

/// Bytes of a [`Budget`].
const BYTES: usize = size_of::<Budget>();

/// What a budget of a source's own is, in terms of what all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetOverride {
    /// That, divided; in shadow it is only counted what would not fit.
    Part {
        /// By how much, at least 1.
        divide: u64,
        /// Count only.
        shadow: bool,
    },
    /// That, but for packets: so many per second, and at once.
    Packets {
        /// Per second.
        per_second: u64,
        /// At once.
        burst: u64,
    },
}

impl BudgetOverride {
    /// The budget under these limits, until `expires` (`CLOCK_MONOTONIC`, nanoseconds).
    #[must_use]
    pub fn budget(self, limits: &Limits, expires: u64) -> Budget {
        let all =
            Budget { expires, packets: limits.packets, bytes: limits.bytes, syns: limits.syns, ..Budget::default() };
        match self {
            Self::Packets { per_second, burst } => {
                Budget { packets: Rate::per_second(per_second, burst).unwrap_or(limits.packets), ..all }
            }
            Self::Part { divide, shadow } => {
                // The burst in time stays: divided by as much, it lets as many units less through at once. It never is
                // less than one unit, or a whole frame of bytes: else nothing would ever conform.
                let rate = |rate: Rate| {
                    if rate.interval == 0 {
                        return rate;
                    }
                    let interval = rate.interval.saturating_mul(divide);
                    Rate { interval, burst: rate.burst.max(interval) }
                };
                let bytes = if limits.bytes.interval == 0 {
                    limits.bytes
                } else {
                    let interval = limits.bytes.interval.saturating_mul(divide).min(1 << 40);
                    ByteRate { interval, burst: limits.bytes.burst.max(interval.saturating_mul(FRAME) >> 10) }
                };
                let flags = Budget::CLAMP | if shadow { Budget::SHADOW } else { 0 };
                Budget { flags, packets: rate(all.packets), syns: rate(all.syns), bytes, ..all }
            }
        }
    }
}

/// The largest packet that the program is given.
const FRAME: u64 = 65_536;

impl Kernel {
    /// Gives a source a budget of its own until `expires` (`CLOCK_MONOTONIC`, nanoseconds), or changes the one that it has:
    /// what was spent and counted stays, unless it becomes a budget of another kind.
    ///
    /// # Errors
    /// [`KernelError::Full`]: nothing is evicted for it.
    pub fn put_budget(&mut self, key: SourceKey, share: BudgetOverride, expires: u64) -> Result<(), KernelError> {
        let Laid(limits) = self.limits.get(&0, 0).map_err(refused(name::LIM, "reading limits"))?;
        let budget = share.budget(&limits, expires);
        let same = self.find_budget(key).filter(|there| there.flags == budget.flags);
        let budget = same.map_or(budget, |there| budget.counted_on(there));
        self.expect([key].into_iter())?;
        self.budgets.insert(key.0, Laid(budget), 0).map_err(|error| match errno(&error) {
            Some(libc::E2BIG) => {
                KernelError::Full { map: name::BUDGETS, capacity: BUDGETS, setting: "limit.NAME.clamp" }
            }
            _ => refused(name::BUDGETS, "adding a budget")(error),
        })
    }

    /// The budget that a source has of its own.
    #[must_use]
    pub fn find_budget(&self, key: SourceKey) -> Option<Budget> {
        self.budgets.get(&key.0, 0).ok().map(|Laid(budget)| budget)
    }

    /// Takes the budget of a source away: it has what all have.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn remove_budget(&mut self, key: SourceKey) -> Result<(), KernelError> {
        match self.budgets.remove(&key.0) {
            Err(error) if errno(&error) != Some(libc::ENOENT) => {
                Err(refused(name::BUDGETS, "removing a budget")(error))
            }
            _ => self.forget(1),
        }
    }

    /// Takes all of them away: whoever gave them is gone.
    pub(in crate::guard::kernel) fn clear_budgets(&mut self) -> Result<(), KernelError> {
        for key in self.budget_keys()? {
            self.remove_budget(key)?;
        }
        Ok(())
    }

    /// Whose budgets there are.
    pub(in crate::guard::kernel) fn budget_keys(&self) -> Result<Vec<SourceKey>, KernelError> {
        let there = sys::dump::<8, BYTES>(self.budgets.map().fd().as_fd(), BUDGETS);
        let there = there.map_err(|source| KernelError::Map { map: name::BUDGETS, operation: "reading", source })?;
        Ok(there.into_iter().map(|(key, _)| SourceKey(u64::from_ne_bytes(key))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_that_much_less_and_never_nothing() {
        let limits = Limits {
            packets: Rate::per_second(20_000, 20_000).unwrap(),
            bytes: ByteRate::per_second(10 << 20, 10 << 20).unwrap(),
            syns: Rate::per_second(100, 5).unwrap(),
            ..Limits::default()
        };
        for (divide, packets, syns) in [(1, 20_000, 5), (10, 2_000, 1), (1_000, 20, 1), (1 << 20, 1, 1)] {
            let budget = BudgetOverride::Part { divide, shadow: false }.budget(&limits, 7);
            assert_eq!((budget.flags, budget.expires), (Budget::CLAMP, 7));
            assert_eq!((budget.packets.left(0, 0), budget.syns.left(0, 0)), (packets, syns), "divided by {divide}");
            assert!(budget.bytes.spend(0, 0, FRAME).is_some(), "a whole frame fits, divided by {divide}");
        }
        let none = BudgetOverride::Part { divide: 10, shadow: true }.budget(&Limits::default(), 7);
        assert_eq!((none.packets.interval, none.bytes.interval, none.syns.interval), (0, 0, 0));
        assert_eq!(none.flags, Budget::CLAMP | Budget::SHADOW);
        let plan = BudgetOverride::Packets { per_second: 100_000, burst: 50_000 }.budget(&limits, 7);
        assert_eq!((plan.flags, plan.packets.left(0, 0), plan.syns), (0, 50_000, limits.syns));
    }
}
