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
    message::{
        ANSWERS, Counted, KeptKeys, KeySetReport, Lost, UpstreamReport, add_counts,
        channel::Sender,
        cluster::StoreReport,
        telemetry::{self, Histogram, MAX_TRACES, Report, Trace},
    },
    os::sandbox,
    policy::{
        admission::{self, ClassSum},
        auth::{
            Authenticators,
            introspection::{Introspection, RESULTS},
        },
        detect::Crawlers,
        limit::{self, bandwidth::Bandwidth},
        validate::waf::WafSum,
    },
    proxy::{
        lookup::news::News,
        worker::measures::{Delta, Handshake, RequestsDelta},
    },
    signal::Signal,
};

mod samples;

/// The sums, and whom they are told.
pub(super) struct TelemetrySums {
    observer: Option<(Sender, Report)>,
    /// What is left to this process.
    sandbox: sandbox::SandboxReport,
    refused: BTreeMap<String, u64>,
    signals: [u64; Signal::ALL.len()],
    routes: BTreeMap<Arc<str>, Requests>,
    upstreams: BTreeMap<Arc<str>, Requests>,
    handshakes: [u64; Handshake::ALL.len()],
    authenticated: u64,
    verifications: u64,
    unchecked: u64,
    lost: Lost,
    /// By issuer.
    keys: BTreeMap<String, FetchedKeys>,
    /// By introspection server: what became of requests with its tokens, and whether it is left alone.
    introspections: BTreeMap<String, ([u64; RESULTS.len()], bool)>,
    /// As it was told last.
    serves: bool,
}

/// The fetched keys of an issuer.
#[derive(Default)]
struct FetchedKeys {
    fetches: BTreeMap<&'static str, u64>,
    unknown: u64,
    report: KeySetReport,
    /// As the guard keeps them.
    kept: Option<KeptKeys>,
}

#[derive(Default)]
struct Requests {
    answers: [u64; ANSWERS.len()],
    limited: u64,
    bytes_in: u64,
    bytes_out: u64,
    durations: Histogram,
}

/// How the proxy is at this moment.
pub(super) struct Current<'a> {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) now: u64,
    pub(super) authenticators: &'a Authenticators,
    pub(super) serves: bool,
    pub(super) connections: usize,
    pub(super) memory: Option<u64>,
    pub(super) upstreams: &'a [UpstreamReport],
    /// Uses of deprecated operations: the API, the operation, how often.
    pub(super) deprecated: &'a [(String, String, u64)],
    /// What requests broke of documents that only report: the API, the rule, how often.
    pub(super) reported_requests: &'a [(String, &'static str, u64)],
    /// Responses that broke documents: the API, the operation, how often.
    pub(super) broken_responses: &'a [(String, String, u64)],
    /// Responses whose bodies were not judged, by API.
    pub(super) unjudged_responses: &'a [(String, u64)],
    pub(super) limits: &'a [limit::report::LimitSum],
    pub(super) classes: &'a [ClassSum],
    pub(super) wafs: &'a [WafSum],
    pub(super) bandwidth: &'a Bandwidth,
    pub(super) quotas: &'a [limit::report::Warnings],
    pub(super) lost_traces: u64,
    /// Bytes of the access log that wait for its outputs.
    pub(super) log_waiting: usize,
    /// Requests that wait for something to be looked up, and those that got no answer.
    pub(super) lookups: (u64, u64),
    pub(super) crawlers: &'a Crawlers,
    /// Connections marked for the fast lane, and how often one was not because its principal has enough.
    pub(super) fast_lane: (u64, u64),
    /// How it is with the store between machines; `None`: there is no cluster.
    pub(super) store: Option<&'a StoreReport>,
    /// Of each of them: idle connections, those that carry requests, and requests that wait for one.
    pub(super) pools: &'a [(u64, u64, u64)],
    /// Workers that do not run, and how often that began.
    pub(super) stalled: (u64, u64),
    /// Of each route, how many different sources and principals there were, summed over minutes.
    pub(super) distinct: &'a [(String, [u64; 2])],
    /// Of each of them, where requests at once are limited.
    pub(super) concurrency: &'a [Option<admission::GateReport>],
}

impl TelemetrySums {
    pub(super) fn new(sandbox: sandbox::SandboxReport) -> Self {
        Self {
            observer: None,
            sandbox,
            refused: BTreeMap::new(),
            signals: Default::default(),
            routes: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            handshakes: Default::default(),
            authenticated: 0,
            verifications: 0,
            unchecked: 0,
            lost: Lost::default(),
            keys: BTreeMap::new(),
            introspections: BTreeMap::new(),
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
        add_counts(&mut self.signals, &counted.signals);
    }

    /// Adds what a worker has measured.
    pub(super) fn add_measured(&mut self, delta: Delta) {
        add_requests(&mut self.routes, delta.routes);
        add_requests(&mut self.upstreams, delta.upstreams);
        add_counts(&mut self.handshakes, &delta.handshakes);
        self.authenticated = self.authenticated.saturating_add(delta.authenticated);
    }

    /// Adds a fetch of keys.
    pub(super) fn add_fetch(&mut self, news: &News, report: KeySetReport, kept: Option<KeptKeys>) {
        let keys = self.keys.entry(report.issuer.clone()).or_default();
        *keys.fetches.entry(news.result).or_default() += 1;
        keys.unknown = keys.unknown.saturating_add(news.asked);
        keys.report = report;
        keys.kept = kept.or(keys.kept.take());
    }

    /// The keys of all issuers, as the guard is told of them.
    pub(super) fn fetched_keys(&self) -> impl Iterator<Item = (&KeySetReport, Option<&KeptKeys>)> {
        self.keys.values().map(|keys| (&keys.report, keys.kept.as_ref()))
    }

    /// Adds what became of requests with opaque tokens.
    pub(super) fn add_introspections(&mut self, introspection: &Introspection) {
        // What is configured no more is left alone no more, and has its counts.
        self.introspections.values_mut().for_each(|(_, is_paused)| *is_paused = false);
        for (server, counts, is_paused) in introspection.take_counts() {
            let known = self.introspections.entry(server.to_owned()).or_default();
            add_counts(&mut known.0, &counts);
            known.1 = is_paused;
        }
    }

    /// Adds tokens that were verified.
    pub(super) const fn add_verifications(&mut self, many: u64) {
        self.verifications = self.verifications.saturating_add(many);
    }

    /// Adds tokens that were taken though it was not known what is revoked.
    pub(super) const fn add_unchecked(&mut self, many: u64) {
        self.unchecked = self.unchecked.saturating_add(many);
    }

    /// Adds what was lost.
    pub(super) fn add_lost(&mut self, lost: Lost) {
        let Lost { asks, log_lines, connections, shed, at_accept } = lost;
        self.lost.asks = self.lost.asks.saturating_add(asks);
        add_counts(&mut self.lost.log_lines, &log_lines);
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
}

fn add_requests(sums: &mut BTreeMap<Arc<str>, Requests>, deltas: Vec<RequestsDelta>) {
    for delta in deltas {
        let sum = sums.entry(delta.name).or_default();
        add_counts(&mut sum.answers, &delta.answers);
        sum.limited = sum.limited.saturating_add(delta.limited);
        sum.bytes_in = sum.bytes_in.saturating_add(delta.bytes_in);
        sum.bytes_out = sum.bytes_out.saturating_add(delta.bytes_out);
        sum.durations.add(&delta.durations);
    }
}
