//! What the running guard does next: one event at a time, from signals, proxies, the control socket and the clock.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, anyhow};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    access_log::open_logs,
    authorize::actor,
    prepare::identity_providers,
    reload,
    service::{Done, Ready, Service, in_background, reply},
    timer::{instant, until},
};
use crate::{
    clock::{self, Now},
    detect::BanRequest,
    guard::{
        audit,
        bans::{self, Actor, PacketSamples, PacketTraces, Processes},
        control::{
            Answer, Request,
            server::{self, Call},
        },
        observer::Observer,
        proxies::{
            barrier::PATIENCE,
            conversation::Event,
            listeners::{self, ABSENT},
            supervisor::Outcome,
            upstreams,
        },
    },
    message::{ToGuard, ToProxy},
};

/// A guard that never got a proxy ready gives up after so many.
const HOPELESS: usize = 4;

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
    mut service: Service<'_>,
    control: std::os::unix::net::UnixListener,
    mut heard: mpsc::Receiver<Event>,
) -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    let mut child = signal(SignalKind::child())?;
    let (calls, mut called) = mpsc::channel::<Call>(1);
    tokio::spawn(server::serve(tokio::net::UnixListener::from_std(control)?, calls, service.guard.watchers()));
    let (prepared, mut ready) = mpsc::channel::<Ready>(1);
    let (beside, mut done) = mpsc::channel::<Done>(4);
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (watchers, mut samples) = (service.guard.watchers(), PacketSamples::new(service.guard));
    let mut traces = PacketTraces::new(service.guard);
    service.guard.retrace(&mut traces);
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
        let (restart, due, look) = (service.supervisor.restart_at(), service.waiting.due(), service.look_due());
        let (behind, drain) = (service.guard.catch_up_at().map(instant), service.drain_at);
        tokio::select! {
            _ = terminate.recv() => service.stop("terminated"),
            _ = interrupt.recv() => service.stop("interrupted"),
            _ = hangup.recv() => service.prepare(Actor::Guard, None, &prepared),
            _ = reopen.recv() => service.reopen(),
            _ = child.recv() => service.reap(),
            Some(event) = heard.recv() => service.hear_in_turn(event, &beside),
            Some(call) = called.recv() => service.hear_call(call, &prepared, &beside),
            Some((result, actor, answer)) = ready.recv() => service.prepared(result, actor, answer),
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
            () = until(drain), if drain.is_some() => service.drain(),
            () = until(due), if due.is_some() => service.waiting.give_up(Instant::now()),
        }
        service.relay();
        if let Some(reason) = service.hopeless.take() {
            service.supervisor.kill_all("the guard gives up");
            return Err(anyhow!("no proxy can be started: {reason}"));
        }
        if let Some(reason) = service.stopping.filter(|_| service.supervisor.is_empty()) {
            tracing::info!(reason, "the guard stops");
            service.guard.record_refusals(&service.counts.told().refused, Now::read());
            return Ok(reason);
        }
    }
}

impl Service<'_> {
    pub(super) fn start(&mut self) -> Result<()> {
        self.find_outdated();
        self.fill_bundle();
        self.supervisor.start(None)?;
        Ok(())
    }

    pub(super) fn fill_bundle(&mut self) {
        self.supervisor.bundle.bans = self.guard.bans_in_force();
        self.supervisor.bundle.allows = self.guard.allows_in_force();
        self.supervisor.bundle.tickets = self.certificates.chain(Now::read());
        self.supervisor.bundle.promoted = self.guard.promoted();
        self.supervisor.bundle.log_key = self.log_key;
        self.supervisor.bundle.probations = self.guard.probations_in_force(clock::monotonic());
    }

    pub(super) fn restart(&mut self) {
        self.fill_bundle();
        self.supervisor.restart();
    }

    /// The first time: drain. The second time: now.
    pub(super) fn stop(&mut self, reason: &'static str) {
        if self.stopping.replace(reason).is_some() {
            self.supervisor.kill_all("the guard was told to stop twice");
            return;
        }
        let delay = self.config.proxy.stop_delay;
        if delay.is_zero() || self.supervisor.pid().is_none() {
            return self.drain();
        }
        tracing::info!(reason, ?delay, "the proxy goes on serving, and tells health checks that the gateway stops");
        self.drain_at = Some(Instant::now() + delay);
        self.supervisor.tell(&ToProxy::Stopping);
    }

    /// The proxies accept no more, finish what they have begun, and end.
    fn drain(&mut self) {
        self.drain_at = None;
        tracing::info!("the guard lets the proxy finish");
        self.supervisor.stop();
    }

    pub(super) fn reopen(&mut self) {
        let logs = open_logs(&self.config.proxy.access_log);
        let reopened = logs.and_then(|logs| Ok(self.supervisor.reopen_all(logs)?));
        match reopened {
            Ok(()) => tracing::info!("the access log is opened anew"),
            Err(error) => tracing::error!("the access log stays as it was: {error:#}"),
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
            Done::Checkpointed(done) => self.checkpointed(done),
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
            Done::Planned(planned) => self.guard.planned(planned, Now::read()),
            Done::Resolved(addresses) => self.guard.protect_identity_providers(addresses),
            Done::Looked(watcher, news, operators) => {
                self.watcher = Some(watcher);
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

    /// Looks at the files of feeds, beside the loop: they may be on a slow disk, and long.
    fn look_at_feeds(&mut self, beside: &mpsc::Sender<Done>) {
        let Some(mut watcher) = self.watcher.take() else { return };
        let feeds = self.config.guard.feeds.clone();
        let names: Vec<&str> = feeds.iter().map(|feed| feed.name.as_str()).collect();
        self.guard.keep_feed_files(&names, Now::read());
        if feeds.is_empty() || self.guard.has_work() {
            self.watcher = Some(watcher);
            return;
        }
        let digests = self.guard.feed_digests();
        in_background(beside, move || {
            let news = watcher.poll(&feeds, &digests);
            let operators = if news.is_empty() { bans::Operators::default() } else { bans::operators() };
            Done::Looked(watcher, news, operators)
        });
    }

    /// Addresses come and go; their sockets stay.
    pub(super) fn look_for_addresses(&mut self) {
        let absent = self.absent();
        for address in absent.iter().filter(|address| !self.absent.contains(address)) {
            tracing::warn!(%address, "a listener waits: {ABSENT}");
        }
        for address in self.absent.iter().filter(|address| !absent.contains(address)) {
            tracing::info!(%address, "the address of a listener is there");
        }
        self.absent = absent;
    }

    fn absent(&self) -> Vec<SocketAddr> {
        let addresses = self.config.proxy.listeners.iter().map(|listener| listener.address);
        addresses.filter(|address| !listeners::is_here(*address)).collect()
    }

    pub(super) fn tick(&mut self, beside: &mpsc::Sender<Done>) {
        self.ticks += 1;
        self.tick_background(beside);
        if self.ticks.is_multiple_of(RESOLVE) {
            self.resolve(beside);
        }
        if self.ticks.is_multiple_of(LOOK) {
            self.look_at_feeds(beside);
            self.look_at_certificates(beside);
            self.look_for_addresses();
        }
        self.guard.tick(Now::read(), self.ticks);
        self.supervisor.check();
        self.rotate_logs(beside);
        self.tick_observer();
        self.check_reload();
        // A signal can stand for several children.
        self.reap();
    }

    /// Tells the proxies what has changed, after every event; whether anything has.
    pub(super) fn relay(&mut self) -> bool {
        let notices = self.guard.notices();
        for message in &notices {
            self.supervisor.tell(message);
        }
        !notices.is_empty()
    }

    pub(super) fn reap(&mut self) {
        self.reap_observer();
        for outcome in self.supervisor.reap() {
            match outcome {
                Outcome::Ready | Outcome::Left => {}
                Outcome::Died(generation, how) => {
                    self.fail_reload(generation, &format!("the proxy that was to serve it died ({how})"));
                    self.guard.tell("proxy_restart", Now::read(), audit::members(json!({"how": how})));
                }
                Outcome::Failed(generation, how) => self.never_ready(generation, how),
            }
        }
    }

    fn never_ready(&mut self, generation: u64, how: String) {
        if self.fail_reload(generation, &how) {
            return;
        }
        if !self.supervisor.ever_ready && self.supervisor.deaths() >= HOPELESS && self.stopping.is_none() {
            self.hopeless = Some(how);
        } else {
            tracing::error!(how, "the proxy did not get ready");
        }
    }

    /// Hears a proxy, and charges it for the time.
    fn hear_in_turn(&mut self, event: Event, beside: &mpsc::Sender<Done>) {
        let (Event::Said(generation, _) | Event::Silent(generation, _)) = event;
        let is_silent = matches!(event, Event::Silent(..));
        if !is_silent && !self.supervisor.hears(generation) {
            return;
        }
        let began = Instant::now();
        self.hear(event, beside);
        self.relay();
        self.supervisor.charge(generation, began.elapsed());
    }

    pub(super) fn hear(&mut self, event: Event, beside: &mpsc::Sender<Done>) {
        match event {
            Event::Said(generation, ToGuard::Ready) => match self.supervisor.ready(generation) {
                Some(Outcome::Ready) => {
                    let members = json!({"generation": generation, "pid": self.supervisor.pid()});
                    self.guard.tell("proxy_ready", Now::read(), audit::members(members));
                    if self.drain_at.is_some() {
                        self.supervisor.tell(&ToProxy::Stopping);
                    }
                    self.reload_serves(generation);
                    self.resolve(beside);
                }
                Some(Outcome::Failed(_, how)) => {
                    self.fail_reload(generation, &how);
                }
                Some(Outcome::Died(..) | Outcome::Left) | None => {}
            },
            Event::Said(generation, ToGuard::Failed { reason }) => {
                let was_starting = self.supervisor.is_starting(generation);
                let reason: String = reason.chars().filter(|letter| !letter.is_control()).take(1_000).collect();
                self.supervisor.failed(generation, &reason);
                if !self.supervisor.ever_ready {
                    self.hopeless = Some(reason);
                } else if was_starting {
                    // One that serves or drains has no say in what comes after it.
                    self.fail_reload(generation, &reason);
                }
            }
            Event::Said(generation, ToGuard::Configured { reload }) => {
                self.compiled(generation, reload, Ok(()));
                self.resolve(beside);
            }
            Event::Said(generation, ToGuard::NotConfigured { reload, reason }) => {
                self.compiled(generation, reload, Err(reason));
            }
            Event::Said(_, ToGuard::BanRequest(ask)) => self.ask(&ask),
            Event::Said(_, ToGuard::WouldRefuse { requests, sources }) => {
                self.guard.hear_would_refuse(requests, &sources);
            }
            Event::Said(_, ToGuard::Good(clients)) => self.guard.hear_good(&clients, Now::read()),
            Event::Said(generation, ToGuard::Counted(counted)) => self.counts.hear(generation, &counted),
            Event::Said(_, ToGuard::Lost(lost)) => self.guard.hear_lost(lost),
            Event::Said(generation, ToGuard::Upstream(state)) => self.upstreams.hear(generation, *state),
            Event::Said(_, ToGuard::Refused(bans)) => self.guard.refused(&bans),
            Event::Said(_, ToGuard::Closed { ban, connections }) => self.guard.closed(ban, connections),
            Event::Said(generation, ToGuard::Score { number, scores }) => {
                let guard = &*self.guard;
                self.waiting.told(generation, number, |answer| {
                    if let Answer::Why(why) = answer {
                        why.score = guard.scores(why.address, &scores, Now::read());
                    }
                });
            }
            Event::Said(generation, ToGuard::Ack { number }) => self.acknowledged(generation, number),
            Event::Silent(generation, None) => {
                self.forget(generation);
                self.supervisor.fell_silent(generation);
                tracing::debug!(generation, "a proxy closed its channel");
            }
            Event::Silent(generation, Some(error)) => {
                self.forget(generation);
                tracing::error!(generation, %error, "a proxy broke the rules of its channel");
                self.supervisor.kill(generation, "it sent what is no message");
                self.fail_reload(generation, &error.to_string());
            }
        }
    }

    /// A proxy says nothing any more.
    fn forget(&mut self, generation: u64) {
        self.counts.gone(generation);
        self.upstreams.gone(generation);
        self.waiting.gone(generation);
    }

    fn ask(&mut self, ask: &BanRequest) {
        if let Ok(id) = self.guard.ask(ask, Now::read()) {
            let monotonic = clock::monotonic();
            // The proxy closes connections before the store learns how fast it all was.
            self.relay();
            self.guard.reacted(id, ask.noted, monotonic);
        }
    }

    pub(super) fn call(&mut self, call: Call, prepared: &mpsc::Sender<Ready>) {
        let actor = actor(&call.caller);
        let answer = match call.request {
            Request::BlockImportCommit { id, digest, allow_empty } => {
                let list = (id, digest, allow_empty);
                return self.guard.import_commit(list, &actor, call.answer, Now::read());
            }
            // The control socket tells from now on whoever may be told.
            Request::Watch { kernel, .. } => self.guard.may_watch(kernel.as_ref()),
            Request::Reload => return self.prepare(actor, Some(call.answer), prepared),
            Request::Status => Answer::Status(Box::new(self.guard.status(self.processes(), Now::read()))),
            Request::Top => {
                let now = Now::read();
                let status = self.guard.status(self.processes(), now);
                Answer::Top(Box::new(self.guard.top(status, now)))
            }
            request => self.guard.handle(request, &actor, Now::read()),
        };
        // What the answer says is true of the proxy, too, once the client has it.
        let is_told = self.relay();
        match self.supervisor.generation() {
            // The proxy alone knows what rules hold against somebody.
            Some(generation) if let Answer::Why(why) = &answer => {
                let address = why.address;
                let number = self.waiting.hold(generation, Instant::now() + PATIENCE, answer, call.answer);
                self.supervisor.tell(&ToProxy::Score { number, address });
            }
            Some(generation) if is_told => {
                let number = self.waiting.hold(generation, Instant::now() + PATIENCE, answer, call.answer);
                self.supervisor.tell(&ToProxy::Barrier { number });
            }
            _ => reply(Some(call.answer), answer),
        }
    }

    pub(super) fn processes(&self) -> Processes {
        let address = |listener: &crate::settings::listener::Listener| {
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", listener.address)
        };
        let mut warnings = self.warnings.clone();
        warnings.extend(self.certificates.warnings());
        warnings.extend(self.background.anchors.warnings());
        let absent = self.absent().into_iter().map(|address| format!("listener {address} waits: {ABSENT}"));
        warnings.extend(absent);
        if self.supervisor.pid().is_none() {
            warnings.push("no proxy is serving: clients wait".to_owned());
        }
        let upstreams = self.upstreams.of(self.supervisor.generation());
        warnings.extend(upstreams::warnings(&upstreams));
        let config_since = clock::rfc3339(self.config_since);
        warnings.extend(self.reload_refused.as_ref().map(|refused| reload::warning(refused, &config_since)));
        Processes {
            config: self.path.display().to_string(),
            proxy_pid: self.supervisor.pid(),
            proxy_restarts: self.supervisor.restarts,
            observer_pid: self.observer.as_ref().and_then(Observer::pid),
            observer_restarts: self.observer.as_ref().map_or(0, |observer| observer.restarts),
            admin: self.admin(),
            started: self.started,
            listeners: self.config.proxy.listeners.iter().map(address).collect(),
            warnings,
            requests: self.counts.told(),
            upstreams,
            config_since,
            reload_refused: self.reload_refused.clone(),
            certificates: self.certificates.ends(),
            anchors: self.background.anchors.states(),
        }
    }
}
