//! What the guard knows of CrowdSec: its decisions, when it is asked next, and which bans it is to be told of.
//!
//! *Invariant:* what is in force stays until it expires, whether CrowdSec answers or not. After an outage, and after each
//! start, all decisions are asked for.

use std::{sync::Arc, time::Duration};

use tokio::sync::broadcast::{Receiver, error::TryRecvError};

pub(crate) use decisions::Decisions;
pub(crate) use outgoing::Outgoing;

use crate::{
    guard::control::{CrowdsecStatus, watch::Watchers},
    lists::DecisionStream,
    message::observer::fetch::Fetch,
    os::clock::{Now, SECOND, rfc3339},
    settings::crowdsec,
};

mod decisions;
mod outgoing;

/// All decisions are asked for every so often, whatever was streamed: in seconds.
const ALL: u64 = 3_600;

/// The longest pause after a failure.
const LONGEST: Duration = Duration::from_secs(60);

/// Everything that is known of CrowdSec.
#[derive(Debug, Default)]
pub(crate) struct Crowdsec {
    settings: Option<crowdsec::Settings>,
    /// So often other settings came: what was asked by those before counts no more.
    pub(crate) epoch: u64,
    decisions: Decisions,
    outgoing: Outgoing,
    lines: Option<Receiver<Arc<str>>>,
    pull: CallSchedule,
    push: CallSchedule,
    /// When all were asked for last: `CLOCK_MONOTONIC`, nanoseconds; `None`: they are to be asked for.
    all: Option<u64>,
    /// What is known is not what is in force.
    is_changed: bool,
    /// When it last answered: milliseconds since 1970; 0: never.
    answered: u64,
    pulled: u64,
    counts: Skipped,
}

/// Decisions that are not put in force.
#[derive(Debug, Default)]
struct Skipped {
    own: u64,
    other: u64,
    simulated: u64,
}

/// When something is done next.
#[derive(Debug, Default)]
struct CallSchedule {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    next: u64,
    is_under_way: bool,
    failures: u32,
    /// Why it failed; `None`: it did not.
    failing: Option<String>,
    failed: u64,
}

impl CallSchedule {
    fn begin(&mut self, now: u64) -> bool {
        let is_due = !self.is_under_way && now >= self.next;
        self.is_under_way |= is_due;
        is_due
    }

    fn succeeded(&mut self, every: Duration, now: u64) {
        let failed = self.failed;
        *self = Self { next: now.saturating_add(nanos(every)), failed, ..Self::default() };
    }

    fn failed(&mut self, every: Duration, why: &str, now: u64) {
        let wait = every.saturating_mul(1 << self.failures.min(16)).min(LONGEST).max(every);
        self.next = now.saturating_add(nanos(wait));
        (self.is_under_way, self.failures) = (false, self.failures.saturating_add(1));
        self.failing = Some(why.to_owned());
        self.failed += 1;
    }

    fn interrupted(&mut self, now: u64) {
        (self.is_under_way, self.next) = (false, now.saturating_add(2 * SECOND));
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Crowdsec {
    /// Goes on with these settings. Others mean that all is asked anew.
    pub(crate) fn configure(&mut self, settings: Option<&crowdsec::Settings>) {
        if self.settings.as_ref() != settings {
            *self = Self { settings: settings.cloned(), epoch: self.epoch + 1, ..Self::default() };
        }
    }

    /// Hears what was decided since the last time.
    pub(crate) fn hear(&mut self, watchers: &Watchers, now: Now) {
        if !self.settings.as_ref().is_some_and(crowdsec::Settings::pushes) {
            return;
        }
        let lines = self.lines.get_or_insert_with(|| watchers.follow());
        loop {
            match lines.try_recv() {
                Ok(line) => self.outgoing.hear(&line, now.unix_millis),
                Err(TryRecvError::Lagged(many)) => self.outgoing.lose(many),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Whether decisions are to be asked for now; `true` in it: all of them.
    pub(crate) fn pull(&mut self, now: Now) -> Option<bool> {
        let pulls = self.settings.as_ref().is_some_and(crowdsec::Settings::pulls);
        if !pulls || !self.pull.begin(now.monotonic) {
            return None;
        }
        let is_all = self.all.is_none_or(|all| now.monotonic.saturating_sub(all) >= ALL * SECOND);
        Some(is_all)
    }

    /// CrowdSec has streamed.
    pub(crate) fn pulled(&mut self, stream: DecisionStream, is_all: bool, now: Now) {
        let every = self.every();
        if self.pull.failing.is_some() {
            tracing::info!("CrowdSec answers again");
        }
        self.pull.succeeded(every, now.monotonic);
        self.pulled += 1;
        self.answered = now.unix_millis;
        self.counts.own += stream.own;
        self.counts.other += stream.other;
        self.counts.simulated += stream.simulated;
        self.is_changed |= self.decisions.take(stream, is_all, now.monotonic);
        if is_all {
            // What an earlier guard left in force may be another list.
            self.is_changed |= self.all.is_none();
            self.all = Some(now.monotonic);
        }
    }

    /// CrowdSec did not stream.
    pub(crate) fn not_pulled(&mut self, why: &str, now: Now) {
        if self.pull.failing.is_none() {
            tracing::warn!(
                error = why,
                "CrowdSec cannot be asked for decisions: those in force stay until they expire"
            );
        }
        self.pull.failed(self.every(), why, now.monotonic);
        // It may have forgotten what it told last, or been told to forget.
        self.all = None;
    }

    /// It could not be asked, for a reason of the gateway's own.
    pub(crate) fn pull_interrupted(&mut self, now: Now) {
        self.pull.interrupted(now.monotonic);
        self.all = None;
    }

    /// Whether the list in force is to be replaced; to be called when that can be done.
    pub(crate) const fn take_change(&mut self) -> bool {
        std::mem::replace(&mut self.is_changed, false)
    }

    /// What CrowdSec has decided.
    pub(crate) const fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// What it is to be told of now: bans, or that they were lifted; `None`: nothing.
    pub(crate) fn push(&mut self, now: Now) -> Option<Fetch> {
        if self.push.is_under_way || now.monotonic < self.push.next || self.outgoing.len() == 0 {
            return None;
        }
        let told = self.outgoing.begin(now.unix_millis);
        self.push.is_under_way = told.is_some();
        if told.is_none() {
            // What waited has ended: it is not told, and what failed does not matter any more.
            self.push.failing = None;
        }
        told
    }

    /// It was told.
    pub(crate) fn pushed(&mut self, now: Now) {
        self.outgoing.end(true);
        self.push.succeeded(Duration::ZERO, now.monotonic);
        self.answered = now.unix_millis;
    }

    /// It does not want what it was told: that is not told again.
    pub(crate) fn push_refused(&mut self, why: &str, now: Now) {
        tracing::warn!(error = why, "CrowdSec does not take bans");
        self.outgoing.refuse();
        self.push.interrupted(now.monotonic);
        // It answers.
        (self.push.failing, self.push.failures, self.answered) = (None, 0, now.unix_millis);
    }

    /// It could not be told: it is told again.
    pub(crate) fn not_pushed(&mut self, why: &str, now: Now) {
        if self.push.failing.is_none() {
            tracing::warn!(error = why, "CrowdSec cannot be told of bans: they wait");
        }
        self.outgoing.end(false);
        self.push.failed(Duration::from_secs(2), why, now.monotonic);
    }

    /// The observer could not be asked.
    pub(crate) fn push_interrupted(&mut self, now: Now) {
        self.outgoing.end(false);
        self.push.interrupted(now.monotonic);
    }

    fn every(&self) -> Duration {
        self.settings.as_ref().map_or(Duration::from_secs(10), |settings| settings.every)
    }

    /// How it is; `None`: there is no `[crowdsec]`.
    pub(crate) fn status(&self) -> Option<CrowdsecStatus> {
        let settings = self.settings.as_ref()?;
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        Some(CrowdsecStatus {
            url: settings.api.url.clone(),
            is_up: self.pull.failing.is_none() && self.push.failing.is_none(),
            answered: if self.answered == 0 { String::new() } else { rfc3339(self.answered) },
            failing: self.pull.failing.clone().or_else(|| self.push.failing.clone()),
            decisions: count(self.decisions.len()),
            pulled: self.pulled,
            pull_failures: self.pull.failed,
            skipped_own: self.counts.own,
            skipped_other: self.counts.other + self.decisions.dropped,
            skipped_simulated: self.counts.simulated,
            waiting: count(self.outgoing.len()),
            told: self.outgoing.sent,
            lifted: self.outgoing.lifted,
            tell_failures: self.outgoing.failed,
            dropped: self.outgoing.dropped,
        })
    }

    /// What an operator should know of it.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let url = self.settings.as_ref().map_or("", |settings| settings.api.url.as_str());
        let pull = self.pull.failing.as_ref().map(|why| {
            let since = if self.answered == 0 { "never".to_owned() } else { rfc3339(self.answered) };
            format!(
                "CrowdSec at {url} cannot be asked for decisions (last answer: {since}): {why}; those in force stay until \
                 they expire"
            )
        });
        let push = self
            .push
            .failing
            .as_ref()
            .map(|why| format!("CrowdSec at {url} cannot be told of bans ({} wait): {why}", self.outgoing.len()));
        [pull, push].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests;
