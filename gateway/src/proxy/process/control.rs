//! The thread between the guard and the workers: commands go to the workers, events come back. The guard is told each
//! thing once, however many workers there are.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;
use gateway_common::source::Source;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{
    configurations::{Configurations, reason},
    memory::{self, Level, Memory},
    telemetry::{Current, Telemetry},
};
use crate::{
    clock, limit,
    log::{drops::Counts, sink::Sink},
    message::{ADDRESS_LIMIT, Lost, Shadowed, ToGuard, ToProxy, channel::Channel, sealed::unseal},
    proxy::worker::{
        counters::CounterDelta,
        messages::{Command, Event},
        shared::Shared,
    },
    sandbox,
    snapshot::Snapshot,
    sparse::Sparse,
};

/// A worker.
pub(in crate::proxy) struct Running {
    pub(in crate::proxy) commands: mpsc::Sender<Command>,
    pub(in crate::proxy) thread: JoinHandle<io::Result<()>>,
}

/// The control thread: it stands between the guard and the workers.
pub(in crate::proxy) struct Control<'a> {
    channel: &'a Channel,
    shared: &'a Shared,
    sink: &'a Sink,
    memory: Memory,
    configurations: Configurations,
    /// Bans whose connections are being closed: how many workers are not done yet, and how many connections they closed.
    closing: HashMap<u64, (usize, u32)>,
    /// How many workers run.
    started: usize,
    /// Whether the guard knows that connections are accepted.
    is_ready: bool,
    /// How many workers were told of another configuration and may still serve the one before.
    configuring: usize,
    /// How many workers were told to drain and may still accept connections.
    retiring: usize,
    /// The last barrier that waits for them.
    barrier: Option<u64>,
    /// How many lost log lines the guard has been told of.
    told_lines: Counts,
    /// Bans that do not fit into the table are logged at most once a second.
    unknown: Sparse,
    /// What the guard has not been told of the requests.
    delta: CounterDelta,
    telemetry: Telemetry,
}

impl<'a> Control<'a> {
    pub(in crate::proxy) fn new(
        channel: &'a Channel,
        shared: &'a Shared,
        sink: &'a Sink,
        memory: Memory,
        sandbox: sandbox::Report,
        configurations: Configurations,
    ) -> Self {
        Self {
            channel,
            shared,
            sink,
            memory,
            configurations,
            closing: HashMap::new(),
            started: 0,
            is_ready: false,
            configuring: 0,
            retiring: 0,
            barrier: None,
            told_lines: Counts::default(),
            unknown: Sparse::default(),
            delta: CounterDelta::default(),
            telemetry: Telemetry::new(sandbox),
        }
    }

    /// Runs until every worker has ended.
    pub(in crate::proxy) async fn run(&mut self, workers: &[Running], mut events: mpsc::Receiver<Event>) {
        let (mut draining, mut listening) = (false, true);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(memory::LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => self.watch_memory(),
                (reload, compiled) = self.configurations.compiled(), if listening => {
                    self.say(&match compiled {
                        Ok(()) => ToGuard::Configured { reload },
                        Err(error) => ToGuard::NotConfigured { reload, reason: reason(&error) },
                    })
                    .await;
                }
                _ = second.tick() => {
                    self.configurations.sweep();
                    if listening {
                        self.tell_lost().await;
                        self.tell_counted().await;
                    }
                    if listening && !draining {
                        self.tell_upstreams().await;
                    }
                    self.tell_observer(!draining && self.is_ready);
                }
                event = events.recv() => match event {
                    Some(event) => self.handle_event(event, workers.len()).await,
                    None => {
                        self.tell_observer(false);
                        return self.tell_counted().await;
                    }
                },
                message = self.channel.receive::<ToProxy>(), if listening => {
                    let drain = match message {
                        Ok(Some((message, descriptors))) => self.handle(message, descriptors, workers).await,
                        // A proxy without its guard finishes what it has begun.
                        Ok(None) => {
                            listening = false;
                            true
                        }
                        Err(error) => {
                            tracing::error!("a message of the guard cannot be read: {error}");
                            listening = false;
                            true
                        }
                    };
                    if drain && !draining {
                        draining = true;
                        self.drain(workers).await;
                    }
                }
            }
        }
    }

    /// While the proxy is too large, makes the workers close idle connections; if that is not enough, makes them
    /// refuse what comes.
    fn watch_memory(&mut self) {
        let most = self.memory.most();
        let Some((level, bytes)) = self.memory.look(clock::monotonic()) else { return };
        match level {
            Level::Fine => tracing::info!(bytes, most, "below proxy.max_memory again"),
            Level::Tight => tracing::warn!(bytes, most, "over proxy.max_memory: idle connections are closed"),
            Level::Over => tracing::warn!(bytes, most, "over proxy.max_memory: connections and requests are refused"),
        }
        self.shared.is_tight.store(level >= Level::Tight, Ordering::Relaxed);
        self.shared.sheds.store(level >= Level::Over, Ordering::Relaxed);
    }

    async fn drain(&mut self, workers: &[Running]) {
        self.retiring = workers.len();
        send_all(workers, || Command::Drain).await;
    }

    /// Carries out what the guard says. `true`: it is time to drain.
    async fn handle(&mut self, message: ToProxy, descriptors: Vec<OwnedFd>, workers: &[Running]) -> bool {
        match message {
            ToProxy::Banned { id, source, expires } => {
                let known = self.shared.bans.add(id, source, expires, clock::monotonic());
                if !known && let Some(others) = self.unknown.is_due(clock::monotonic()) {
                    tracing::warn!(
                        ban = id,
                        others,
                        "the proxy's table of bans is full: only the kernel enforces this ban"
                    );
                }
                self.closing.insert(id, (workers.len(), 0));
                send_all(workers, || Command::Close { ban: id, source, known }).await;
            }
            ToProxy::Lifted { source } => self.shared.bans.lift(source),
            ToProxy::Allowed { source } => {
                if !self.shared.bans.allow(source)
                    && let Some(others) = self.unknown.is_due(clock::monotonic())
                {
                    tracing::warn!(%source, others, "the proxy's table of allowed sources is full: only the kernel knows this one");
                }
            }
            ToProxy::Disallowed { source } => self.shared.bans.disallow(source),
            ToProxy::Probation { source, until } => {
                self.snapshot().detector.watch(source, until, clock::monotonic());
            }
            ToProxy::ReopenLogs { output } => {
                if let Some(log) = descriptors.into_iter().next() {
                    self.sink.reopen(output.into(), File::from(log));
                }
            }
            ToProxy::Files => {
                let files = descriptors.into_iter().next().context("the guard sent no files");
                let files = files.and_then(|file| Ok(unseal(file)?));
                match files.and_then(|files| self.snapshot().renew(files)) {
                    Ok(others) => {
                        self.configurations.in_force().renew_upstream_tls();
                        if others {
                            send_all(workers, || Command::Reverify).await;
                        }
                    }
                    Err(error) => tracing::error!("new TLS files are not in force: {error:#}"),
                }
            }
            ToProxy::Telemetry => {
                if let Some(socket) = descriptors.into_iter().next() {
                    self.telemetry.adopt(socket);
                }
            }
            ToProxy::Score { number, address } => {
                let source = Source::of(address, self.snapshot().settings.ipv6_prefix);
                let scores = self.snapshot().detector.scores(source, clock::monotonic());
                self.say(&ToGuard::Score { number, scores }).await;
            }
            ToProxy::Barrier { number } if self.retiring > 0 || self.configuring > 0 => self.barrier = Some(number),
            ToProxy::Barrier { number } => self.say(&ToGuard::Ack { number }).await,
            ToProxy::Promoted { what } => match &self.snapshot().address_limit {
                Some(limit) if what == ADDRESS_LIMIT => limit.enforce(),
                _ => {}
            },
            ToProxy::Stopping => self.shared.is_stopping.store(true, Ordering::Relaxed),
            ToProxy::Listen { listener } => {
                if let Err(error) = self.configurations.listen(listener, descriptors) {
                    tracing::error!("a listening socket of the guard cannot be used: {error:#}");
                }
            }
            ToProxy::Configure { reload } => {
                if let Err(error) = self.configurations.begin(reload, descriptors.into_iter().next()) {
                    self.say(&ToGuard::NotConfigured { reload, reason: reason(&error) }).await;
                }
            }
            ToProxy::Abort { reload } => self.configurations.abort(reload),
            ToProxy::Commit { reload } => match self.configurations.commit(reload) {
                Some((compiled, sockets)) => {
                    self.memory.limit(&compiled.snapshot.settings);
                    self.configuring += workers.len();
                    for (worker, sockets) in workers.iter().zip(sockets) {
                        let command = Command::Configure { compiled: Arc::clone(&compiled), sockets };
                        worker.commands.send(command).await.unwrap_or_default();
                    }
                }
                None => tracing::error!(reload, "the guard wants a configuration in force that is not known"),
            },
            ToProxy::Drain => return true,
            ToProxy::Start { .. } => tracing::error!("the guard said twice how to start"),
        }
        false
    }

    /// Tells the observer what has changed, if there is one. Nobody waits for it.
    fn tell_observer(&mut self, serves: bool) {
        if !self.telemetry.has_observer() {
            return;
        }
        let upstreams = &self.configurations.in_force().upstreams;
        let pools = upstreams.iter().map(|upstream| (upstream.state.idle(), upstream.state.pending()));
        let pools: Vec<_> = pools.collect();
        let upstreams: Vec<_> = upstreams.iter().map(|upstream| upstream.state.report()).collect();
        self.telemetry.tell(&Current {
            serves: serves && !self.shared.is_stopping.load(Ordering::Relaxed),
            connections: self.shared.connections.load(Ordering::Relaxed),
            memory: self.memory.size(),
            upstreams: &upstreams,
            lost_traces: self.shared.lost_traces.load(Ordering::Relaxed),
            pools: &pools,
        });
    }

    /// Tells the guard of upstreams whose state has changed.
    async fn tell_upstreams(&mut self) {
        for (report, told) in self.configurations.upstreams() {
            if self.channel.send(&ToGuard::Upstream(Box::new(report.clone())), &[]).await.is_ok() {
                *told = Some(report);
            }
        }
    }

    /// Tells the guard what was lost, if anything was.
    async fn tell_lost(&mut self) {
        let lines = self.sink.dropped();
        let mut log_lines = lines;
        for (count, told) in log_lines.iter_mut().zip(self.told_lines) {
            *count = count.saturating_sub(told);
        }
        let lost = Lost {
            asks: self.shared.lost_asks.swap(0, Ordering::Relaxed),
            log_lines,
            connections: self.shared.lost_connections.swap(0, Ordering::Relaxed),
            shed: self.shared.shed.swap(0, Ordering::Relaxed),
            at_accept: self.shared.bans.take_lost(),
        };
        self.told_lines = lines;
        self.telemetry.add_lost(lost);
        if lost != Lost::default() && self.channel.send(&ToGuard::Lost(lost), &[]).await.is_err() {
            tracing::warn!(?lost, "the guard could not be told what was lost");
        }
    }

    async fn tell_counted(&mut self) {
        if let Some(message) = self.delta.message(self.shared.connections.load(Ordering::Relaxed)) {
            self.say(&message).await;
        }
    }

    async fn handle_event(&mut self, event: Event, workers: usize) {
        let message = match event {
            Event::BanRequest(ask) => ToGuard::BanRequest(Box::new(ask)),
            Event::Counted(counted) => {
                self.telemetry.add(&counted);
                return self.delta.add(&counted);
            }
            Event::Traced(traces) => return self.telemetry.tell_traces(traces, &self.shared.lost_traces),
            Event::Measured(deltas) => return deltas.into_iter().for_each(|delta| self.telemetry.add_measured(delta)),
            Event::Good(clients) => ToGuard::Good(clients),
            Event::Refused(bans) => ToGuard::Refused(bans),
            Event::WouldRefuse(limit::ShadowRefusals { requests, sources }) => {
                let sources = sources.into_iter().map(|source| Shadowed { source }).collect();
                ToGuard::WouldRefuse { requests, sources }
            }
            Event::Closed { ban, connections } => {
                let Some((waiting, total)) = self.closing.get_mut(&ban) else { return };
                *waiting = waiting.saturating_sub(1);
                *total = total.saturating_add(connections);
                if *waiting > 0 {
                    return;
                }
                let connections = *total;
                self.closing.remove(&ban);
                ToGuard::Closed { ban, connections }
            }
            Event::Retired => {
                self.retiring = self.retiring.saturating_sub(1);
                return self.acknowledge().await;
            }
            Event::Configured => {
                self.configuring = self.configuring.saturating_sub(1);
                if self.configuring > 0 {
                    return;
                }
                // The guard knows the upstreams before it says that the proxy serves.
                self.tell_upstreams().await;
                if std::mem::replace(&mut self.is_ready, true) {
                    return self.acknowledge().await;
                }
                ToGuard::Ready
            }
            Event::Started => {
                self.started += 1;
                if self.started < workers {
                    return;
                }
                ToGuard::Configured { reload: 0 }
            }
        };
        self.say(&message).await;
    }

    /// Tells the guard that everything before the last barrier is in force, if workers were waited for.
    async fn acknowledge(&mut self) {
        let is_done = self.retiring == 0 && self.configuring == 0;
        if let Some(number) = self.barrier.take_if(|_| is_done) {
            self.say(&ToGuard::Ack { number }).await;
        }
    }

    /// The configuration in force.
    fn snapshot(&self) -> &Snapshot {
        &self.configurations.in_force().snapshot
    }

    async fn say(&self, message: &ToGuard) {
        if self.channel.send(message, &[]).await.is_err() {
            self.shared.lost_asks.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends a command to every worker. A worker that has ended needs none.
async fn send_all(workers: &[Running], command: impl Fn() -> Command) {
    for worker in workers {
        worker.commands.send(command()).await.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::{
        message::{Bundle, channel},
        proxy::{
            bans::enforced::EnforcedBans,
            generation::{Compiled, ProcessLimits},
        },
    };

    const CONFIGURATION: &str = "[guard]\ninterfaces = []\n[[listener]]\naddress = \"127.0.0.1:443\"\n\
        [[route]]\npath = \"/\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nrespond = { status = 200 }\n";

    /// What the guard hears from a proxy of two workers when it sends `messages` and they send `events`.
    fn heard(messages: &[ToProxy], events: Vec<Event>) -> Vec<ToGuard> {
        let bundle = Bundle {
            path: "gateway.toml".into(),
            text: CONFIGURATION.to_owned(),
            files: Vec::new(),
            bans: Vec::new(),
            allows: Vec::new(),
            probations: Vec::new(),
            tickets: None,
            promoted: Vec::new(),
            log_key: [0; 32],
        };
        let limits = ProcessLimits { descriptors: 1_000, workers: 2 };
        let compiled = Arc::new(Compiled::new(&bundle, None, limits).unwrap());
        let shared = Arc::new(Shared::new(EnforcedBans::new(64, &[], &[], 0)));
        let null = || OwnedFd::from(File::options().write(true).open("/dev/null").unwrap());
        let sink = Sink::start(&compiled.snapshot.access_log.outputs, [File::from(null())]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (left, right) = channel::pair().unwrap();
            let (guard, proxy) = (Channel::new(left).unwrap(), Channel::new(right).unwrap());
            let report = sandbox::Report { capabilities: Vec::new(), landlock: String::new(), seccomp: 0 };
            let configurations = Configurations::new(compiled, Vec::new(), limits).unwrap();
            let mut control = Control::new(&proxy, &shared, &sink, Memory::open(), report, configurations);
            let workers: Vec<_> = (0..2)
                .map(|_| Running { commands: mpsc::channel(8).0, thread: std::thread::spawn(|| Ok(())) })
                .collect();
            for message in messages {
                guard.send(message, &[]).await.unwrap();
                let (message, descriptors) = proxy.receive().await.unwrap().unwrap();
                if control.handle(message, descriptors, &workers).await {
                    control.drain(&workers).await;
                }
            }
            for event in events {
                control.handle_event(event, workers.len()).await;
            }
            drop(control);
            drop(proxy);
            let mut heard = Vec::new();
            while let Ok(Some((message, _))) = guard.receive().await {
                heard.push(message);
            }
            heard
        })
    }

    #[track_caller]
    fn check(messages: &[ToProxy], events: Vec<Event>, expect: &str) {
        let case = format!("{messages:?} {events:?}");
        assert_eq!(format!("{:?}", heard(messages, events)), expect, "{case}");
    }

    #[test]
    fn a_drain_is_confirmed_once_nobody_accepts_any_more() {
        let barrier = |number| ToProxy::Barrier { number };
        let retired = |count| std::iter::repeat_with(|| Event::Retired).take(count).collect();
        check(&[barrier(7)], Vec::new(), "[Ack { number: 7 }]");
        check(&[ToProxy::Drain, barrier(7)], Vec::new(), "[]");
        check(&[ToProxy::Drain, barrier(7)], retired(1), "[]");
        check(&[ToProxy::Drain, barrier(7)], retired(2), "[Ack { number: 7 }]");
        check(&[ToProxy::Drain, barrier(7), barrier(8)], retired(2), "[Ack { number: 8 }]");
    }

    #[test]
    fn what_every_worker_says_is_told_once() {
        let closed = |connections| Event::Closed { ban: 3, connections };
        let banned = ToProxy::Banned { id: 3, source: "192.0.2.1".parse().unwrap(), expires: u64::MAX };
        let commit = |reload| ToProxy::Commit { reload };
        let started = || vec![Event::Started, Event::Started];
        check(&[], vec![Event::Started], "[]");
        check(&[], started(), "[Configured { reload: 0 }]");
        check(&[commit(0)], vec![Event::Configured], "[]");
        check(&[commit(0)], vec![Event::Configured, Event::Configured], "[Ready]");
        // Nothing else than what is compiled comes into force.
        check(&[commit(7), ToProxy::Barrier { number: 1 }], Vec::new(), "[Ack { number: 1 }]");
        check(&[commit(0), ToProxy::Barrier { number: 1 }], vec![Event::Configured], "[]");
        check(std::slice::from_ref(&banned), vec![closed(2)], "[]");
        check(&[banned], vec![closed(2), closed(5)], "[Closed { ban: 3, connections: 7 }]");
    }
}
