//! What the control thread tells guard and observer by itself, once a second or when something has changed.

use std::sync::atomic::Ordering;

use super::{
    super::{configurations::reason, limits, telemetry::Current},
    Control,
};
use crate::{
    diagnostic::with_causes,
    message::{Lost, MAX_USED, ToGuard},
    os::clock,
    policy::{admission::Classes, auth::tables::CredentialTables, limit::Limits},
};

impl Control<'_> {
    /// Tells the guard that this proxy cannot follow it, so that another one takes its place. `true`: it is time to drain.
    pub(super) fn is_outdated(&mut self, error: &anyhow::Error) -> bool {
        tracing::error!("this proxy drains, as it cannot follow the guard: {}", with_causes(error));
        self.guard.say(ToGuard::Outdated { reason: reason(error) });
        true
    }

    /// Tells the observer what has changed, if there is one. Nobody waits for it.
    pub(super) fn tell_observer(&mut self, serves: bool) {
        if !self.telemetry.has_observer() {
            return;
        }
        let in_force = self.configurations.in_force();
        self.telemetry.add_introspections(in_force.snapshot.authenticators.introspection());
        self.telemetry.add_verifications(in_force.snapshot.authenticators.take_verifications());
        self.telemetry.add_unchecked(in_force.snapshot.authenticators.tables().take_unchecked());
        let upstreams = &in_force.upstreams;
        let pools = upstreams.iter().map(|upstream| {
            let (idle, busy) = upstream.state.connections();
            (idle, busy, upstream.state.pending())
        });
        let pools: Vec<_> = pools.collect();
        let upstreams: Vec<_> = upstreams.iter().map(|upstream| upstream.state.report()).collect();
        let store = self.store();
        let sums = limits::sums(in_force);
        let classes = self.snapshot().classes.as_ref().map(Classes::sums).unwrap_or_default();
        let wafs: Vec<_> = self.snapshot().waf_sums().collect();
        let concurrency: Vec<_> = in_force.upstreams.iter().map(|upstream| upstream.state.concurrency()).collect();
        let quotas = self.snapshot().limits.as_ref().map(Limits::warnings).unwrap_or_default();
        let deprecated = in_force.snapshot.deprecated_calls();
        let deprecated: Vec<_> =
            deprecated.map(|(api, operation, count)| (api.to_owned(), operation.to_owned(), count)).collect();
        let reported = in_force.snapshot.request_violations();
        let reported: Vec<_> = reported.map(|(api, rule, count)| (api.to_owned(), rule, count)).collect();
        let broken = in_force.snapshot.response_violations();
        let broken: Vec<_> =
            broken.map(|(api, operation, count)| (api.to_owned(), operation.to_owned(), count)).collect();
        let unjudged = in_force.snapshot.unjudged_responses();
        let unjudged: Vec<_> = unjudged.map(|(api, count)| (api.to_owned(), count)).collect();
        let distinct = in_force.snapshot.detector.distinct_clients();
        self.telemetry.tell(&Current {
            now: clock::monotonic(),
            authenticators: &in_force.snapshot.authenticators,
            distinct: &distinct,
            reported_requests: &reported,
            broken_responses: &broken,
            unjudged_responses: &unjudged,
            deprecated: &deprecated,
            serves: serves && !self.shared.is_stopping.load(Ordering::Relaxed),
            connections: self.shared.connections.load(Ordering::Relaxed),
            memory: self.memory.size(),
            upstreams: &upstreams,
            limits: &sums,
            classes: &classes,
            wafs: &wafs,
            bandwidth: &in_force.snapshot.bandwidth,
            concurrency: &concurrency,
            quotas: &quotas,
            lost_traces: self.shared.lost_traces.load(Ordering::Relaxed),
            pools: &pools,
            log_waiting: self.sink.waiting(),
            lookups: self.shared.lookups.counts(),
            crawlers: &in_force.snapshot.crawlers,
            fast_lane: (self.shared.fast_lane.marked(), self.shared.fast_lane.over()),
            store: store.as_ref(),
            stalled: self.heartbeats.stalled(),
        });
    }

    /// Tells the guard of upstreams whose state has changed.
    pub(super) fn tell_upstreams(&mut self) {
        for (report, told) in self.configurations.upstreams() {
            self.guard.say(ToGuard::Upstream(Box::new(report.clone())));
            *told = Some(report);
        }
    }

    /// Tells the guard what was lost, if anything was.
    pub(super) fn tell_lost(&mut self) {
        let lines = self.sink.dropped();
        let mut log_lines = lines;
        for (count, told) in log_lines.iter_mut().zip(self.told_lines) {
            *count = count.saturating_sub(told);
        }
        let lost = Lost {
            asks: [
                self.shared.lost_asks.swap(0, Ordering::Relaxed),
                self.shared.asks.take_lost(),
                self.guard.take_lost(),
            ]
            .into_iter()
            .fold(0, u64::saturating_add),
            log_lines,
            connections: self.shared.lost_connections.swap(0, Ordering::Relaxed),
            shed: self.shared.shed.swap(0, Ordering::Relaxed),
            at_accept: self.shared.bans.take_lost(),
        };
        self.told_lines = lines;
        self.telemetry.add_lost(lost);
        if lost != Lost::default() {
            self.guard.say(ToGuard::Lost(lost));
        }
    }

    /// Tells the guard which API keys were used, each once an hour.
    pub(super) fn tell_used_keys(&mut self) {
        let used = self.tables().keys.take_used(MAX_USED);
        if !used.is_empty() {
            self.guard.say(ToGuard::KeysUsed(used));
        }
    }

    pub(super) fn tables(&self) -> &CredentialTables {
        self.snapshot().authenticators.tables()
    }

    pub(super) fn tell_counted(&mut self) {
        if let Some(message) = self.delta.message(self.shared.connections.load(Ordering::Relaxed)) {
            self.guard.say(message);
        }
    }
}
