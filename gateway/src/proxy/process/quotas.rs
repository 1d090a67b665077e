//! Quotas in the control thread: what was used up goes to the guard four times a second, and what other proxies have used
//! up comes from there.
//!
//! *Invariant:* nothing is taken out of the tables that cannot be said. Without a guard it stays there, and the next guard
//! is told everything, as the one before may have died with what it was told.

use std::{os::fd::OwnedFd, time::Duration};

use anyhow::Context as _;

use super::guard_link::GuardLink;
use crate::{
    message::{ToGuard, channel::sealed::unseal},
    os::clock::{self, Now},
    policy::limit::{Limits, quotas::QuotaState},
};

/// How often the guard is told: what a process that is killed has not told is lost.
pub(super) const TELL: Duration = Duration::from_millis(250);

/// Looks at the clocks, once a second.
pub(super) fn tick(limits: Option<&Limits>) {
    if let Some(seconds) = limits.and_then(|limits| limits.tick(Now::read())) {
        tracing::warn!(seconds, "the wall clock was set: quotas last as long as they would have lasted");
    }
}

/// Tells the guard what was used up.
pub(super) fn tell(limits: Option<&Limits>, guard: &mut GuardLink) {
    let Some(limits) = limits.filter(|limits| limits.has_quotas()) else { return };
    // A guard that is busy is told the rest later: the tables have room for it, and what waits for the guard has not.
    while guard.is_listening() {
        let untold = limits.untold(clock::monotonic());
        if untold.is_empty() {
            return;
        }
        untold.into_iter().for_each(|report| guard.say(ToGuard::QuotaUsed(Box::new(report))));
    }
}

/// What is left to be said as the process ends.
pub(super) async fn tell_last(limits: Option<&Limits>, guard: &mut GuardLink) {
    let Some(limits) = limits else { return };
    loop {
        let untold = limits.untold(clock::monotonic());
        if untold.is_empty() || !guard.has_guard() {
            return;
        }
        for report in untold {
            guard.say_last(ToGuard::QuotaUsed(Box::new(report))).await;
        }
    }
}

/// Takes over what the guard knows.
///
/// # Errors
/// Its file did not come, or cannot be read. What is known here stays.
pub(super) fn restore(limits: Option<&Limits>, file: Option<OwnedFd>) -> anyhow::Result<()> {
    let states: Vec<QuotaState> =
        unseal(file.context("the guard's file of quotas did not come")?).context("the guard's file of quotas")?;
    if let Some(limits) = limits {
        states.iter().for_each(|state| limits.restore(state, clock::monotonic()));
    }
    Ok(())
}
