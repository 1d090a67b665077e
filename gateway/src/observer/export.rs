//! Sends telemetry to collectors by OTLP over HTTP: traces and decisions from bounded queues, metrics at an interval.
//!
//! *Invariant:* nobody waits for a collector. What finds a queue full is dropped and counted; a collector that fails is
//! tried again after a pause that grows.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use client::{CollectorClient, ExportOutcome};

use super::store::Store;
use crate::{
    message::{
        observer::{collector::Collector, event::Event},
        telemetry::{Metric, Samples, Trace},
    },
    os::{clock, program_log::sparse::Sparse},
};

mod client;
mod logs;
mod metrics;
mod traces;
mod wire;

/// The most traces, or decisions, that wait.
const WAITING: usize = 4_096;

/// The most that are sent at once.
const BATCH: usize = 256;

/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

/// How often the same trouble with a collector is logged at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Everything that is sent.
pub(super) struct Exports {
    pub(super) traces: Exporter<Trace>,
    pub(super) logs: Exporter<Event>,
    pub(super) metrics: MetricsExporter,
}

impl Default for Exports {
    fn default() -> Self {
        Self {
            traces: Exporter::new("traces", traces::encode),
            logs: Exporter::new("otlp_logs", logs::encode),
            metrics: MetricsExporter::default(),
        }
    }
}

impl Exports {
    /// Sends what there is, as long as the process lives.
    pub(super) fn run(self: &Rc<Self>, store: &Rc<RefCell<Store>>) {
        let (exports, store) = (Rc::clone(self), Rc::clone(store));
        tokio::task::spawn_local(async move { exports.metrics.run(&store).await });
        let exports = Rc::clone(self);
        tokio::task::spawn_local(async move { exports.traces.run().await });
        let exports = Rc::clone(self);
        tokio::task::spawn_local(async move { exports.logs.run().await });
    }

    /// Takes decisions of the guard.
    pub(super) fn add_event(&self, event: Event) {
        self.logs.lose(event.missed);
        self.logs.add(event);
    }

    /// How much could not be sent.
    pub(super) fn measure(&self, samples: &mut Samples) {
        samples.count(Metric::Lost, &["traces_exported"], self.traces.lost.get());
        samples.count(Metric::Lost, &["decisions_exported"], self.logs.lost.get());
        samples.count(Metric::Lost, &["metrics_exported"], self.metrics.failures.get());
    }
}

/// Where something is sent, and what has been said of that.
#[derive(Default)]
struct CollectorTarget {
    client: RefCell<Option<Rc<CollectorClient>>>,
    failed: Sparse,
    refused: Sparse,
}

impl CollectorTarget {
    /// Goes on with another collector. `None`: nothing is sent.
    fn configure(&self, table: &'static str, collector: Option<&Collector>) {
        let client = collector.map(CollectorClient::new).transpose().unwrap_or_else(|fault| {
            tracing::error!(table, fault, "the collector cannot be used: nothing is sent to it");
            None
        });
        *self.client.borrow_mut() = client.map(Rc::new);
    }

    fn client(&self) -> Option<Rc<CollectorClient>> {
        self.client.borrow().clone()
    }

    /// Says why something was not sent; once a minute.
    fn complain(&self, table: &'static str, outcome: &ExportOutcome) {
        let now = clock::monotonic();
        match outcome {
            ExportOutcome::Failed { why, .. } => {
                if let Some(others) = self.failed.is_due_every(TOLD_EVERY, now) {
                    tracing::warn!(table, why, others, "the collector takes nothing; trying again");
                }
            }
            ExportOutcome::Refused(why) => {
                if let Some(others) = self.refused.is_due_every(TOLD_EVERY, now) {
                    tracing::error!(table, why, others, "the collector refuses what it is sent");
                }
            }
            ExportOutcome::Taken { rejected: 0, .. } => {}
            ExportOutcome::Taken { rejected, why } => {
                if let Some(others) = self.refused.is_due_every(TOLD_EVERY, now) {
                    tracing::error!(table, rejected, why, others, "the collector refuses a part of what it is sent");
                }
            }
        }
    }
}

/// Things that wait for a collector.
pub(super) struct Exporter<T> {
    table: &'static str,
    encode: fn(&str, &[T]) -> Vec<u8>,
    target: CollectorTarget,
    queue: RefCell<VecDeque<T>>,
    lost: Cell<u64>,
}

impl<T> Exporter<T> {
    fn new(table: &'static str, encode: fn(&str, &[T]) -> Vec<u8>) -> Self {
        Self { table, encode, target: CollectorTarget::default(), queue: RefCell::default(), lost: Cell::new(0) }
    }

    /// Goes on with another collector. `None`: nothing is sent.
    pub(super) fn configure(&self, collector: Option<&Collector>) {
        self.target.configure(self.table, collector);
    }

    /// Takes something, if there is room and somebody wants it.
    pub(super) fn add(&self, one: T) {
        let mut queue = self.queue.borrow_mut();
        if queue.len() < WAITING && self.target.client.borrow().is_some() {
            queue.push_back(one);
        } else {
            drop(queue);
            self.lose(1);
        }
    }

    fn lose(&self, more: u64) {
        self.lost.set(self.lost.get().saturating_add(more));
    }

    async fn run(&self) {
        let mut pause = SECOND;
        loop {
            sleep(pause).await;
            pause = match self.target.client() {
                Some(client) => self.send_waiting(&client, pause).await,
                None => SECOND,
            };
        }
    }

    /// Sends what waits, until a batch fails: the collector may be another after the pause. `pause`: how long the last one
    /// was. Returns the next.
    async fn send_waiting(&self, client: &CollectorClient, mut pause: Duration) -> Duration {
        while !self.queue.borrow().is_empty() {
            let batch: Vec<T> = {
                let mut queue = self.queue.borrow_mut();
                let count = queue.len().min(BATCH);
                queue.drain(..count).collect()
            };
            let outcome = client.post((self.encode)(client.service(), &batch)).await;
            self.target.complain(self.table, &outcome);
            match outcome {
                ExportOutcome::Taken { rejected, .. } => {
                    self.lose(rejected);
                    pause = SECOND;
                }
                ExportOutcome::Refused(_) => {
                    self.lose(count(batch.len()));
                    pause = SECOND;
                }
                ExportOutcome::Failed { wait, .. } => {
                    self.put_back(batch);
                    return (pause * 2).min(LONGEST).max(wait.min(LONGEST));
                }
            }
        }
        SECOND
    }

    /// Puts a batch back to the front, as far as there is room.
    fn put_back(&self, batch: Vec<T>) {
        let mut queue = self.queue.borrow_mut();
        for one in batch.into_iter().rev() {
            if queue.len() >= WAITING {
                self.lose(1);
            } else {
                queue.push_front(one);
            }
        }
    }
}

/// Sends all metrics, again and again.
pub(super) struct MetricsExporter {
    target: CollectorTarget,
    /// `None`: they are not sent.
    interval: Cell<Option<Duration>>,
    /// Sums began then, as far as this process knows.
    began: u64,
    failures: Cell<u64>,
}

impl Default for MetricsExporter {
    fn default() -> Self {
        Self {
            target: CollectorTarget::default(),
            interval: Cell::new(None),
            began: wire::nanos(),
            failures: Cell::new(0),
        }
    }
}

impl MetricsExporter {
    /// Goes on with another collector, and how many seconds are between two exports. `None`: nothing is sent.
    pub(super) fn configure(&self, collector: Option<&(Collector, u64)>) {
        self.target.configure("otlp_metrics", collector.map(|(collector, _)| collector));
        self.interval.set(collector.map(|(_, seconds)| Duration::from_secs(*seconds)));
    }

    async fn run(&self, store: &RefCell<Store>) {
        let mut last = Instant::now();
        loop {
            sleep(SECOND).await;
            let is_due = self.interval.get().is_some_and(|interval| last.elapsed() >= interval);
            let Some(client) = self.target.client().filter(|_| is_due) else { continue };
            last = Instant::now();
            self.send(&client, store).await;
        }
    }

    async fn send(&self, client: &CollectorClient, store: &RefCell<Store>) {
        let sums = store.borrow().sums();
        for part in metrics::encode(client.service(), &sums, self.began, wire::nanos()) {
            let outcome = client.post(part).await;
            self.target.complain("otlp_metrics", &outcome);
            // The next ones tell all that these would have told.
            if !matches!(outcome, ExportOutcome::Taken { rejected: 0, .. }) {
                self.failures.set(self.failures.get() + 1);
            }
            if matches!(outcome, ExportOutcome::Failed { .. }) {
                return;
            }
        }
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
