//! The thread between the guard and the workers: commands go to the workers, events come back. The guard is told each
//! thing once, however many workers there are.

use std::{collections::HashMap, io, sync::atomic::Ordering, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::MissedTickBehavior,
};

use super::{
    configurations::{Configurations, reason},
    guard_link::{GuardEvent, GuardLink},
    heartbeat::Heartbeats,
    memory::{self, Memory, MemoryLevel},
    quotas,
    telemetry::TelemetrySums,
    worker_thread::Running,
};
use crate::{
    log::{drops::DropCounts, sink::Sink},
    message::{STARTED_WITH, ShadowedSource, Stage, ToGuard},
    os::{clock, program_log::sparse::Sparse, sandbox},
    policy::{authz::shadow::ShadowDenials, limit::ShadowRefusals},
    proxy::{
        lookup::news::News,
        worker::{
            counters::CounterDelta,
            messages::{WorkerCommand, WorkerEvent},
            shared::WorkersShared,
        },
    },
    snapshot::Snapshot,
};

mod anomalies;
mod cluster;
mod explain;
mod guard_messages;
mod keys;
mod tell;
mod tick;

#[cfg(test)]
mod tests;

/// The control thread: it stands between the guard and the workers.
pub(in crate::proxy) struct Control<'a> {
    guard: &'a mut GuardLink,
    shared: &'a WorkersShared,
    sink: &'a Sink,
    memory: Memory,
    configurations: Configurations,
    /// Bans whose connections are being closed: how many workers are not done yet, and how many connections they closed.
    closing: HashMap<u64, (usize, u32)>,
    /// How many workers run.
    started: usize,
    /// Whether they still do.
    heartbeats: Heartbeats,
    /// Whether the guard knows that connections are accepted.
    is_ready: bool,
    /// How many workers were told of another configuration and may still serve the one before.
    configuring: usize,
    /// They were told to drain.
    is_draining: bool,
    /// How many workers were told to drain and may still accept connections.
    retiring: usize,
    /// The last barrier that waits for them.
    barrier: Option<u64>,
    /// How many lost log lines the guard has been told of.
    told_lines: DropCounts,
    /// Bans that do not fit into the table are logged at most once a second.
    unknown: Sparse,
    /// What the guard has not been told of the requests.
    delta: CounterDelta,
    telemetry: TelemetrySums,
    /// Which paths of roles the guard knows that no token has; `None`: it knows nothing.
    told_unseen: Option<Vec<(String, String)>>,
    news: Option<mpsc::Receiver<News>>,
    /// What is being explained to operators.
    explaining: explain::Explaining<'a>,
}

impl<'a> Control<'a> {
    pub(in crate::proxy) fn new(
        guard: &'a mut GuardLink,
        shared: &'a WorkersShared,
        sink: &'a Sink,
        memory: Memory,
        sandbox: sandbox::SandboxReport,
        configurations: Configurations,
    ) -> Self {
        Self {
            guard,
            shared,
            sink,
            memory,
            configurations,
            closing: HashMap::new(),
            started: 0,
            heartbeats: Heartbeats::default(),
            is_ready: false,
            configuring: 0,
            is_draining: false,
            retiring: 0,
            barrier: None,
            told_lines: DropCounts::default(),
            unknown: Sparse::default(),
            delta: CounterDelta::default(),
            telemetry: TelemetrySums::new(sandbox),
            told_unseen: None,
            news: shared.lookups.take_news(),
            explaining: explain::Explaining::default(),
        }
    }

    /// Runs until every worker has ended.
    pub(in crate::proxy) async fn run(
        &mut self,
        workers: &[Running],
        mut events: mpsc::Receiver<WorkerEvent>,
    ) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(memory::LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut telling = tokio::time::interval(quotas::TELL);
        telling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut has_launcher = true;
        loop {
            tokio::select! {
                _ = look.tick() => self.watch_memory(),
                (reload, compiled) = self.configurations.compiled(self.sink) => {
                    self.guard.say(match compiled {
                        Ok(()) => ToGuard::Configured { reload },
                        Err(error) => ToGuard::NotConfigured { reload, reason: reason(&error) },
                    });
                }
                _ = telling.tick(), if self.configurations.has_quotas() => {
                    quotas::tell(self.configurations.limits(), self.guard);
                }
                _ = second.tick() => self.tick(workers).await,
                news = Self::news(&mut self.news) => self.hear_keys(&news),
                (number, explanation) = self.explaining.next() => {
                    self.guard.say(ToGuard::Explained { number, explanation: Box::new(explanation) });
                }
                event = events.recv() => match event {
                    Some(event) => self.handle_event(event, workers.len()),
                    None => {
                        self.tell_observer(false);
                        quotas::tell_last(self.configurations.limits(), self.guard).await;
                        if let Some(message) = self.delta.message(self.shared.connections.load(Ordering::Relaxed)) {
                            self.guard.say_last(message).await;
                        }
                        return Ok(());
                    }
                },
                _ = terminate.recv() => self.drain(workers).await,
                heard = self.guard.next(), if has_launcher => match heard {
                    GuardEvent::Message(message, descriptors) => {
                        if self.handle(*message, descriptors, workers).await {
                            self.drain(workers).await;
                        }
                    }
                    GuardEvent::NewGuard(way) => {
                        let asks = self.shared.asks.begin(way);
                        self.meet_guard(workers.len());
                        // The guard before may have died before it had heard them.
                        asks.into_iter().for_each(|ask| self.guard.say(ToGuard::BanRequest(Box::new(ask))));
                    }
                    GuardEvent::NoGuard => {
                        self.shared.asks.end();
                        self.barrier = None;
                        tracing::warn!("there is no guard: bans in force stay, new ones wait for the next guard");
                    }
                    GuardEvent::NoLauncher => {
                        has_launcher = false;
                        self.drain(workers).await;
                    }
                }
            }
        }
    }

    const fn stage(&self) -> Stage {
        match (self.is_draining, self.is_ready) {
            (true, _) => Stage::Draining,
            (false, false) => Stage::Starting,
            (false, true) => Stage::Serving,
        }
    }

    /// A guard that did not start this proxy has to know what it is, and knows nothing of its upstreams.
    fn meet_guard(&mut self, workers: usize) {
        self.configurations.meet_guard();
        let (configuration, stage) = (self.configurations.in_force().number, self.stage());
        self.guard.say(ToGuard::Adopt { configuration, stage });
        if let Some(limits) = self.configurations.limits() {
            limits.retell();
        }
        match stage {
            Stage::Serving => {
                self.tell_upstreams();
                self.tell_keys();
                self.told_unseen = None;
            }
            // The guard before may have died before it heard that, or before it answered.
            Stage::Starting if self.started == workers && self.configurations.awaits(STARTED_WITH) => {
                self.guard.say(ToGuard::Configured { reload: STARTED_WITH });
            }
            Stage::Starting | Stage::Draining => {}
        }
    }

    /// While the proxy is too large, makes the workers close idle connections; if that is not enough, makes them
    /// refuse what comes.
    fn watch_memory(&mut self) {
        self.pass_letters();
        let most = self.memory.most();
        let Some((level, bytes)) = self.memory.look(clock::monotonic()) else { return };
        match level {
            MemoryLevel::Fine => tracing::info!(bytes, most, "below proxy.max_memory again"),
            MemoryLevel::Tight => tracing::warn!(bytes, most, "over proxy.max_memory: idle connections are closed"),
            MemoryLevel::Over => {
                tracing::warn!(bytes, most, "over proxy.max_memory: connections and requests are refused")
            }
        }
        self.shared.is_tight.store(level >= MemoryLevel::Tight, Ordering::Relaxed);
        self.shared.sheds.store(level >= MemoryLevel::Over, Ordering::Relaxed);
    }

    async fn drain(&mut self, workers: &[Running]) {
        if std::mem::replace(&mut self.is_draining, true) {
            return;
        }
        self.retiring = workers.len();
        send_all(workers, || WorkerCommand::Drain).await;
    }

    fn handle_event(&mut self, event: WorkerEvent, workers: usize) {
        let message = match event {
            WorkerEvent::BanRequest(ask) => ToGuard::BanRequest(Box::new(ask)),
            WorkerEvent::OurFault(fault) => ToGuard::OurFault(fault),
            WorkerEvent::Counted(counted) => {
                self.telemetry.add(&counted);
                return self.delta.add(&counted);
            }
            WorkerEvent::Traced(traces) => return self.telemetry.tell_traces(traces, &self.shared.lost_traces),
            WorkerEvent::Measured(deltas) => {
                return deltas.into_iter().for_each(|delta| self.telemetry.add_measured(delta));
            }
            WorkerEvent::Good(clients) => ToGuard::Good(clients),
            WorkerEvent::PlanMembers(members) => ToGuard::PlanMembers(members),
            WorkerEvent::Refused(bans) => ToGuard::Refused(bans),
            WorkerEvent::WouldRefuse(limit, ShadowRefusals { requests, sources }) => {
                let sources = sources.into_iter().map(|source| ShadowedSource { source }).collect();
                ToGuard::WouldRefuse { limit: limit.to_string(), requests, sources }
            }
            WorkerEvent::WouldDeny(ShadowDenials { what, requests, principals }) => {
                ToGuard::WouldDeny { what: what.to_string(), requests, principals }
            }
            WorkerEvent::Closed { ban, connections } => {
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
            WorkerEvent::Retired => {
                self.retiring = self.retiring.saturating_sub(1);
                return self.acknowledge();
            }
            WorkerEvent::Configured => {
                self.configuring = self.configuring.saturating_sub(1);
                if self.configuring > 0 {
                    return;
                }
                // The guard knows the upstreams before it says that the proxy serves.
                self.tell_upstreams();
                if std::mem::replace(&mut self.is_ready, true) {
                    return self.acknowledge();
                }
                ToGuard::Ready
            }
            WorkerEvent::Started => {
                self.started += 1;
                if self.started < workers {
                    return;
                }
                ToGuard::Configured { reload: STARTED_WITH }
            }
        };
        self.guard.say(message);
    }

    /// Tells the guard that everything before the last barrier is in force, if workers were waited for.
    fn acknowledge(&mut self) {
        let is_done = self.retiring == 0 && self.configuring == 0;
        if let Some(number) = self.barrier.take_if(|_| is_done) {
            self.guard.say(ToGuard::Ack { number });
        }
    }

    /// The configuration in force.
    fn snapshot(&self) -> &Snapshot {
        &self.configurations.in_force().snapshot
    }
}

/// Sends a command to every worker. A worker that has ended needs none.
async fn send_all(workers: &[Running], command: impl Fn() -> WorkerCommand) {
    for worker in workers {
        worker.commands.send(command()).await.unwrap_or_default();
    }
}
