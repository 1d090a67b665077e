//! The numbers that the observer is told, each by the name of its metric.

use super::{Current, TelemetrySums};
use crate::{
    log::drops::DropReason,
    message::{
        ANSWERS, Lost, ServerState,
        telemetry::{Metric, Samples},
    },
    policy::{
        admission::Shed,
        auth::{introspection::RESULTS, jwt::keys::JwtKeys},
        detect::Crawlers,
    },
    proxy::worker::measures::Handshake,
    refusal::Reject,
    signal::Signal,
};

impl TelemetrySums {
    /// Everything, as it is now.
    pub(super) fn samples(&self, current: &Current<'_>) -> Samples {
        let mut samples = Samples::default();
        process(&mut samples, current);
        self.requests(&mut samples);
        contracts(&mut samples, current);
        self.authentication(&mut samples);
        self.upstream_requests(&mut samples);
        self.keys(&mut samples);
        key_sets(&mut samples, current);
        lookups(&mut samples, current);
        crawlers(&mut samples, current.crawlers);
        samples.sandbox("proxy", &self.sandbox);
        self.signals(&mut samples);
        upstreams(&mut samples, current);
        concurrency(&mut samples, current);
        admission(&mut samples, current);
        limits(&mut samples, current);
        distinct_clients(&mut samples, current);
        self.lost(&mut samples, current);
        samples
    }

    /// What became of requests, by route and by refusal.
    fn requests(&self, samples: &mut Samples) {
        for (name, route) in &self.routes {
            for (class, count) in ANSWERS.iter().zip(route.answers).filter(|(_, count)| *count > 0) {
                samples.count(Metric::Requests, &[name, class], count);
            }
            samples.count(Metric::RequestsLimited, &[name], route.limited);
            samples.histogram(Metric::RequestDuration, &[name], route.durations.clone());
            samples.count(Metric::RequestBytes, &[name], route.bytes_in);
            samples.count(Metric::ResponseBytes, &[name], route.bytes_out);
        }
        for (label, count) in &self.refused {
            samples.count(Metric::Refusals, &[label], *count);
        }
    }

    /// Who proved who they are, and TLS handshakes.
    fn authentication(&self, samples: &mut Samples) {
        samples.count(Metric::Authentications, &["accepted"], self.authenticated);
        samples.count(Metric::TokenVerifications, &[], self.verifications);
        samples.count(Metric::TokensUnchecked, &[], self.unchecked);
        for reject in Reject::ALL.iter().filter(|reject| reject.row().status == http::StatusCode::UNAUTHORIZED) {
            let label = reject.row().label;
            samples.count(Metric::Authentications, &[label], self.refused.get(label).copied().unwrap_or(0));
        }
        for ((handshake, label), count) in Handshake::ALL.iter().zip(self.handshakes) {
            let metric = if handshake.is_done() { Metric::TlsHandshakes } else { Metric::TlsFailures };
            samples.count(metric, &[label], count);
        }
    }

    /// What upstreams answered.
    fn upstream_requests(&self, samples: &mut Samples) {
        for (name, upstream) in &self.upstreams {
            for (class, count) in ANSWERS.iter().zip(upstream.answers).filter(|(_, count)| *count > 0) {
                let class = if *class == "client_left" { "error" } else { class };
                samples.count(Metric::UpstreamRequests, &[name, class], count);
            }
            samples.histogram(Metric::UpstreamDuration, &[name], upstream.durations.clone());
        }
    }

    /// Fetches of the keys of issuers, and the servers that are asked about tokens.
    fn keys(&self, samples: &mut Samples) {
        for (issuer, keys) in &self.keys {
            for (result, count) in &keys.fetches {
                samples.count(Metric::KeyFetches, &[issuer, result], *count);
            }
            samples.count(Metric::UnknownKeys, &[issuer], keys.unknown);
        }
        for (server, (counts, is_paused)) in &self.introspections {
            for (result, count) in RESULTS.iter().zip(counts) {
                samples.count(Metric::Introspections, &[server, result], *count);
            }
            samples.is(Metric::IntrospectionPaused, &[server], *is_paused);
        }
    }

    /// What was observed of clients.
    fn signals(&self, samples: &mut Samples) {
        for (signal, count) in Signal::ALL.iter().zip(self.signals) {
            samples.count(Metric::Signals, &[signal.name()], count);
        }
    }

    /// What was lost, and lines of the access log.
    fn lost(&self, samples: &mut Samples, current: &Current<'_>) {
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
        samples.level(Metric::AccessLogWaiting, &[], u64::try_from(current.log_waiting).unwrap_or(u64::MAX));
        for (reason, count) in DropReason::ALL.iter().zip(log_lines) {
            samples.count(Metric::AccessLogDropped, &[reason.name()], count);
        }
    }
}

/// The process as a whole.
fn process(samples: &mut Samples, current: &Current<'_>) {
    samples.level(Metric::Connections, &[], u64::try_from(current.connections).unwrap_or(u64::MAX));
    samples.level(Metric::WorkersStalled, &[], current.stalled.0);
    samples.count(Metric::WorkerStalls, &[], current.stalled.1);
    if let Some(bytes) = current.memory {
        samples.level(Metric::Memory, &["proxy"], bytes);
    }
}

/// What the documents of APIs say of requests and responses.
fn contracts(samples: &mut Samples, current: &Current<'_>) {
    for (api, operation, count) in current.deprecated {
        samples.count(Metric::DeprecatedCalls, &[api.as_str(), operation.as_str()], *count);
    }
    for (api, rule, count) in current.reported_requests {
        samples.count(Metric::RequestViolations, &[api.as_str(), *rule], *count);
    }
    for (api, operation, count) in current.broken_responses {
        samples.count(Metric::ResponseViolations, &[api.as_str(), operation.as_str()], *count);
    }
    for (api, count) in current.unjudged_responses {
        samples.count(Metric::ResponsesNotJudged, &[api.as_str()], *count);
    }
}

/// The keys of issuers as they are now. Of an issuer that is configured no more there are none.
fn key_sets(samples: &mut Samples, current: &Current<'_>) {
    for set in current.authenticators.key_sets() {
        let issuer = &[set.key()];
        let keys = set.load().as_ref().as_ref().map_or(0, JwtKeys::len);
        samples.level(Metric::Keys, issuer, u64::try_from(keys).unwrap_or(u64::MAX));
        samples.level(Metric::KeysConfirmed, issuer, set.confirmed() / 1_000);
        samples.is(Metric::KeysStale, issuer, set.is_stale(current.now));
        samples.is(Metric::KeysUsable, issuer, set.is_usable(current.now));
    }
}

/// The fast lane, what is looked up, and the store between machines.
fn lookups(samples: &mut Samples, current: &Current<'_>) {
    samples.level(Metric::FastLane, &[], current.fast_lane.0);
    samples.count(Metric::FastLaneOver, &[], current.fast_lane.1);
    samples.level(Metric::LookupsWaiting, &[], current.lookups.0);
    samples.count(Metric::LookupsUnanswered, &[], current.lookups.1);
    if let Some(store) = current.store {
        samples.is(Metric::ClusterStoreUp, &[], store.reachable);
        samples.count(Metric::ClusterCalls, &["answered"], store.calls.saturating_sub(store.failures));
        samples.count(Metric::ClusterCalls, &["failed"], store.failures);
        samples.count(Metric::ClusterAlone, &[], store.alone);
        samples.count(Metric::ClusterDisbelieved, &[], store.disbelieved);
        samples.count(Metric::ClusterMalformed, &[], store.malformed);
        samples.count(Metric::ClusterLettersLost, &[], store.lost);
    }
}

/// Who said that they were crawlers.
fn crawlers(samples: &mut Samples, crawlers: &Crawlers) {
    for (crawler, result, count) in crawlers.requests() {
        samples.count(Metric::CrawlerRequests, &[&crawler, result], count);
    }
    if crawlers.asks_name_servers() {
        for (result, count) in crawlers.lookups() {
            samples.count(Metric::CrawlerLookups, &[result], count);
        }
    }
}

/// Servers, and the connections to them.
fn upstreams(samples: &mut Samples, current: &Current<'_>) {
    for (upstream, (idle, busy, pending)) in current.upstreams.iter().zip(current.pools) {
        let name = upstream.name.as_str();
        samples.level(Metric::UpstreamIdle, &[name], *idle);
        samples.level(Metric::UpstreamBusy, &[name], *busy);
        samples.level(Metric::UpstreamPending, &[name], *pending);
        for (server, now) in &upstream.servers {
            for (state, text) in [
                (ServerState::Up, "up"),
                (ServerState::Slow, "slow"),
                (ServerState::Failing, "failing"),
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
}

/// Requests at once, where upstreams are limited by what they stand.
fn concurrency(samples: &mut Samples, current: &Current<'_>) {
    for (upstream, report) in current.upstreams.iter().zip(current.concurrency) {
        let (name, Some(report)) = (upstream.name.as_str(), report) else { continue };
        samples.level(Metric::UpstreamConcurrency, &[name], report.limit.into());
        samples.level(Metric::UpstreamConcurrent, &[name, "in_flight"], report.in_flight.into());
        samples.level(Metric::UpstreamConcurrent, &[name, "waiting"], report.waiting.into());
        samples.seconds(Metric::UpstreamLatency, &[name], report.base);
    }
}

/// Bandwidth, classes of requests, and what looks for attacks.
fn admission(samples: &mut Samples, current: &Current<'_>) {
    for (direction, sum) in current.bandwidth.sums() {
        samples.count(Metric::BandwidthBytes, &[&sum.name, direction], sum.counts.admitted);
        samples.count(Metric::BandwidthWaits, &[&sum.name, direction], sum.counts.delayed);
    }
    for class in current.classes {
        samples.count(Metric::PriorityRequests, &[&class.name, "served"], class.served);
        samples.count(Metric::PriorityClosed, &[&class.name], class.closed);
        for ((_, why), count) in Shed::ALL.iter().zip(class.shed) {
            samples.count(Metric::PriorityRequests, &[&class.name, why], count);
        }
    }
    for waf in current.wafs {
        for (result, count) in waf.requests {
            samples.count(Metric::WafRequests, &[&waf.name, result], count);
        }
        for (rule, count) in &waf.rules {
            samples.count(Metric::WafMatches, &[&waf.name, rule], *count);
        }
    }
}

/// Limits and quotas.
fn limits(samples: &mut Samples, current: &Current<'_>) {
    for limit in current.limits {
        let (name, counts) = (&*limit.name, limit.counts);
        for (result, count) in [("admitted", counts.admitted), ("refused", counts.refused), ("shadow", counts.shadow)] {
            samples.count(Metric::LimitRequests, &[name, result], count);
        }
        samples.level(Metric::LimitKeys, &[name], limit.keys);
        samples.level(Metric::LimitCapacity, &[name], limit.capacity);
        samples.count(Metric::LimitDelayed, &[name], counts.delayed);
        samples.count(Metric::LimitEvictions, &[name], counts.evicted);
        samples.count(Metric::LimitShared, &[name], counts.shared);
    }
    for quota in current.quotas {
        samples.count(Metric::QuotaWarnings, &[&quota.name], quota.crossings);
        samples.level(Metric::QuotaReset, &[&quota.name], quota.end);
    }
}

/// How many different sources and principals each route had.
fn distinct_clients(samples: &mut Samples, current: &Current<'_>) {
    for (of, [sources, principals]) in current.distinct {
        samples.count(Metric::DistinctClients, &[of.as_str(), "sources"], *sources);
        samples.count(Metric::DistinctClients, &[of.as_str(), "principals"], *principals);
    }
}
