//! What a request says about its source: each signal is counted, and handed to the rules, which may ask for a ban.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use super::{checks::looked::Looked, exchange::Exchange, outcome::CLIENT_LEFT};
use crate::{
    message::MAX_PATH,
    policy::detect::{
        BanRequest, Completed, CrawlerStanding, Finished, LIMITED, NO_ROUTE, Observed, ObservedFacts, ObservedValues,
        OurFault, UpstreamAnswer, is_sought_by_scanners,
    },
    proxy::worker::{measures::LIMITED_STATUS, messages::WorkerEvent},
    route::target::Target,
    signal::Signal,
};

impl Exchange {
    /// Looks at what rules ask of the head. Most ask for nothing.
    pub(super) fn look(&mut self, headers: &HeaderMap) {
        self.looked = Looked::of(&self.listener.snapshot().detector, headers);
    }

    /// Looks whether it is of the crawler that it says it is, where it says so. What is not known is found out meanwhile.
    pub(super) fn look_for_crawler(&mut self, headers: &HeaderMap, now: u64) {
        let snapshot = self.listener.snapshot();
        // A load balancer may have any number of crawlers behind it.
        if !snapshot.crawlers.is_any() || self.client.is_trusted {
            return;
        }
        let Some(agent) = headers.get(header::USER_AGENT) else { return };
        let Some(claim) = snapshot.crawlers.judge(agent.as_bytes(), self.client.address.ip(), now) else { return };
        self.looked.crawler = Some(claim.standing);
        claim.questions.into_iter().for_each(|question| self.worker.shared.lookups.verify(question));
        if claim.standing == CrawlerStanding::False {
            self.outcome.signal = Some(Signal::FalseCrawler);
            self.observed(Signal::FalseCrawler, None, &[]);
        }
    }

    /// Looks at an upstream's answer, where a rule asks for that. `now`: when it came.
    pub(super) fn look_at_answer(&mut self, upstream: usize, status: u16, now: u64) {
        let detector = &self.listener.snapshot().detector;
        if self.client.is_trusted || !detector.looks_at_answers() {
            return;
        }
        let Some(route) = self.routing.route else { return };
        let answer = UpstreamAnswer { route, upstream, status, is_identified: self.identity.is_some() };
        if let Some(fault) = detector.our_fault(&answer, self.client.source, now) {
            let template = self.snapshot().served.get(route).map_or("", |route| &*route.template);
            let name = template.get(..template.floor_char_boundary(MAX_PATH)).unwrap_or_default().to_owned();
            self.worker.tell(WorkerEvent::OurFault(Box::new(OurFault { route: name, ..fault })));
        }
        let Some(signal) = detector.judge_answer(&answer, self.client.source, now) else { return };
        if signal == Signal::UpstreamUnauthorized && self.looked.bears_session {
            return;
        }
        if signal != Signal::Served {
            self.outcome.signal = Some(signal);
        }
        self.observed(signal, None, &[]);
        if signal == Signal::UpstreamNotFound {
            self.look_for_scanner(signal);
        }
    }

    /// What does not exist may be what scanners look for.
    pub(super) fn look_for_scanner(&mut self, signal: Signal) {
        if !matches!(signal, Signal::UnknownRoute | Signal::UpstreamNotFound)
            || !self.snapshot().detector.counts(Signal::ScanPath)
            || !self.request.target.as_ref().is_some_and(|target| is_sought_by_scanners(target.path()))
        {
            return;
        }
        self.outcome.signal = Some(Signal::ScanPath);
        self.observed(Signal::ScanPath, None, &[]);
    }

    /// Notes what is unusual for the principal that the client has proved to be.
    pub(super) fn look_for_unusual(&mut self, headers: &HeaderMap) {
        let (Some(identity), detector) = (&self.identity, &self.listener.snapshot().detector) else { return };
        if !detector.looks_for_unusual() {
            return;
        }
        let source = self.client.named().map(|_| self.client.source.to_string());
        let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
        let seen = ObservedValues { source: source.as_deref(), agent, ja4: self.connection.ja4() };
        self.outcome.unusual = detector.unusual(identity.principal(), &seen, self.began.monotonic);
        if self.outcome.unusual.is_some() {
            self.observed(Signal::Unusual, None, &[]);
        }
    }

    /// Adds it to what its source and its principal do, where that is kept.
    pub(super) fn profile(&self) {
        let detector = &self.snapshot().detector;
        if !detector.keeps_profiles() || self.client.is_trusted {
            return;
        }
        let outcome = &self.outcome;
        let finished = Finished {
            id: Some(self.id),
            principal: self.identity.as_ref().map(|identity| identity.principal()),
            path: self.request.target.as_ref().map(Target::path),
            agent: self.looked.agent,
            status: outcome.status,
            signal: outcome.signal(),
            bytes_in: outcome.bytes_in.as_ref().map_or(0, |bytes| bytes.get()),
            bytes_out: outcome.bytes_out,
            hour: u8::try_from(self.began.unix_millis / 3_600_000 % 24).unwrap_or(0),
        };
        detector.finished(self.client.source, &finished, self.began.monotonic);
    }

    /// Whether it is known to be of a crawler.
    fn is_crawler(&self) -> bool {
        self.looked.crawler == Some(CrawlerStanding::Verified)
    }

    /// Counts it for its source and its principal, where anomalies are looked for: crawlers are not to blame for them.
    /// `took`: nanoseconds, where that was measured.
    pub(super) fn complete(&self, took: Option<u64>) {
        let detector = &self.snapshot().detector;
        if !detector.counts_contributors() || self.client.is_trusted || self.is_crawler() {
            return;
        }
        let ended = self.began.unix_millis.saturating_add(took.unwrap_or(0) / 1_000_000);
        detector.completed(&Completed {
            route: match self.compiled_route() {
                Some(route) => &route.template,
                None if self.outcome.status == LIMITED_STATUS => LIMITED,
                None => NO_ROUTE,
            },
            source: self.client.source,
            address: self.client.address.ip(),
            relay: self.client.relay,
            principal: self.identity.as_ref().map(|identity| identity.principal()),
            status: (self.outcome.status != CLIENT_LEFT).then_some(self.outcome.status),
            id: self.id,
            minute: ended / 60_000,
        });
    }

    /// Notes a signal. `claimed`: whose a credential said that it is; `limits`: those that refused it.
    pub(super) fn observed(&mut self, signal: Signal, claimed: Option<&str>, limits: &[Arc<str>]) {
        // A load balancer is not to blame for what it relays, and is never banned.
        if self.client.is_trusted {
            return;
        }
        self.worker.counters.signalled(signal);
        if self.looked.is_cross_site && Signal::BY_LINK.contains(&signal)
            || self.is_crawler() && Signal::BY_CRAWLING.contains(&signal)
        {
            return;
        }
        let (source, address) = (self.client.source, self.client.address.ip());
        let detector = &self.listener.snapshot().detector;
        let identity = self.identity.as_ref();
        let principal = identity.map(|identity| identity.principal()).or(claimed);
        let facts = ObservedFacts {
            path: self.request.target.as_ref().map(Target::path),
            agent: self.looked.agent,
            ja4: self.connection.ja4(),
            route: self.routing.route,
            session: identity.map(|identity| identity.expires()),
        };
        let observed = Observed { signal, source, address, principal, id: self.id, limits, facts };
        for ask in detector.note(&observed, crate::os::clock::monotonic()) {
            self.outcome.rule = Some(ask.rule.as_str().into());
            self.worker.ask(BanRequest { relay: self.client.relay, ..ask });
        }
    }
}
