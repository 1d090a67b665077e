//! What the running guard does next: one event at a time, from signals, proxies, the control socket and the clock.

use std::{io, time::Duration};

use anyhow::{Result, anyhow};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    diagnostic::with_causes,
    guard::{
        bans::{self, Actor, PacketSamples, PacketTraces},
        control::{
            ControlAnswer, ControlRequest,
            required::is_about_credentials,
            server::{self, Call},
        },
        lifecycle::{
            files::access_log::open_logs,
            operators::limits,
            reload::{prepare::identity_providers, reloading::ReloadRequest, upgrade::UPGRADED},
            service::{Done, Ready, Service, in_background, reply},
            timer::{instant, until},
        },
        processes::proxies::{barrier::BARRIER_TIMEOUT, conversation::ProxyEvent, supervisor::ProxyOutcome},
    },
    message::{InForce, ToProxy},
    os::{
        clock::{self, Now},
        launch::Notice,
    },
};

/// How long the loop goes on before sockets are looked at.
const TURN: Duration = Duration::from_millis(1);

/// The feeds' files are looked at every so many seconds.
const LOOK: u64 = 2;

/// Identity providers are resolved again every so many seconds.
const RESOLVE: u64 = 600;

/// Serves until a signal ends it; why it ended.
///
/// # Errors
/// No proxy can be started.
pub(crate) async fn serve(
    service: &mut Service<'_>,
    control: std::os::unix::net::UnixListener,
    mut heard: mpsc::Receiver<ProxyEvent>,
) -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    let (calls, mut called) = mpsc::channel::<Call>(1);
    service.commands.relayed = Some(calls.clone());
    let (findings, mut found) = mpsc::channel(1);
    service.commands.findings = Some(findings);
    tokio::spawn(server::serve(tokio::net::UnixListener::from_std(control)?, calls, service.guard.watchers()));
    let (prepared, mut ready) = mpsc::channel::<Ready>(1);
    let (beside, mut done) = mpsc::channel::<Done>(4);
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (watchers, mut samples) = (service.guard.watchers(), PacketSamples::new(service.guard));
    let mut traces = PacketTraces::new(service.guard);
    service.guard.retrace(&mut traces);
    service.open_stores(&beside, &mut done, &prepared).await;
    service.start()?;
    service.look_for_addresses();
    service.resolve(&beside);
    let mut turn = Instant::now();
    loop {
        // Whoever connects to the control socket is seen between two messages of a proxy that floods.
        if turn.elapsed() >= TURN {
            tokio::task::yield_now().await;
            turn = Instant::now();
        }
        let (restart, due, look) =
            (service.supervisor.restart_at(), service.commands.waiting.due(), service.look_due());
        let (behind, drain) = (service.guard.catch_up_at().map(instant), service.ending.drain_at);
        let upgrade = service.ending.upgrade_at;
        let handover = service.handover.as_ref().map(|handover| handover.until);
        tokio::select! {
            _ = terminate.recv() => service.stop("terminated"),
            _ = interrupt.recv() => service.stop("interrupted"),
            _ = hangup.recv() => service.prepare(ReloadRequest::new(Actor::Guard, None, false), &prepared),
            _ = reopen.recv() => service.reopen(),
            notice = service.supervisor.launcher.next() => service.hear_launcher(notice)?,
            Some(event) = heard.recv() => {
                let began = Instant::now();
                service.hear_in_turn(event, &beside);
                // The rest of a burst, before everything else is asked again.
                while began.elapsed() < TURN && let Ok(event) = heard.try_recv() {
                    service.hear_in_turn(event, &beside);
                }
            }
            Some(deviations) = found.recv() => service.hear_deviations(deviations),
            Some(call) = called.recv() => service.hear_call(call, &prepared, &beside),
            Some((result, request)) = ready.recv() => service.prepared(result, request),
            _ = second.tick() => service.tick(&beside),
            Some(done) = done.recv() => service.done(done, &prepared),
            () = watchers.wanted() => service.guard.begin_samples(&mut samples),
            () = samples.wait(), if watchers.want_packets() => service.guard.tell_samples(&mut samples, Now::read()),
            () = watchers.retraced() => service.guard.retrace(&mut traces),
            () = traces.wait(), if traces.is_on() => service.guard.tell_traces(&mut traces, Now::read()),
            // Yields: whatever else is ready comes first.
            () = tokio::task::yield_now(), if service.guard.has_work() => service.work(&beside),
            () = until(restart), if restart.is_some() => service.restart(),
            () = until(look), if look.is_some() => service.look(false, &beside),
            () = until(behind), if behind.is_some() => service.guard.catch_up(),
            () = until(upgrade), if upgrade.is_some() => {
                service.guard.record_refusals(&service.reports.counts.told().refused, Now::read());
                service.finish_quotas(&mut done);
                return Ok(UPGRADED);
            }
            () = until(handover), if handover.is_some() => service.finish_handover(),
            () = until(drain), if drain.is_some() => service.drain(),
            () = until(due), if due.is_some() => service.commands.waiting.give_up(Instant::now()),
        }
        service.relay();
        service.reload_next(&prepared);
        service.look_at_new_revocations(&beside);
        if let Some(reason) = service.ending.hopeless.take() {
            service.supervisor.kill_starting("the guard gives up");
            return Err(anyhow!("no proxy can be started: {reason}"));
        }
        if let Some(reason) = service.ending.reason.filter(|_| service.supervisor.is_empty()) {
            tracing::info!(reason, "the guard stops");
            service.guard.record_refusals(&service.reports.counts.told().refused, Now::read());
            service.finish_quotas(&mut done);
            return Ok(reason);
        }
    }
}

impl Service<'_> {
    pub(super) fn start(&mut self) -> Result<()> {
        self.find_outdated();
        self.fill_bundle();
        self.keep();
        self.watched.resolver.proxies.adopt(self.supervisor.newest());
        // Proxies of a guard before this one say first how far they are.
        if !self.supervisor.starts() {
            self.supervisor.bundle.is_first = true;
            let started = self.supervisor.start(None);
            self.supervisor.bundle.is_first = false;
            started?;
        }
        Ok(())
    }

    pub(super) fn fill_bundle(&mut self) {
        self.supervisor.bundle.in_force = InForce {
            bans: self.guard.bans_in_force(),
            allows: self.guard.allows_in_force(),
            probations: self.guard.probations_in_force(clock::monotonic()),
            promoted: self.guard.promoted(),
            slowed: self.guard.slowed_in_force(),
            ranges: self.guard.crawler_ranges(),
        };
        self.supervisor.bundle.tickets = self.ticket_keys();
        self.supervisor.bundle.log_key = self.access_log.key;
        self.supervisor.bundle.seed = self.seed;
        self.supervisor.bundle.keys = self.key_sets.for_proxy();
    }

    pub(super) fn restart(&mut self) {
        self.fill_bundle();
        self.supervisor.restart();
    }

    /// The first time: drain. The second time: now.
    pub(super) fn stop(&mut self, reason: &'static str) {
        if self.ending.reason.replace(reason).is_some() {
            self.supervisor.kill_all("the guard was told to stop twice");
            return;
        }
        let delay = self.config.proxy.stop_delay;
        if delay.is_zero() || self.supervisor.pid().is_none() {
            return self.drain();
        }
        tracing::info!(reason, ?delay, "the proxy goes on serving, and tells health checks that the gateway stops");
        self.ending.drain_at = Some(Instant::now() + delay);
        self.supervisor.tell(&ToProxy::Stopping);
    }

    /// The proxies accept no more, finish what they have begun, and end.
    fn drain(&mut self) {
        self.ending.drain_at = None;
        tracing::info!("the guard lets the proxy finish");
        self.supervisor.stop();
    }

    pub(super) fn reopen(&mut self) {
        let logs = open_logs(&self.config.proxy.access_log);
        let logs = logs.map_err(|closed| closed.error);
        let reopened = logs.and_then(|logs| Ok(self.supervisor.reopen_all(logs)?));
        match reopened {
            Ok(()) => tracing::info!("the access log is opened anew"),
            Err(error) => tracing::error!("the access log stays as it was: {}", with_causes(&error)),
        }
    }

    /// Does a little of what takes long.
    pub(super) fn work(&mut self, beside: &mpsc::Sender<Done>) {
        self.guard.work(Now::read());
        if let Some(planning) = self.guard.planning() {
            in_background(beside, move || Done::Planned(planning.run()));
        }
    }

    pub(super) fn done(&mut self, done: Done, prepared: &mpsc::Sender<Ready>) {
        match done {
            Done::Anchored(written) => self.background.anchors.done(written, Now::read()),
            Done::Certificates(epoch, watcher, news) => self.looked_at_certificates(epoch, watcher, news),
            Done::Fetched(fetched) => self.list_fetched(*fetched),
            Done::Files(epoch, watcher, changed) => self.looked_at_files(epoch, watcher, changed, prepared),
            Done::Checkpointed(done) => self.checkpointed(done),
            Done::Compressed(path, done) => self.guard.compressed(&path, done),
            Done::Credentials(worked) => self.credentials_done(*worked),
            Done::Crowdsec(done) => self.crowdsec_done(*done),
            Done::Revocations(look, read) => self.looked_at_revocations(look, read),
            Done::Flushed(flushed) => self.flushed(flushed),
            Done::Tidied(faults) => self.tidied(&faults),
            Done::Seen(seen) => {
                for call in self.seen(*seen) {
                    // One at a time: each may be judged by what the one before it has put in force.
                    if let Some(call) = self.authorize_again(call) {
                        self.call(call, prepared);
                    }
                }
            }
            Done::Quotas(worked) => self.quotas_done(*worked),
            Done::Planned(planned) => self.guard.planned(planned, Now::read()),
            Done::Resolver(files) => self.looked_at_resolver(files),
            Done::Resolved(addresses) => self.guard.protect_identity_providers(addresses),
            Done::Looked(watcher, news, operators) => {
                self.guard.files_written(&watcher.written(), Now::read());
                self.watched.feeds = Some(watcher);
                if !news.is_empty() {
                    self.guard.operators_are(operators);
                }
                for (feed, news) in news {
                    // The configuration may have changed meanwhile.
                    if self.config.guard.feeds.contains(&feed) {
                        self.guard.feed_file(feed, news, Now::read());
                    }
                }
            }
        }
    }

    /// Finds out what addresses identity providers have, beside the loop: nothing waits for a name server.
    pub(super) fn resolve(&self, beside: &mpsc::Sender<Done>) {
        let urls = identity_providers(&self.config.proxy);
        in_background(beside, move || Done::Resolved(bans::identity_providers(&urls)));
    }

    pub(super) fn tick(&mut self, beside: &mpsc::Sender<Done>) {
        self.ticks += 1;
        self.supervisor.launcher.alive();
        self.tick_background(beside);
        if self.ticks.is_multiple_of(RESOLVE) {
            self.resolve(beside);
        }
        if self.ticks.is_multiple_of(LOOK) {
            self.look_at_feeds(beside);
            self.look_at_certificates(beside);
            self.look_at_files(beside);
            self.look_at_resolver(beside);
            self.look_for_addresses();
        }
        self.guard.tick(Now::read(), self.ticks);
        self.fetch_lists(beside);
        self.tick_crowdsec(beside);
        self.key_sets.write(&self.config.proxy.auth);
        self.supervisor.check();
        self.ping();
        self.rotate_logs(beside);
        self.tick_credentials(beside);
        self.tick_tickets();
        self.tick_cluster();
        self.tick_quotas(beside);
        self.tick_observer();
        self.check_compilation();
        self.check_reload();
        self.tell_processes();
    }

    fn hear_launcher(&mut self, notice: io::Result<Notice>) -> Result<()> {
        match notice? {
            Notice::Exited { pid, status } if self.compiler_exited(pid, status) => {}
            Notice::Exited { pid, status } if self.is_observer(pid) => self.observer_exited(status),
            Notice::Exited { pid, status } => match self.supervisor.exited(pid, status) {
                None | Some(ProxyOutcome::Left | ProxyOutcome::Ready) => {}
                Some(ProxyOutcome::Died(generation, how)) => {
                    self.lost_proxy(generation, &format!("the proxy that was to serve it died ({how})"), &how);
                }
                Some(ProxyOutcome::Failed(generation, how)) => self.never_ready(generation, how),
            },
            // Told to whoever waited for it, who gave up.
            Notice::Begin { .. }
            | Notice::Bound { .. }
            | Notice::Found { .. }
            | Notice::Kept
            | Notice::Living { .. }
            | Notice::Started { .. } => tracing::warn!("the launcher answered late"),
        }
        Ok(())
    }

    pub(super) fn call(&mut self, mut call: Call, prepared: &mpsc::Sender<Ready>) {
        let actor = self.actor(&call.caller);
        let answer = match call.request {
            ControlRequest::BlockImportCommit { id, digest, allow_empty } => {
                let list = (id, digest, allow_empty);
                return self.guard.import_commit(list, &actor, call.answer, Now::read());
            }
            ControlRequest::BlockDel { source } => {
                let Some(answer) = self.guard.unlist(source, &actor, call.answer, Now::read()) else { return };
                call.answer = answer;
                self.guard.handle(ControlRequest::BlockDel { source }, &actor, Now::read())
            }
            // The control socket tells from now on whoever may be told.
            ControlRequest::Watch { kernel, .. } => self.guard.may_watch(kernel.as_ref()),
            ControlRequest::Upgrade => self.upgrade(),
            ControlRequest::Explain { question } => return limits::explain(self, question, call.answer),
            ControlRequest::Profiles { most } => return limits::top(self, most, call.answer),
            ControlRequest::Limit { question } => return self.ask_limits(question, &actor, call.answer),
            ControlRequest::Quota { question } => return self.ask_quotas(question, &actor, call.answer),
            ControlRequest::AlertList
            | ControlRequest::AlertSilence { .. }
            | ControlRequest::AlertTest { .. }
            | ControlRequest::AlertUnsilence { .. }
            | ControlRequest::Anomalies => return self.ask_observer(call.request, &actor, call.answer),
            ControlRequest::FeedRefresh { name, accept } => {
                return self.refresh_feed(&name, accept, &actor, call.answer);
            }
            ControlRequest::AdminTokenList => self.list_admin_tokens(),
            ControlRequest::AdminTokenNew { name, roles, seconds } => {
                return self.new_admin_token((&name, &roles, seconds), &actor, call.answer);
            }
            ControlRequest::AdminTokenRevoke { name } => return self.revoke_admin_token(&name, &actor, call.answer),
            ControlRequest::Reload { dry_run } => {
                return self.prepare(ReloadRequest::new(actor, Some(call.answer), dry_run), prepared);
            }
            ref request if is_about_credentials(request) => return self.order(call, &actor),
            ControlRequest::Status => ControlAnswer::Status(Box::new(self.guard.status(self.processes(), Now::read()))),
            ControlRequest::Top => {
                let now = Now::read();
                let status = self.guard.status(self.processes(), now);
                ControlAnswer::Top(Box::new(self.guard.top(status, now)))
            }
            request => {
                let answer = self.guard.handle(request, &actor, Now::read());
                self.located(answer)
            }
        };
        // What the answer says is true of the proxy, too, once the client has it.
        let is_told = self.relay();
        match self.supervisor.generation() {
            // The proxy alone knows what rules hold against somebody.
            Some(generation) if let ControlAnswer::Why(why) = &answer => {
                let address = why.address;
                let number =
                    self.commands.waiting.hold(generation, Instant::now() + BARRIER_TIMEOUT, answer, call.answer);
                self.supervisor.tell(&ToProxy::Score { number, address });
            }
            Some(generation) if is_told => {
                let number =
                    self.commands.waiting.hold(generation, Instant::now() + BARRIER_TIMEOUT, answer, call.answer);
                self.supervisor.tell(&ToProxy::Barrier { number });
            }
            _ => reply(Some(call.answer), answer),
        }
    }
}
