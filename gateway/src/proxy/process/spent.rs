//! What budgets have spent, in the control thread: told to the guard for the proxy that takes this one's place, and taken
//! over from the one before.

use std::os::fd::OwnedFd;

use anyhow::Context as _;

use super::guard_link::GuardLink;
use crate::{
    diagnostic::with_causes,
    message::{ToGuard, channel::sealed::unseal},
    os::clock,
    policy::limit::spent::{AllLimits, SpentBudgets},
    snapshot::Snapshot,
};

/// Answers the guard.
pub(super) fn tell(snapshot: &Snapshot, number: u64, guard: &mut GuardLink) {
    for budgets in all(snapshot).spent(clock::monotonic()) {
        guard.say(ToGuard::Spent { number, budgets: Some(Box::new(budgets)) });
    }
    guard.say(ToGuard::Spent { number, budgets: None });
}

/// Goes on where the proxy before was. Fails open: where that is not known, budgets are full.
pub(super) fn resume(snapshot: &Snapshot, file: Option<OwnedFd>) {
    let spent = file.context("the guard's file did not come").and_then(|file| Ok(unseal::<Vec<SpentBudgets>>(file)?));
    match spent {
        Ok(spent) => spent.iter().for_each(|spent| all(snapshot).resume(spent, clock::monotonic())),
        Err(error) => tracing::error!("rate limits begin anew: {}", with_causes(&error)),
    }
}

fn all(snapshot: &Snapshot) -> AllLimits<'_> {
    let Snapshot { limits, bandwidth, connection_limits, .. } = snapshot;
    AllLimits { requests: limits.as_ref(), bandwidth, connections: connection_limits }
}
