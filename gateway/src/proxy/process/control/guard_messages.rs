//! What the control thread does with what the guard says.

use std::{
    fs::File,
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
};

use anyhow::Context as _;
use gateway_common::source::Source;

use super::{Control, send_all};
use crate::{
    diagnostic::with_causes,
    message::{InForce, ToGuard, ToProxy, channel::sealed::unseal},
    os::clock::{self, Now},
    policy::{detect::ProfileRow, limit::report::LimitQuestion},
    proxy::{
        process::{configurations::reason, credentials, limits, quotas, spent, worker_thread::Running},
        worker::messages::WorkerCommand,
    },
};

impl Control<'_> {
    /// Carries out what the guard says. `true`: it is time to drain.
    pub(super) async fn handle(&mut self, message: ToProxy, descriptors: Vec<OwnedFd>, workers: &[Running]) -> bool {
        match self.carry_out(message, descriptors, workers).await {
            Ok(drains) => drains,
            Err(error) => self.is_outdated(&error),
        }
    }

    /// As [`Self::handle`]. It fails where this proxy cannot go on with what is in force.
    async fn carry_out(
        &mut self,
        message: ToProxy,
        descriptors: Vec<OwnedFd>,
        workers: &[Running],
    ) -> anyhow::Result<bool> {
        match message {
            ToProxy::Banned { id, source, expires } => self.ban(id, source, expires, workers).await,
            ToProxy::Lifted { source } => self.shared.bans.lift(source),
            ToProxy::Allowed { source } => self.allow(source),
            ToProxy::Disallowed { source } => self.shared.bans.disallow(source),
            ToProxy::InForce => {
                let taken = self.take_in_force(descriptors, workers).await;
                taken.context("bans made or lifted without a guard are not known")?;
            }
            ToProxy::Probation { source, until } => {
                self.snapshot().detector.watch(source, until, clock::monotonic());
            }
            ToProxy::ReopenLogs { output } => match descriptors.into_iter().next() {
                Some(log) => self.sink.reopen(output.into(), File::from(log)),
                None => tracing::error!(output, "an access log stays as it was: the guard's file did not come"),
            },
            ToProxy::Files => {
                let renewed = self.renew_files(descriptors, workers).await;
                renewed.context("changed files of TLS or keys cannot be used")?;
            }
            ToProxy::CredentialChanges(changes) => {
                credentials::change(self.tables(), changes);
                send_all(workers, || WorkerCommand::Recheck).await;
            }
            ToProxy::Credentials { replaces } => {
                // Without them it would go on taking what is revoked.
                let loaded = credentials::load(self.tables(), descriptors.into_iter().next(), replaces);
                loaded.context("API keys and revocations cannot be read")?;
                send_all(workers, || WorkerCommand::Recheck).await;
            }
            ToProxy::Telemetry => match descriptors.into_iter().next() {
                Some(socket) => self.telemetry.adopt(socket),
                None => tracing::error!("the observer hears nothing of this proxy: its socket did not come"),
            },
            ToProxy::Score { number, address } => self.tell_score(number, address),
            ToProxy::Profiles { number, most } => self.tell_profiles(number, most.into()),
            ToProxy::Deviations(deviations) => self.name_contributors(&deviations),
            ToProxy::CrawlerRanges(ranges) => self.configurations.in_force().take_ranges(&ranges),
            ToProxy::Slowed(slowed) => self.shared.bans.slowed.put(slowed, clock::monotonic()),
            ToProxy::Explain { number, question } => {
                self.explaining.begin(number, question, Arc::clone(self.configurations.in_force()), self.shared);
            }
            ToProxy::Limits { number, question } => {
                let (rows, more) = limits::answer(self.configurations.in_force(), &question, clock::monotonic());
                self.guard.say(ToGuard::Limits { number, rows, more });
            }
            ToProxy::QuotaUsed(report) => {
                if let Some(limits) = &self.snapshot().limits {
                    limits.take(&report, clock::monotonic());
                }
            }
            ToProxy::Quotas => {
                // Without it, it would give everybody another quota.
                let restored = quotas::restore(self.configurations.limits(), descriptors.into_iter().next());
                restored.context("what was used up of quotas is not known")?;
            }
            ToProxy::TellSpent { number } => spent::tell(&self.configurations.in_force().snapshot, number, self.guard),
            ToProxy::Spent => spent::resume(self.snapshot(), descriptors.into_iter().next()),
            ToProxy::Barrier { number } if self.retiring > 0 || self.configuring > 0 => self.barrier = Some(number),
            ToProxy::Barrier { number } => self.guard.say(ToGuard::Ack { number }),
            ToProxy::Ping { number, heard } => {
                self.guard.say(ToGuard::Pong { number });
                self.shared.asks.answer(number, heard);
            }
            ToProxy::Promoted { what } => self.snapshot().enforce(&what),
            ToProxy::RevocationsStale(is_stale) => self.tables().set_stale(is_stale),
            ToProxy::TicketKeys(keys) => self.snapshot().tickets.adopt(*keys, Now::read()),
            ToProxy::Letter(letter) => self.shared.cluster.peer_queues().change(letter),
            ToProxy::WholeLetter(part, of, letter) => self.shared.cluster.peer_queues().part(part, of, letter),
            ToProxy::Stopping => self.shared.is_stopping.store(true, Ordering::Relaxed),
            ToProxy::Listen { listener } => {
                if let Err(error) = self.configurations.listen(listener, descriptors) {
                    tracing::error!("a listening socket of the guard cannot be used: {}", with_causes(&error));
                }
            }
            ToProxy::Configure { reload } => {
                if let Err(error) = self.configurations.begin(reload, descriptors) {
                    self.guard.say(ToGuard::NotConfigured { reload, reason: reason(&error) });
                }
            }
            ToProxy::Abort { reload } => self.configurations.abort(reload),
            ToProxy::Commit { reload } => self.commit(reload, workers).await,
            ToProxy::Drain => return Ok(true),
            ToProxy::Start { .. } => tracing::error!("the guard said twice how to start"),
        }
        Ok(false)
    }

    /// A source is banned: it is refused from now on, and its connections are closed.
    async fn ban(&mut self, id: u64, source: Source, expires: u64, workers: &[Running]) {
        let known = self.shared.bans.add(id, source, expires, clock::monotonic());
        if !known && let Some(others) = self.unknown.is_due(clock::monotonic()) {
            tracing::warn!(ban = id, others, "the proxy's table of bans is full: only the kernel enforces this ban");
        }
        self.closing.insert(id, (workers.len(), 0));
        send_all(workers, || WorkerCommand::Close { ban: id, source, known }).await;
    }

    fn allow(&self, source: Source) {
        if !self.shared.bans.allow(source)
            && let Some(others) = self.unknown.is_due(clock::monotonic())
        {
            tracing::warn!(%source, others, "the proxy's table of allowed sources is full: only the kernel knows this one");
        }
    }

    /// Says what is known of an address: how near it is to each rule, what limits leave it, and its profile.
    fn tell_score(&mut self, number: u64, address: IpAddr) {
        let source = Source::of(address, self.snapshot().settings.ipv6_prefix);
        let detector = &self.snapshot().detector;
        let scores = detector.scores(source, clock::monotonic());
        let log = &self.snapshot().access_log;
        let profile = detector.profile(source, clock::monotonic()).map(|profile| {
            let principals = profile.principals.into_iter().map(|name| log.principal(name)).collect();
            Box::new(ProfileRow { principals, ..profile })
        });
        let asked = LimitQuestion::Show(vec![("address".to_owned(), address.to_string())]);
        let (limits, _) = limits::answer(self.configurations.in_force(), &asked, clock::monotonic());
        let discounted = detector.discounted(source, clock::monotonic());
        self.guard.say(ToGuard::Score { number, scores, limits, profile, discounted });
    }

    /// Says which sources stand out.
    fn tell_profiles(&mut self, number: u64, most: usize) {
        let (detector, access_log) = (&self.snapshot().detector, &self.snapshot().access_log);
        let shown = |row: ProfileRow| {
            if row.kind == "principal" { ProfileRow { who: access_log.principal(row.who), ..row } } else { row }
        };
        let rows = detector.top(most, clock::monotonic()).into_iter().map(shown);
        let rows = detector.keeps_profiles().then(|| rows.collect());
        self.guard.say(ToGuard::Profiles { number, rows });
    }

    /// Takes over what the guard has in force.
    async fn take_in_force(&self, descriptors: Vec<OwnedFd>, workers: &[Running]) -> anyhow::Result<()> {
        let sealed = descriptors.into_iter().next().context("the guard sent nothing")?;
        let in_force = unseal::<InForce>(sealed)?;
        self.configurations.in_force().take_in_force(&in_force, &self.shared.bans);
        send_all(workers, || WorkerCommand::CloseBanned).await;
        Ok(())
    }

    /// Goes on with files that have changed.
    async fn renew_files(&mut self, descriptors: Vec<OwnedFd>, workers: &[Running]) -> anyhow::Result<()> {
        let file = descriptors.into_iter().next().context("the guard sent no files")?;
        let others = self.configurations.renew(unseal(file)?)?;
        self.serve_cluster(self.configurations.in_force());
        if others {
            send_all(workers, || WorkerCommand::Reverify).await;
        }
        Ok(())
    }

    /// Puts a configuration in force that was compiled for this reload.
    async fn commit(&mut self, reload: u64, workers: &[Running]) {
        let Some((compiled, sockets)) = self.configurations.commit(reload, self.sink) else {
            tracing::error!(reload, "the guard wants a configuration in force that is not known");
            return;
        };
        self.memory.limit(&compiled.snapshot.settings);
        self.keep_keys(&compiled).await;
        self.configuring += workers.len();
        for (worker, sockets) in workers.iter().zip(sockets) {
            let command = WorkerCommand::Configure { compiled: Arc::clone(&compiled), sockets };
            worker.commands.send(command).await.unwrap_or_default();
        }
    }
}
