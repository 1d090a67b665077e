//! What every process has measured, brought together. Counters of processes that have ended stay in the sums, so that no
//! sum goes back when a proxy is replaced.
//!
//! *Invariant:* processes are not believed: what is no valid series, is not theirs to measure, or goes back, is refused and
//! counted; and there are at most [`MAX_WEIGHT`] series of each of them.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use crate::message::telemetry::{MAX_WEIGHT, MetricKind, MetricRole, OTHER, Series, SeriesValue, Telemetry};

/// A process that has said nothing for so long does not count as serving.
const SILENT: Duration = Duration::from_secs(5);

/// A role, and which process of it: a larger number is younger.
pub(super) type ProcessId = (MetricRole, u64);

/// Series in the order in which they are told.
pub(super) type Sums = BTreeMap<Series, SeriesValue>;

/// Everything that is known.
#[derive(Default)]
pub(super) struct Store {
    processes: BTreeMap<ProcessId, Process>,
    /// How many channels there are to a proxy: a new guard gives it another before the one before ends.
    channels: BTreeMap<ProcessId, usize>,
    /// Of processes that have ended.
    ended: Group,
    refused: u64,
    /// When the guard, and a proxy that serves, were heard last.
    heard: BTreeMap<MetricRole, Instant>,
}

#[derive(Default)]
struct Process {
    group: Group,
    heard: Option<Instant>,
    serves: bool,
}

/// Series, of limited weight.
#[derive(Default)]
struct Group {
    series: HashMap<Series, SeriesValue>,
    weight: usize,
}

impl Store {
    /// A process tells what it measures.
    pub(super) fn receive(&mut self, id: ProcessId, telemetry: Telemetry) {
        let process = self.processes.entry(id).or_default();
        process.heard = Some(Instant::now());
        process.serves = telemetry.serves;
        if telemetry.serves {
            self.heard.insert(id.0, Instant::now());
        }
        for series in &telemetry.gone {
            process.group.remove(series);
        }
        for (series, value) in telemetry.changed {
            let role = series.metric.row().role;
            let is_valid =
                series.is_valid() && value.is_valid(series.metric) && (role == id.0 || role == MetricRole::Every);
            if !is_valid || !process.group.put(series, value) {
                self.refused = self.refused.saturating_add(1);
            }
        }
    }

    /// There is a channel to a process.
    pub(super) fn begin(&mut self, id: ProcessId) {
        *self.channels.entry(id).or_default() += 1;
    }

    /// A channel to a process is gone, and with the last one the process.
    pub(super) fn end(&mut self, id: ProcessId) {
        let left = self.channels.get(&id).map_or(0, |channels| channels.saturating_sub(1));
        if left > 0 {
            self.channels.insert(id, left);
            return;
        }
        self.channels.remove(&id);
        let Some(process) = self.processes.remove(&id) else { return };
        for (mut series, value) in process.group.series {
            if !matches!(series.metric.row().kind, MetricKind::Counter | MetricKind::Histogram) {
                continue;
            }
            // What stands for the rest is small, and always finds room.
            if !self.ended.has_room(&series, &value) {
                series.labels.fill(OTHER.to_owned());
            }
            self.ended.add(series, value);
        }
    }

    /// Another process has taken the place of this one, and goes on with the sums that it can know.
    pub(super) fn forget(&mut self, id: ProcessId) {
        self.processes.remove(&id);
    }

    /// So much of what a process says could not be read.
    pub(super) const fn refuse(&mut self, more: u64) {
        self.refused = self.refused.saturating_add(more);
    }

    /// How many samples and messages were refused.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// How many series there are.
    pub(super) fn series(&self) -> usize {
        self.processes.values().map(|process| process.group.series.len()).sum::<usize>() + self.ended.series.len()
    }

    /// Whether a proxy serves clients.
    pub(super) fn is_ready(&self) -> bool {
        let proxies = self.processes.iter().filter(|((role, _), _)| *role == MetricRole::Proxy);
        proxies.into_iter().any(|(_, process)| process.serves && process.is_heard())
    }

    /// How long nothing was heard of a role: of a proxy that serves, where it is that. The first time that it is asked
    /// counts as heard.
    pub(super) fn silence(&mut self, role: MetricRole) -> Duration {
        self.heard.entry(role).or_insert_with(Instant::now).elapsed()
    }

    /// Whether the guard and a proxy that serves were heard lately.
    pub(super) fn is_well(&self) -> bool {
        let is_heard = |role| self.heard.get(&role).is_some_and(|heard| heard.elapsed() < SILENT);
        is_heard(MetricRole::Guard) && is_heard(MetricRole::Proxy)
    }

    /// Everything, brought together.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::new();
        for (series, value) in &self.ended.series {
            add(&mut sums, series, value);
        }
        for (id, process) in &self.processes {
            let is_current = self.current(id.0) == Some(id.1);
            for (series, value) in &process.group.series {
                if is_current || series.metric.row().kind != MetricKind::Current {
                    add(&mut sums, series, value);
                }
            }
        }
        sums
    }

    /// The youngest process of a role that serves; if none does, the youngest.
    fn current(&self, role: MetricRole) -> Option<u64> {
        let of_role = || self.processes.iter().rev().filter(move |((of, _), _)| *of == role);
        let serves = of_role().find(|(_, process)| process.serves);
        serves.or_else(|| of_role().next()).map(|((_, number), _)| *number)
    }
}

impl Process {
    fn is_heard(&self) -> bool {
        self.heard.is_some_and(|heard| heard.elapsed() < SILENT)
    }
}

impl Group {
    /// Whether there is room for a series.
    fn has_room(&self, series: &Series, value: &SeriesValue) -> bool {
        self.series.contains_key(series) || self.weight + value.weight() <= MAX_WEIGHT
    }

    /// Takes the newest value of a series. `false`: there are too many, or it goes back.
    fn put(&mut self, series: Series, value: SeriesValue) -> bool {
        if let Some(known) = self.series.get_mut(&series) {
            let grows = match (&*known, &value) {
                (SeriesValue::Count(old), SeriesValue::Count(new)) => old <= new,
                (SeriesValue::Histogram(old), SeriesValue::Histogram(new)) => old.count() <= new.count(),
                _ => true,
            };
            let weight = self.weight - known.weight() + value.weight();
            let is_taken = grows && weight <= MAX_WEIGHT;
            if is_taken {
                (*known, self.weight) = (value, weight);
            }
            return is_taken;
        }
        let has_room = self.has_room(&series, &value);
        if has_room {
            self.insert(series, value);
        }
        has_room
    }

    fn add(&mut self, series: Series, value: SeriesValue) {
        match self.series.get_mut(&series) {
            Some(sum) => sum_up(sum, &value),
            None => self.insert(series, value),
        }
    }

    fn insert(&mut self, series: Series, value: SeriesValue) {
        self.weight += value.weight();
        self.series.insert(series, value);
    }

    fn remove(&mut self, series: &Series) {
        if let Some(value) = self.series.remove(series) {
            self.weight -= value.weight();
        }
    }
}

fn add(sums: &mut Sums, series: &Series, value: &SeriesValue) {
    match sums.get_mut(series) {
        Some(sum) => sum_up(sum, value),
        None => {
            sums.insert(series.clone(), value.clone());
        }
    }
}

fn sum_up(sum: &mut SeriesValue, value: &SeriesValue) {
    match (sum, value) {
        (SeriesValue::Count(sum), SeriesValue::Count(value)) => *sum = sum.saturating_add(*value),
        (SeriesValue::Level(sum), SeriesValue::Level(value)) => *sum += value,
        (SeriesValue::Histogram(sum), SeriesValue::Histogram(value)) => sum.add(value),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::telemetry::{Metric, Samples};

    fn telemetry(serves: bool, fill: impl FnOnce(&mut Samples)) -> Telemetry {
        let mut samples = Samples::default();
        fill(&mut samples);
        Telemetry { serves, changed: samples.into_inner(), gone: Vec::new(), traces: Vec::new() }
    }

    fn level(store: &Store, metric: Metric, labels: &[&str]) -> Option<f64> {
        match store.sums().get(&Series::new(metric, labels))? {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            SeriesValue::Count(count) => Some(*count as f64),
            SeriesValue::Level(level) => Some(*level),
            SeriesValue::Histogram(_) => None,
        }
    }

    #[test]
    fn sums_outlast_processes_and_levels_do_not() {
        let mut store = Store::default();
        let say = |requests, connections, up| {
            telemetry(true, |samples| {
                samples.count(Metric::Requests, &["/", "2xx"], requests);
                samples.level(Metric::Connections, &[], connections);
                samples.level(Metric::UpstreamServer, &["items", "a:1", "up"], up);
            })
        };
        store.receive((MetricRole::Proxy, 1), say(5, 10, 1));
        store.receive((MetricRole::Proxy, 1), say(7, 10, 1));
        store.receive((MetricRole::Proxy, 2), say(1, 3, 0));
        let told = |store: &Store| {
            [
                level(store, Metric::Requests, &["/", "2xx"]),
                level(store, Metric::Connections, &[]),
                level(store, Metric::UpstreamServer, &["items", "a:1", "up"]),
            ]
        };
        assert_eq!(told(&store), [Some(8.0), Some(13.0), Some(0.0)]);
        store.end((MetricRole::Proxy, 1));
        assert_eq!(told(&store), [Some(8.0), Some(3.0), Some(0.0)]);
        store.end((MetricRole::Proxy, 2));
        assert_eq!(told(&store), [Some(8.0), None, None]);

        // A new guard gives a proxy another channel, by which everything is told again.
        let third = (MetricRole::Proxy, 3);
        store.begin(third);
        store.receive(third, say(5, 1, 1));
        store.begin(third);
        store.receive(third, say(5, 1, 1));
        store.end(third);
        assert_eq!(told(&store), [Some(13.0), Some(1.0), Some(1.0)]);
        store.end(third);
        assert_eq!(told(&store), [Some(13.0), None, None]);
        // That guard counts anew, or goes on with what the kernel counts.
        let packets = |store: &Store| level(store, Metric::Packets, &["blocked"]);
        let guard = (MetricRole::Guard, 0);
        store.receive(guard, telemetry(true, |samples| samples.count(Metric::Packets, &["blocked"], 9)));
        store.forget(guard);
        store.receive(guard, telemetry(true, |samples| samples.count(Metric::Packets, &["blocked"], 4)));
        assert_eq!(packets(&store), Some(4.0));
        assert_eq!(store.refused(), 0);
    }

    #[test]
    fn whoever_serves_is_current() {
        let mut store = Store::default();
        let say = |serves, up| {
            telemetry(serves, |samples| samples.level(Metric::UpstreamServer, &["items", "a:1", "up"], up))
        };
        assert!(!store.is_ready());
        store.receive((MetricRole::Proxy, 1), say(true, 1));
        store.receive((MetricRole::Proxy, 2), say(false, 0));
        assert!(store.is_ready());
        assert_eq!(level(&store, Metric::UpstreamServer, &["items", "a:1", "up"]), Some(1.0));
        store.receive((MetricRole::Proxy, 1), say(false, 1));
        assert!(!store.is_ready());
        assert_eq!(level(&store, Metric::UpstreamServer, &["items", "a:1", "up"]), Some(0.0));
    }

    #[test]
    fn a_process_is_not_believed() {
        let mut store = Store::default();
        let id = (MetricRole::Proxy, 1);
        store.receive(id, telemetry(true, |samples| samples.count(Metric::Lost, &["shed"], 5)));
        for bad in [
            telemetry(true, |samples| samples.count(Metric::Lost, &["shed"], 4)),
            telemetry(true, |samples| samples.count(Metric::Lost, &["a", "b"], 4)),
            telemetry(true, |samples| samples.level(Metric::Lost, &["other"], 4)),
            telemetry(true, |samples| samples.count(Metric::Packets, &["blocked"], 4)),
            Telemetry {
                changed: vec![(Series::new(Metric::Connections, &[]), SeriesValue::Level(f64::NAN))],
                ..Telemetry::default()
            },
            Telemetry {
                changed: vec![(Series { metric: Metric::Lost, labels: vec!["x".repeat(201)] }, SeriesValue::Count(1))],
                ..Telemetry::default()
            },
        ] {
            let before = store.refused();
            store.receive(id, bad.clone());
            assert_eq!(store.refused(), before + 1, "{bad:?}");
        }
        assert_eq!((store.series(), level(&store, Metric::Lost, &["shed"])), (1, Some(5.0)));

        // Nor does it fill the memory, as one process or as many.
        for process in 2..6 {
            for from in 0..60 {
                let many = |samples: &mut Samples| {
                    for number in from * 1_000..(from + 1) * 1_000 {
                        samples.count(Metric::Lost, &[&format!("{process}-{number}")], 1);
                    }
                };
                store.receive((MetricRole::Proxy, process), telemetry(true, many));
            }
            store.end((MetricRole::Proxy, process));
        }
        assert!(store.series() <= MAX_WEIGHT + 2, "{}", store.series());
        assert!(level(&store, Metric::Lost, &[OTHER]).is_some_and(|other| other >= 140_000.0));
    }
}
