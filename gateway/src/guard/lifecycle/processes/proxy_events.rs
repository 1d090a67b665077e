//! What the guard makes of what proxies say, and of those that say nothing.

use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    guard::{
        audit,
        control::ControlAnswer,
        lifecycle::{
            operators::limits,
            service::{Done, Service},
        },
        processes::proxies::{conversation::ProxyEvent, supervisor::ProxyOutcome},
    },
    message::{ToGuard, ToProxy},
    os::clock::{self, Now},
    policy::detect::BanRequest,
};

/// A guard that never got a proxy ready gives up after so many.
const HOPELESS: usize = 4;

impl Service<'_> {
    /// Asks every proxy whether it stands still. Another takes the place of one that does.
    pub(in crate::guard::lifecycle) fn ping(&mut self) {
        for generation in self.supervisor.ping() {
            let how = "it has come to a standstill";
            self.lost_proxy(generation, how, how);
        }
    }

    /// A proxy serves no more, or not for long. `why` is told to whoever waits for it, `how` is recorded.
    pub(in crate::guard::lifecycle) fn lost_proxy(&mut self, generation: u64, why: &str, how: &str) {
        self.fail_reload(generation, why);
        // Should the guard die as well, the next one knows of it.
        self.keep_again();
        self.guard.tell("proxy_restart", Now::read(), audit::members(json!({"how": how})));
    }

    pub(in crate::guard::lifecycle) fn never_ready(&mut self, generation: u64, how: String) {
        if self.fail_reload(generation, &how) {
            return;
        }
        if !self.supervisor.ever_ready && self.supervisor.deaths() >= HOPELESS && self.ending.reason.is_none() {
            self.ending.hopeless = Some(how);
        } else {
            tracing::error!(how, "the proxy did not get ready");
        }
    }

    /// Hears a proxy, and charges it for the time.
    pub(in crate::guard::lifecycle) fn hear_in_turn(&mut self, event: ProxyEvent, beside: &mpsc::Sender<Done>) {
        let (ProxyEvent::Said(generation, _) | ProxyEvent::Silent(generation, _)) = event;
        let is_silent = matches!(event, ProxyEvent::Silent(..));
        if !is_silent && !self.supervisor.hears(generation) {
            return;
        }
        let began = Instant::now();
        self.hear(event, beside);
        self.relay();
        self.supervisor.charge(generation, began.elapsed());
    }

    fn hear(&mut self, event: ProxyEvent, beside: &mpsc::Sender<Done>) {
        match event {
            ProxyEvent::Said(generation, ToGuard::Adopt { configuration, stage }) => {
                self.fill_bundle();
                self.supervisor.adopt(generation, configuration, stage);
                // The guard before this one had another chain.
                self.tell_ticket_keys(false);
            }
            ProxyEvent::Said(generation, ToGuard::Ready) => self.proxy_ready(generation, beside),
            ProxyEvent::Said(generation, ToGuard::Failed { reason }) => self.proxy_failed(generation, &reason),
            ProxyEvent::Said(generation, ToGuard::Configured { reload }) => {
                self.compiled(generation, reload, Ok(()));
                self.resolve(beside);
            }
            ProxyEvent::Said(generation, ToGuard::NotConfigured { reload, reason }) => {
                self.compiled(generation, reload, Err(reason));
            }
            ProxyEvent::Said(_, ToGuard::BanRequest(ask)) => self.ask(&ask),
            ProxyEvent::Said(_, ToGuard::Contributors(told)) => self.hear_contributors(&told),
            ProxyEvent::Said(_, ToGuard::OurFault(fault)) => self.guard.hear_our_fault(&fault, Now::read()),
            ProxyEvent::Said(_, ToGuard::WouldRefuse { limit, requests, sources }) => {
                self.guard.hear_would_refuse(&limit, requests, &sources);
            }
            ProxyEvent::Said(_, ToGuard::WouldDeny { what, requests, principals }) => {
                self.guard.hear_would_deny(&what, requests, &principals);
            }
            ProxyEvent::Said(_, ToGuard::Good(clients)) => self.guard.hear_good(&clients, Now::read()),
            ProxyEvent::Said(_, ToGuard::PlanMembers(members)) => self.guard.hear_plan_members(&members, Now::read()),
            ProxyEvent::Said(_, ToGuard::KeysUsed(used)) => self.keys_used(&used),
            ProxyEvent::Said(generation, ToGuard::Counted(counted)) => self.reports.counts.hear(generation, &counted),
            ProxyEvent::Said(_, ToGuard::Lost(lost)) => self.guard.hear_lost(lost),
            ProxyEvent::Said(generation, ToGuard::Upstream(state)) => self.reports.upstreams.hear(generation, *state),
            ProxyEvent::Said(_, ToGuard::Letters(letters)) => self.hear_letters(&letters),
            ProxyEvent::Said(_, ToGuard::Store(report)) => self.cluster.hear(*report),
            ProxyEvent::Said(_, ToGuard::KeySet(report)) => self.key_sets.hear(*report, &self.config.proxy.auth),
            ProxyEvent::Said(_, ToGuard::FetchedKeys(keys)) => self.key_sets.keep(*keys, &self.config.proxy.auth),
            ProxyEvent::Said(_, ToGuard::Refused(bans)) => self.guard.refused(&bans),
            ProxyEvent::Said(_, ToGuard::Closed { ban, connections }) => self.guard.closed(ban, connections),
            ProxyEvent::Said(generation, ToGuard::Limits { number, rows, more }) => {
                self.commands.waiting.told(generation, number, |answer| *answer = ControlAnswer::Limits { rows, more });
            }
            ProxyEvent::Said(generation, ToGuard::QuotaUsed(report)) => self.quota_used(generation, *report),
            ProxyEvent::Said(generation, ToGuard::Spent { number, budgets }) => self.spent(generation, number, budgets),
            ProxyEvent::Said(generation, ToGuard::Explained { number, explanation }) => {
                self.commands
                    .waiting
                    .told(generation, number, |answer| *answer = ControlAnswer::Explained { explanation });
            }
            ProxyEvent::Said(generation, ToGuard::Score { number, scores, limits, profile, discounted }) => {
                limits::scored(self, (generation, number), &scores, (limits, discounted), profile);
            }
            ProxyEvent::Said(generation, ToGuard::Profiles { number, rows }) => {
                limits::profiled(self, (generation, number), rows);
            }
            ProxyEvent::Said(_, ToGuard::UnseenRoles(unseen)) => self.reports.unseen_roles.hear(unseen),
            ProxyEvent::Said(generation, ToGuard::Ack { number }) => self.acknowledged(generation, number),
            ProxyEvent::Said(generation, ToGuard::Pong { number }) => self.supervisor.ponged(generation, number),
            ProxyEvent::Said(generation, ToGuard::Outdated { reason }) => self.proxy_outdated(generation, &reason),
            ProxyEvent::Said(generation, ToGuard::Stalled { worker }) => self.worker_stalled(generation, worker),
            ProxyEvent::Silent(generation, None) => {
                self.forget(generation);
                self.supervisor.fell_silent(generation);
                tracing::debug!(generation, "a proxy closed its channel");
            }
            ProxyEvent::Silent(generation, Some(error)) => {
                self.forget(generation);
                tracing::error!(generation, %error, "a proxy broke the rules of its channel");
                self.supervisor.kill(generation, "it sent what is no message");
                self.fail_reload(generation, &error.to_string());
            }
        }
    }

    fn proxy_ready(&mut self, generation: u64, beside: &mpsc::Sender<Done>) {
        match self.supervisor.ready(generation) {
            Some(ProxyOutcome::Ready) => {
                let members = json!({"generation": generation, "pid": self.supervisor.pid()});
                self.guard.tell("proxy_ready", Now::read(), audit::members(members));
                if self.ending.drain_at.is_some() {
                    self.supervisor.tell(&ToProxy::Stopping);
                }
                self.reload_serves(generation);
                self.resolve(beside);
            }
            Some(ProxyOutcome::Failed(_, how)) => {
                self.fail_reload(generation, &how);
            }
            Some(ProxyOutcome::Died(..) | ProxyOutcome::Left) | None => {}
        }
    }

    /// A proxy says that it cannot serve.
    fn proxy_failed(&mut self, generation: u64, reason: &str) {
        let was_starting = self.supervisor.is_starting(generation);
        let reason = printable(reason);
        self.supervisor.failed(generation, &reason);
        if !self.supervisor.ever_ready {
            self.ending.hopeless = Some(reason);
        } else if was_starting {
            // One that serves or drains has no say in what comes after it.
            self.fail_reload(generation, &reason);
        }
    }

    fn proxy_outdated(&mut self, generation: u64, reason: &str) {
        let how = printable(reason);
        if self.supervisor.outdated(generation) {
            tracing::error!(generation, how, "a proxy cannot follow what is in force: another takes its place");
            self.lost_proxy(generation, &how, &how);
        }
    }

    fn worker_stalled(&mut self, generation: u64, worker: u16) {
        if self.supervisor.stalled(generation) {
            tracing::error!(generation, worker, "a worker has come to a standstill: another proxy takes its place");
            let how = format!("worker {worker} has come to a standstill");
            self.lost_proxy(generation, &how, &how);
        }
    }

    /// A proxy says nothing any more.
    fn forget(&mut self, generation: u64) {
        self.reports.counts.gone(generation);
        self.reports.upstreams.gone(generation);
        self.commands.waiting.gone(generation);
        self.credentials_gone(generation);
        self.handover_from_gone(generation);
    }

    fn ask(&mut self, ask: &BanRequest) {
        if let Ok(id) = self.guard.ask(ask, Now::read()) {
            let monotonic = clock::monotonic();
            // The proxy closes connections before the store learns how fast it all was.
            self.relay();
            self.guard.reacted(id, ask.noted, monotonic);
        }
    }
}

/// What a proxy gives as a reason, as it may stand in a log.
fn printable(reason: &str) -> String {
    reason.chars().filter(|letter| !letter.is_control()).take(1_000).collect()
}
