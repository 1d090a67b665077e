//! What the proxy tells the observer every second: sums over all workers since the process began.
//!
//! *Invariant:* nobody waits for the observer. What finds its socket full is told the next second.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    log::drops::DropReason,
    message::{
        ANSWERS, Counted, Lost, ServerState, UpstreamReport,
        channel::Sender,
        telemetry::{self, Histogram, MAX_TRACES, Metric, Report, Samples, Trace},
    },
    proxy::worker::measures::{Delta, Handshake, RequestsDelta},
    refusal::Reject,
    sandbox,
    signal::Signal,
};

/// The sums, and whom they are told.
pub(super) struct Telemetry {
    observer: Option<(Sender, Report)>,
    /// What is left to this process.
    sandbox: sandbox::Report,
    refused: BTreeMap<String, u64>,
    signals: [u64; Signal::ALL.len()],
    routes: BTreeMap<Arc<str>, Requests>,
    upstreams: BTreeMap<Arc<str>, Requests>,
    handshakes: [u64; Handshake::ALL.len()],
    authenticated: u64,
    lost: Lost,
    /// As it was told last.
    serves: bool,
}

#[derive(Default)]
struct Requests {
    answers: [u64; ANSWERS.len()],
    bytes_in: u64,
    bytes_out: u64,
    durations: Histogram,
}

/// How the proxy is at this moment.
pub(super) struct Current<'a> {
    pub(super) serves: bool,
    pub(super) connections: usize,
    pub(super) memory: Option<u64>,
    pub(super) upstreams: &'a [UpstreamReport],
    pub(super) lost_traces: u64,
    /// Of each of them: idle connections, and requests that wait for one.
    pub(super) pools: &'a [(u64, u64)],
}

impl Telemetry {
    pub(super) fn new(sandbox: sandbox::Report) -> Self {
        Self {
            observer: None,
            sandbox,
            refused: BTreeMap::new(),
            signals: Default::default(),
            routes: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            handshakes: Default::default(),
            authenticated: 0,
            lost: Lost::default(),
            serves: false,
        }
    }

    /// Tells another observer from now on, everything anew.
    pub(super) fn adopt(&mut self, socket: OwnedFd) {
        self.observer = Some((Sender::new(socket), Report::default()));
    }

    pub(super) const fn has_observer(&self) -> bool {
        self.observer.is_some()
    }

    /// Adds what a worker has counted.
    pub(super) fn add(&mut self, counted: &Counted) {
        for (label, count) in counted.refused.iter().filter(|(_, count)| *count > 0) {
            match self.refused.get_mut(label) {
                Some(sum) => *sum = sum.saturating_add(*count),
                None => drop(self.refused.insert(label.clone(), *count)),
            }
        }
        add(&mut self.signals, &counted.signals);
    }

    /// Adds what a worker has measured.
    pub(super) fn add_measured(&mut self, delta: Delta) {
        add_requests(&mut self.routes, delta.routes);
        add_requests(&mut self.upstreams, delta.upstreams);
        add(&mut self.handshakes, &delta.handshakes);
        self.authenticated = self.authenticated.saturating_add(delta.authenticated);
    }

    /// Adds what was lost.
    pub(super) fn add_lost(&mut self, lost: Lost) {
        let Lost { asks, log_lines, connections, shed, at_accept } = lost;
        self.lost.asks = self.lost.asks.saturating_add(asks);
        add(&mut self.lost.log_lines, &log_lines);
        self.lost.connections = self.lost.connections.saturating_add(connections);
        self.lost.shed = self.lost.shed.saturating_add(shed);
        self.lost.at_accept = self.lost.at_accept.saturating_add(at_accept);
    }

    /// Tells the observer what has changed, if there is one.
    pub(super) fn tell(&mut self, current: &Current<'_>) {
        if self.observer.is_none() {
            return;
        }
        let samples = self.samples(current);
        self.serves = current.serves;
        let Some((sender, report)) = &mut self.observer else { return };
        if let Err(error) = report.tell(current.serves, samples, |message| sender.try_send(message)) {
            match error.kind() {
                // It is slow, stopped or busy: the next second tells it.
                std::io::ErrorKind::WouldBlock => tracing::debug!("the observer does not read"),
                _ => {
                    tracing::info!(%error, "the observer is gone");
                    self.observer = None;
                }
            }
        }
    }

    /// Tells the observer of traced requests. What it cannot be told of is `lost`.
    pub(super) fn tell_traces(&self, mut traces: Vec<Trace>, lost: &AtomicU64) {
        while !traces.is_empty() {
            let rest = traces.split_off(traces.len().min(MAX_TRACES));
            let count = u64::try_from(traces.len()).unwrap_or(u64::MAX);
            let message = telemetry::Telemetry { serves: self.serves, traces, ..telemetry::Telemetry::default() };
            if self.observer.as_ref().is_none_or(|(sender, _)| sender.try_send(&message).is_err()) {
                lost.fetch_add(count, Ordering::Relaxed);
            }
            traces = rest;
        }
    }

    fn samples(&self, current: &Current<'_>) -> Samples {
        let mut samples = Samples::default();
        samples.level(Metric::Connections, &[], u64::try_from(current.connections).unwrap_or(u64::MAX));
        if let Some(bytes) = current.memory {
            samples.level(Metric::Memory, &["proxy"], bytes);
        }
        for (name, route) in &self.routes {
            for (class, count) in ANSWERS.iter().zip(route.answers).filter(|(_, count)| *count > 0) {
                samples.count(Metric::Requests, &[name, class], count);
            }
            samples.histogram(Metric::RequestDuration, &[name], route.durations.clone());
            samples.count(Metric::RequestBytes, &[name], route.bytes_in);
            samples.count(Metric::ResponseBytes, &[name], route.bytes_out);
        }
        for (label, count) in &self.refused {
            samples.count(Metric::Refusals, &[label], *count);
        }
        samples.count(Metric::Authentications, &["accepted"], self.authenticated);
        for reject in Reject::ALL.iter().filter(|reject| reject.row().status == http::StatusCode::UNAUTHORIZED) {
            let label = reject.row().label;
            samples.count(Metric::Authentications, &[label], self.refused.get(label).copied().unwrap_or(0));
        }
        for ((handshake, label), count) in Handshake::ALL.iter().zip(self.handshakes) {
            let metric = if handshake.is_done() { Metric::TlsHandshakes } else { Metric::TlsFailures };
            samples.count(metric, &[label], count);
        }
        for (name, upstream) in &self.upstreams {
            for (class, count) in ANSWERS.iter().zip(upstream.answers).filter(|(_, count)| *count > 0) {
                let class = if *class == "client_left" { "error" } else { class };
                samples.count(Metric::UpstreamRequests, &[name, class], count);
            }
            samples.histogram(Metric::UpstreamDuration, &[name], upstream.durations.clone());
        }
        samples.sandbox("proxy", &self.sandbox);
        for (signal, count) in Signal::ALL.iter().zip(self.signals) {
            samples.count(Metric::Signals, &[signal.name()], count);
        }
        for (upstream, (idle, pending)) in current.upstreams.iter().zip(current.pools) {
            let name = upstream.name.as_str();
            samples.level(Metric::UpstreamIdle, &[name], *idle);
            samples.level(Metric::UpstreamPending, &[name], *pending);
            for (server, now) in &upstream.servers {
                for (state, text) in [
                    (ServerState::Up, "up"),
                    (ServerState::Slow, "slow"),
                    (ServerState::Ejected, "ejected"),
                    (ServerState::Down, "down"),
                ] {
                    samples.is(Metric::UpstreamServer, &[name, server, text], state == *now);
                }
            }
            samples.count(Metric::UpstreamRetries, &[name], upstream.retries);
            samples.count(Metric::UpstreamOverLimit, &[name], upstream.over_limit);
            samples.count(Metric::UpstreamWithoutServer, &[name], upstream.without_server);
        }
        let Lost { asks, log_lines, connections, shed, at_accept } = self.lost;
        for (what, count) in [
            ("asks", asks),
            ("at_accept", at_accept),
            ("connections", connections),
            ("log_lines", log_lines.iter().sum()),
            ("shed", shed),
            ("traces", current.lost_traces),
        ] {
            samples.count(Metric::Lost, &[what], count);
        }
        for (reason, count) in DropReason::ALL.iter().zip(log_lines) {
            samples.count(Metric::AccessLogDropped, &[reason.name()], count);
        }
        samples
    }
}

fn add(sums: &mut [u64], counts: &[u64]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum = sum.saturating_add(*count);
    }
}

fn add_requests(sums: &mut BTreeMap<Arc<str>, Requests>, deltas: Vec<RequestsDelta>) {
    for delta in deltas {
        let sum = sums.entry(delta.name).or_default();
        add(&mut sum.answers, &delta.answers);
        sum.bytes_in = sum.bytes_in.saturating_add(delta.bytes_in);
        sum.bytes_out = sum.bytes_out.saturating_add(delta.bytes_out);
        sum.durations.add(&delta.durations);
    }
}
