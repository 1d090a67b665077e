//! Quotas in the guard's loop: what proxies say is added up, told to the other proxies, and written beside the loop.

use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    guard::{
        audit,
        bans::{Actor, Refused},
        control::{ControlAnswer, UNKNOWN_KEY},
        lifecycle::{
            credentials::OPENING,
            operators::limits,
            service::{Done, Ready, Service, reply},
        },
        quotas::writer::{QuotaJob, QuotaWork, QuotaWriterHandle},
    },
    message::ToProxy,
    os::clock::{self, Now},
    policy::limit::{
        quotas::QuotaReport,
        report::{LimitQuestion, asked_key},
    },
    settings::proxy,
};

/// A file that cannot be used is tried again every so many seconds.
const AGAIN: u64 = 5;

impl Service<'_> {
    /// Opens the stores that proxies are handed something of, and waits for that for a while: one that knew nothing would
    /// refuse every key, and give everybody another quota.
    pub(super) async fn open_stores(
        &mut self,
        beside: &mpsc::Sender<Done>,
        done: &mut mpsc::Receiver<Done>,
        prepared: &mpsc::Sender<Ready>,
    ) {
        let until = Instant::now() + OPENING;
        self.start_credentials(beside);
        self.configure_quotas();
        self.start_quotas(beside);
        self.read_revocations(beside, done, prepared).await;
        self.configure_credentials();
        while !(self.credentials.is_settled() && self.quotas.is_settled()) {
            let Ok(Some(opened)) = timeout_at(until, done.recv()).await else { break };
            self.done(opened, prepared);
        }
        self.quotas.serves = true;
    }

    /// A configuration is in force.
    pub(super) fn configure_quotas(&mut self) {
        if self.supervisor.quotas.configure(&self.config.proxy.limits, Now::read()) {
            match self.supervisor.quotas.opening() {
                Ok(Some((message, files))) => self.hand_quotas(&message, &files),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "the proxy does not know what was used up of a quota"),
            }
        }
    }

    fn hand_quotas(&mut self, message: &ToProxy, files: &[std::os::fd::OwnedFd]) {
        for generation in self.supervisor.generations() {
            for file in files {
                match file.try_clone() {
                    Ok(file) => self.supervisor.hand(generation, message.clone(), file),
                    Err(error) => tracing::error!(%error, "the proxy does not know what was used up of a quota"),
                }
            }
        }
    }

    /// Starts the thread that writes, where there is a quota.
    fn start_quotas(&mut self, beside: &mpsc::Sender<Done>) {
        if self.quotas.writer.is_some() || !self.supervisor.quotas.is_needed() {
            return;
        }
        let boot = clock::boot_id();
        let beside = beside.clone();
        let done = move |worked: QuotaWork| {
            // Nobody hears it any more where the gateway stops.
            beside.blocking_send(Done::Quotas(Box::new(worked))).unwrap_or_default();
        };
        match QuotaWriterHandle::start(self.config.guard.state_dir.clone(), boot, done) {
            Ok(writer) => {
                self.quotas.is_busy = writer.ask(QuotaJob::Open);
                self.quotas.writer = Some(writer);
            }
            Err(error) => self.quotas.trouble = Some(error.to_string()),
        }
    }

    /// Answers what is asked of limits and quotas. A change of quotas is recorded first.
    pub(super) fn ask_limits(&mut self, question: LimitQuestion, actor: &Actor, to: oneshot::Sender<ControlAnswer>) {
        let proxy::Settings { limits, connection_limits, bandwidth, .. } = &self.config.proxy;
        let connections = [&connection_limits.accepted, &connection_limits.handshake];
        let all = [limits, &bandwidth.upload, &bandwidth.download].into_iter().chain(connections);
        let all: Vec<_> = all.flat_map(|settings| &settings.limits).collect();
        if let Err(why) = asked_key::judge(&question, &all) {
            return reply(Some(to), Refused::new(UNKNOWN_KEY, why).into());
        }
        let text = |key: &[(String, String)]| {
            let parts: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
            parts.join(" ")
        };
        let order = match &question {
            LimitQuestion::SetQuota { quota, key, used } => {
                let members = json!({"quota": quota, "key": text(key), "used": used, "actor": actor.to_string()});
                Some(("quota_set", members))
            }
            LimitQuestion::Reset(key) => Some(("limit_reset", json!({"key": text(key), "actor": actor.to_string()}))),
            _ => None,
        };
        if let Some((event, members)) = order
            && let Err(refused) = self.guard.record_order(event, Now::read(), audit::members(members))
        {
            return reply(Some(to), refused.into());
        }
        if matches!(question, LimitQuestion::SetQuota { .. } | LimitQuestion::Reset(_)) {
            self.supervisor.quotas.operator_gives_back(Now::read());
        }
        limits::ask(self, question, to);
    }

    /// The same of quotas alone: who has used up most, the guard knows itself.
    pub(super) fn ask_quotas(&mut self, question: LimitQuestion, actor: &Actor, to: oneshot::Sender<ControlAnswer>) {
        match question {
            LimitQuestion::Top => {
                let (rows, more) = self.supervisor.quotas.top();
                reply(Some(to), ControlAnswer::Limits { rows, more });
            }
            question => self.ask_limits(question, actor, to),
        }
    }

    /// A proxy says what was used up.
    pub(super) fn quota_used(&mut self, generation: u64, mut report: QuotaReport) {
        let (quota, warned) = (report.quota.clone(), std::mem::take(&mut report.warned));
        if let Some(others) = self.supervisor.quotas.add(report, Now::read()) {
            self.supervisor.tell_others(generation, &ToProxy::QuotaUsed(Box::new(others)));
        }
        for one in warned {
            if self.quotas.may_log() {
                let key = self.supervisor.quotas.name(&quota, one.key);
                tracing::warn!(quota, key, percent = one.percent, of = one.most, "a quota is used up so far");
            }
        }
        self.write_quotas();
    }

    /// Has what has changed written, if the thread has nothing else to do.
    fn write_quotas(&mut self) {
        if !self.quotas.is_open || self.quotas.is_busy {
            return;
        }
        let changed = self.supervisor.quotas.take_changed();
        if changed.is_empty() {
            return;
        }
        self.quotas.is_busy = self.quotas.writer.as_ref().is_some_and(|writer| writer.ask(QuotaJob::Write(changed)));
        if !self.quotas.is_busy {
            self.supervisor.quotas.rewrite();
        }
    }

    /// The thread has done something.
    pub(super) fn quotas_done(&mut self, worked: QuotaWork) {
        let QuotaWork { loaded, trouble, finding } = worked;
        self.quotas.is_busy = false;
        if let Some(finding) = finding {
            tracing::error!("what was used up of quotas was lost: {finding}");
            self.quotas.findings.push(format!("what was used up of quotas was lost: {finding}"));
        }
        let served = self.quotas.serves.then(Now::read);
        let late = loaded.map(|loaded| self.supervisor.quotas.load(loaded, served)).unwrap_or_default();
        for report in late.into_iter().filter(|_| self.quotas.serves) {
            self.supervisor.tell(&ToProxy::QuotaUsed(Box::new(report)));
        }
        self.quotas.is_open = trouble.is_none();
        match trouble {
            Some(why) => {
                self.quotas.failures += 1;
                self.supervisor.quotas.rewrite();
                if self.quotas.trouble.as_ref() != Some(&why) {
                    tracing::error!("quotas are counted in memory alone: {why}");
                }
                self.quotas.trouble = Some(why);
            }
            None => {
                if self.quotas.trouble.take().is_some() {
                    tracing::info!("quotas are written again");
                }
            }
        }
        self.write_quotas();
    }

    /// Once a second.
    pub(super) fn tick_quotas(&mut self, beside: &mpsc::Sender<Done>) {
        let unlogged = self.quotas.next_second();
        if unlogged > 0 {
            tracing::warn!(unlogged, "more keys have used up most of their quotas than lines may tell");
        }
        self.supervisor.quotas.tick(Now::read());
        self.start_quotas(beside);
        if self.quotas.trouble.is_some() && !self.quotas.is_busy && self.ticks.is_multiple_of(AGAIN) {
            self.quotas.is_busy = self.quotas.writer.as_ref().is_some_and(|writer| writer.ask(QuotaJob::Open));
        }
        self.write_quotas();
    }

    /// The gateway stops, or this guard does: what has changed is written. Nobody hears the thread any more.
    pub(super) fn finish_quotas(&mut self, done: &mut mpsc::Receiver<Done>) {
        // It would wait for room to tell what it has done.
        done.close();
        if let Some(writer) = self.quotas.writer.take() {
            writer.finish(self.supervisor.quotas.take_last());
        }
    }
}
