//! Lets rules ban at a pace, and pauses them where they ask for more: a broken upstream or a stale key must not ban the
//! customers.

use std::time::Duration;

use gateway_common::limit::{ArrivalTime, Rate};

use super::super::{refused::Refused, span::span};
use crate::os::clock::{MINUTE, Now, SECOND};

/// How fast rules may ban, and whether they may.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct BanBreaker {
    /// Bans that rules ask for, per minute.
    pace: ArrivalTime,
    /// Entries that shadow rules ask for, per minute.
    shadow_pace: ArrivalTime,
    /// Bans that other machines tell of, per minute.
    peers_pace: ArrivalTime,
    /// Rules' asks are refused until then: `CLOCK_MONOTONIC`, nanoseconds.
    paused_until: Option<u64>,
    /// Why they are.
    because: &'static str,
}

impl BanBreaker {
    /// Whether rules may ban at all.
    pub(in crate::guard::bans) fn judge(&self, now: Now) -> Result<(), Refused> {
        let left = self.paused_until.and_then(|until| until.checked_sub(now.monotonic)).filter(|left| *left > 0);
        let Some(left) = left else { return Ok(()) };
        let (because, left) = (self.because, span(left.div_ceil(SECOND)));
        let message = format!(
            "banning by rules is paused for another {left}: {because}; look at the access log, or `gateway resume`"
        );
        Err(Refused::new("paused", message))
    }

    /// Spends one of `most` bans per minute; `false`: there is none left.
    pub(in crate::guard::bans) fn spend(&mut self, most: u32, now: Now) -> bool {
        spend(&mut self.pace, most, now)
    }

    /// Spends one of `most` shadow entries per minute: shadow rules list no more than others ban, and nothing is paused
    /// for it.
    pub(in crate::guard::bans) fn spend_shadow(&mut self, most: u32, now: Now) -> Result<(), Refused> {
        if spend(&mut self.shadow_pace, most, now) {
            return Ok(());
        }
        let message = format!("shadow rules asked for more than guard.max_bans_per_minute ({most})");
        Err(Refused::new("shadow_pace", message))
    }

    /// Whether there is one left of `most` bans per minute of other machines.
    pub(in crate::guard::bans) fn judge_peers(&self, most: u32, now: Now) -> Result<(), Refused> {
        let mut pace = self.peers_pace;
        if spend(&mut pace, most, now) { Ok(()) } else { Err(too_fast(most)) }
    }

    /// Spends one of `most` bans per minute of other machines. Nothing is paused for it: they are told again.
    pub(in crate::guard::bans) fn spend_peers(&mut self, most: u32, now: Now) -> Result<(), Refused> {
        if spend(&mut self.peers_pace, most, now) {
            return Ok(());
        }
        Err(too_fast(most))
    }

    /// Rules may not ban for a while.
    pub(in crate::guard::bans) fn pause(&mut self, because: &'static str, pause: Duration, now: Now) {
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.paused_until = Some(now.monotonic.saturating_add(nanos));
        self.because = because;
    }

    /// Whether a pause is over since this was asked last.
    pub(in crate::guard::bans) fn take_over(&mut self, now: Now) -> bool {
        self.paused_until.take_if(|until| now.monotonic >= *until).is_some()
    }

    /// Rules may ban again.
    pub(in crate::guard::bans) const fn resume(&mut self) {
        self.paused_until = None;
        self.pace = 0;
    }
}

fn too_fast(most: u32) -> Refused {
    Refused::new("peers_pace", format!("other machines asked for more than {most} bans within a minute"))
}

/// Spends one of `most` per minute; `false`: there is none left.
pub(super) fn spend(pace: &mut ArrivalTime, most: u32, now: Now) -> bool {
    let most = u64::from(most);
    let rate = Rate::per(most, MINUTE, most).unwrap_or(Rate { interval: 1, burst: 0 });
    let next = rate.spend(*pace, now.monotonic, 1);
    *pace = next.unwrap_or(*pace);
    next.is_some()
}
