//! One exchange, a request and its response: what is known of it, and the one exit that counts, logs and signals.
//!
//! *Invariant:* every request that was read makes one line in the access log, once its response is sent, cut off or given
//! up. Where the access log is off, only refusals are logged: they are evidence. Every [`Reject`] with a Signal is noted
//! before its response goes out.

use std::{borrow::Cow, rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue, Version, uri::PathAndQuery};

use super::{
    checks::looked::Looked,
    outcome::{CLIENT_LEFT, Outcome},
    trace::{self, Recorder},
};
use crate::{
    client::{Client, forwarded::ForwardedInfo},
    log::{
        access::ServedRequest,
        line::{LogLine, Noted, Timings, pick, trace_id},
        text::hexadecimal,
    },
    message::telemetry::{Trace, TraceStep, label},
    os::clock::Now,
    policy::{
        auth::Identity,
        authz::{Access, WouldDeny},
        limit::LimitResult,
        validate::openapi::OperationId,
    },
    proxy::{
        body::Incoming,
        connection::Connection,
        generation::ListenerRef,
        service::RequestLine,
        timing::throttle::Throttle,
        upstream::Attempts,
        worker::{
            Worker,
            measures::{LIMITED_STATUS, MeasuredRequest, MeasuredRoute},
        },
    },
    refusal::{Refusal, RefusalRow, Reject},
    route::target::Target,
    settings::{timeouts::Timeouts, upstream::Upstream},
    signal::Signal,
    snapshot::{CompiledRoute, Snapshot},
    web::request_id::RequestId,
};

/// One exchange. It is written to the log when it is dropped.
pub(in crate::proxy) struct Exchange {
    pub(in crate::proxy) worker: Rc<Worker>,
    pub(in crate::proxy) connection: Rc<Connection>,
    /// By which listener it came, in the configuration that was in force then.
    pub(in crate::proxy) listener: ListenerRef,
    /// The client that sent the request.
    pub(in crate::proxy) client: Client,
    pub(in crate::proxy) id: RequestId,
    pub(in crate::proxy) began: Now,
    /// What trusted proxies say of the request.
    pub(in crate::proxy) info: Option<Box<ForwardedInfo>>,
    pub(in crate::proxy) request: ReceivedRequest,
    pub(in crate::proxy) routing: Routing,
    pub(in crate::proxy) identity: Option<Arc<Identity>>,
    /// The [`CredentialTables::epoch`](crate::policy::auth::tables::CredentialTables::epoch) up to which it is known not to be revoked.
    pub(super) epoch: u64,
    pub(in crate::proxy) outcome: Outcome,
    /// What limits have said of it.
    pub(super) limited: LimitResult,
    /// How its bodies are held back, where they are.
    pub(in crate::proxy) throttles: Throttles,
    /// What rules ask of its head.
    pub(super) looked: Looked,
    /// `None`: nothing is traced.
    pub(super) trace: Option<Box<Recorder>>,
    /// Whether it is an exchange: what happens on a connection outside of any request is told in the same way.
    counted: bool,
    /// What the access log says besides, where it does.
    noted: Option<Box<Noted>>,
}

/// How the bodies of an exchange are held back. `None`: they are not.
#[derive(Default)]
pub(in crate::proxy) struct Throttles {
    pub(in crate::proxy) upload: Option<Box<Throttle>>,
    pub(in crate::proxy) download: Option<Box<Throttle>>,
}

/// What has been read of the request.
#[derive(Default)]
pub(in crate::proxy) struct ReceivedRequest {
    /// `None`: nothing of it could be read.
    pub(in crate::proxy) line: Option<RequestLine>,
    pub(in crate::proxy) target: Option<Target>,
    /// The page that asks, where that matters: its browser is told so with every response, a late one too.
    pub(super) origin: Option<HeaderValue>,
    /// Whether it is a call of gRPC.
    pub(in crate::proxy) is_grpc: bool,
    /// Its body, until an upstream or nobody gets it.
    pub(super) body: Option<Incoming>,
}

/// What the router has found.
#[derive(Default)]
pub(in crate::proxy) struct Routing {
    /// An index into [`Snapshot::served`](crate::snapshot::Snapshot::served).
    pub(in crate::proxy) route: Option<usize>,
    /// Its operation, where the route has a contract.
    pub(in crate::proxy) operation: Option<OperationId>,
    /// What the operation asks of clients: an index into [`CompiledRoute::variants`].
    pub(in crate::proxy) variant: Option<usize>,
    /// What pages of other origins may do, where there is no route: an index into [`Snapshot::cors`](crate::snapshot::Snapshot::cors).
    pub(in crate::proxy) cors: Option<usize>,
    /// Whether it asks for `listener.health`.
    pub(in crate::proxy) is_health: bool,
    /// The methods that a 405 names.
    pub(in crate::proxy) allow: Option<HeaderValue>,
}

impl Exchange {
    /// Begins an exchange on `connection`. Without `request` nothing of the request could be read.
    pub(in crate::proxy) fn begin(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        listener: ListenerRef,
        request: Option<RequestLine>,
        now: Now,
    ) -> Box<Self> {
        connection.begin();
        Self::new(worker, connection, listener, request, now, true)
    }

    /// Notes a fault of a connection outside of any request.
    pub(in crate::proxy) fn fault(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        listener: ListenerRef,
        refusal: Refusal,
    ) {
        let mut exchange = Self::new(worker, connection, listener, None, Now::read(), false);
        exchange.refuse(refusal);
        exchange.outcome.status = 0;
    }

    /// Notes a signal about the source of a connection outside of any request.
    pub(in crate::proxy) fn observe(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        listener: ListenerRef,
        signal: Signal,
        detail: impl Into<Cow<'static, str>>,
    ) {
        let mut exchange = Self::new(worker, connection, listener, None, Now::read(), false);
        exchange.outcome.status = 0;
        exchange.observed(signal, None, &[]);
        let row =
            RefusalRow { status: http::StatusCode::BAD_REQUEST, title: "", label: signal.name(), signal: Some(signal) };
        exchange.outcome.refused = Some((row, detail.into()));
    }

    /// Notes a handshake that failed and says nothing about its source.
    pub(in crate::proxy) fn failed_handshake(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        listener: ListenerRef,
        detail: Cow<'static, str>,
    ) {
        let mut exchange = Self::new(worker, connection, listener, None, Now::read(), false);
        exchange.outcome.status = 0;
        let row =
            RefusalRow { status: http::StatusCode::BAD_REQUEST, title: "", label: "failed_handshake", signal: None };
        exchange.outcome.refused = Some((row, detail));
    }

    fn new(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        listener: ListenerRef,
        request: Option<RequestLine>,
        began: Now,
        counted: bool,
    ) -> Box<Self> {
        Box::new(Self {
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            listener,
            client: connection.client.get(),
            id: worker.next_id(),
            began,
            info: None,
            request: ReceivedRequest { line: request, ..ReceivedRequest::default() },
            routing: Routing::default(),
            identity: None,
            epoch: 0,
            outcome: Outcome::unanswered(),
            noted: None,
            limited: LimitResult::default(),
            throttles: Throttles::default(),
            looked: Looked::default(),
            trace: None,
            counted,
        })
    }

    /// `http` or `https`: as a trusted proxy says, else as the connection is.
    pub(in crate::proxy) fn scheme(&self) -> &'static str {
        let told = self.info.as_ref().and_then(|told| told.scheme);
        told.unwrap_or_else(|| self.connection.scheme())
    }

    /// The request id for client and upstream: a trusted proxy's, else our own. The log has both.
    pub(in crate::proxy) fn told_id(&self) -> HeaderValue {
        let own = || HeaderValue::from_bytes(&hexadecimal(self.id)).unwrap_or(HeaderValue::from_static(""));
        self.info.as_ref().and_then(|told| told.id.clone()).unwrap_or_else(own)
    }

    /// The configuration that it began with.
    pub(in crate::proxy) fn snapshot(&self) -> &Snapshot {
        self.listener.snapshot()
    }

    /// The route, compiled.
    pub(in crate::proxy) fn compiled_route(&self) -> Option<&CompiledRoute> {
        let route = self.routing.route.and_then(|route| self.snapshot().served.get(route))?;
        let variant = self.routing.variant.and_then(|variant| route.variants.get(variant));
        Some(variant.unwrap_or(route))
    }

    /// The upstream that it went to, if it did.
    pub(super) fn upstream(&self) -> Option<&Upstream> {
        let upstream = self.compiled_route().filter(|_| self.outcome.forwarded)?.action.upstream()?;
        self.snapshot().settings.upstreams.get(upstream)
    }

    /// What the request asks for.
    ///
    /// # Errors
    /// Nobody has read it.
    pub(super) fn target(&self) -> Result<&Target, Refusal> {
        self.request.target.as_ref().ok_or_else(|| Refusal::new(Reject::BadRequest, "no target"))
    }

    /// The timeouts of the route, or the general ones.
    pub(in crate::proxy) fn timeouts(&self) -> &Timeouts {
        self.compiled_route().map_or(&self.snapshot().settings.timeouts, |served| &served.timeouts)
    }

    /// The request goes to its upstream.
    pub(in crate::proxy) const fn forwarded(&mut self) {
        self.outcome.forwarded = true;
    }

    /// Its upstream has answered with this status, or has not.
    pub(super) fn tried(&mut self, attempts: Attempts, status: Option<u16>) {
        if let Some(trace) = &mut self.trace {
            trace.forwarded(&attempts);
            trace.upstream_status = status;
        }
        self.outcome.attempts = attempts;
    }

    /// The exchange ends with a refusal. Its signal is noted now, before the response leaves.
    pub(in crate::proxy) fn refuse(&mut self, refusal: Refusal) -> RefusalRow {
        let row = refusal.row();
        // A response that broke off before it began was counted then.
        if self.outcome.refused.is_none() {
            self.worker.counters.refused(refusal.reject);
        }
        self.outcome.status = row.status.as_u16();
        if matches!(refusal.reject, Reject::TooManyRequests | Reject::Banned) {
            self.connection.fast_lane.lose(&self.worker.shared.fast_lane, self.began.monotonic);
        }
        if let Some(signal) = row.signal {
            self.observed(signal, refusal.claimed.as_deref(), &refusal.policies);
            self.look_for_scanner(signal);
        }
        self.outcome.refused = Some((row, refusal.detail));
        self.outcome.policies = refusal.policies;
        self.outcome.violations = refusal.violations;
        row
    }

    /// The response breaks off after its head was sent.
    pub(in crate::proxy) fn broke_off(&mut self, refusal: Refusal) {
        self.worker.counters.refused(refusal.reject);
        self.outcome.refused = Some((refusal.row(), refusal.detail));
    }

    /// Counts what requirements in shadow would have denied the request for.
    pub(super) fn would_deny(&mut self, access: &Access, would: WouldDeny) {
        let principal = self.identity.as_ref().map(|identity| identity.principal().to_owned());
        access.count(&would, &principal.unwrap_or_else(|| self.client.source.to_string()));
        self.outcome.would_deny = would.into_first().map(|(part, refusal)| (part.name(), refusal.detail));
    }

    /// A step of the request has ended.
    pub(super) fn ended(&mut self, step: TraceStep) {
        if let Some(trace) = &mut self.trace {
            trace.ended(step);
        }
    }

    /// Tells the trace of the request, where it is to be told.
    fn tell_trace(&self, mut recorder: Recorder) {
        if !recorder.is_sampled && self.outcome.status < 500 {
            return;
        }
        recorder.ended(TraceStep::Respond);
        let took = recorder.steps.last().map_or(0, |step| step.after.saturating_add(step.took));
        let line = self.request.line.as_ref();
        let (upstream, attempts) = (self.upstream(), &self.outcome.attempts);
        self.worker.traced(Trace {
            id: recorder.id,
            span: recorder.span,
            parent: recorder.parent,
            began: self.began.unix_millis.saturating_mul(1_000_000),
            took,
            method: line.map_or_else(|| "_OTHER".to_owned(), |(method, ..)| trace::method(method)),
            route: self.compiled_route().map(|route| label(&route.template)),
            status: self.outcome.status,
            scheme: self.scheme().to_owned(),
            version: line.map_or("", |(_, version, _)| protocol(*version)).trim_start_matches("HTTP/").to_owned(),
            refusal: self.outcome.refused.as_ref().map(|(row, _)| row.label.to_owned()),
            tls: self.connection.secured.get().map(|secured| secured.version.to_owned()),
            upstream: upstream.map(|upstream| label(&upstream.name)),
            server: upstream.and_then(|upstream| upstream.servers.get(attempts.server?)).map(|it| label(&it.address)),
            upstream_status: recorder.upstream_status,
            retries: attempts.retries,
            request_id: self.id.0,
            steps: recorder.steps,
        });
    }

    /// Notes what the access log says of a request besides what is known anyway. Most say nothing, and nothing is done.
    pub(super) fn note(&mut self, headers: &HeaderMap) {
        let log = &self.snapshot().access_log;
        if !log.notes() {
            return;
        }
        let tls = || self.trace.as_ref().map_or_else(|| self.connection.handshake(), |trace| trace.handshake());
        let timings = log.is_timed.then(|| Timings { tls: tls(), ..Timings::default() });
        self.noted = Some(Box::new(Noted {
            request: pick(&log.request_headers, headers),
            response: Box::default(),
            trace_id: if log.has_trace_id { trace_id(headers) } else { None },
            timings,
        }));
    }

    /// Notes what it says of the response.
    pub(super) fn note_response(&mut self, headers: &HeaderMap) {
        let snapshot = self.listener.snapshot();
        if let Some(noted) = &mut self.noted {
            noted.response = pick(&snapshot.access_log.response_headers, headers);
        }
    }

    /// Whether steps of it are timed.
    pub(super) fn is_timed(&self) -> bool {
        self.noted.as_ref().is_some_and(|noted| noted.timings.is_some())
    }

    /// The time, where steps are timed.
    pub(super) fn clock(&self) -> Option<u64> {
        self.is_timed().then(crate::os::clock::monotonic)
    }

    /// Notes how long steps took.
    pub(super) fn time(&mut self, set: impl FnOnce(&mut Timings)) {
        if let Some(timings) = self.noted.as_mut().and_then(|noted| noted.timings.as_mut()) {
            set(timings);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.settle_limits();
        if self.counted {
            self.connection.end();
            self.worker.counters.answered((self.outcome.status != CLIENT_LEFT).then_some(self.outcome.status));
        }
        let took = self.measure();
        if let Some(recorder) = self.trace.take().filter(|_| !self.routing.is_health) {
            self.tell_trace(*recorder);
        }
        if let Some(identity) =
            self.identity.as_ref().filter(|_| self.outcome.forwarded && self.outcome.refused.is_none())
            && (200..400).contains(&self.outcome.status)
        {
            self.worker.good_clients.note(self.client.source, identity.principal());
        }
        if self.counted && !self.routing.is_health {
            self.profile();
            self.complete(took);
        }
        self.log(took);
    }
}

impl Exchange {
    /// How long it has taken so far, in nanoseconds.
    fn took(&self) -> u64 {
        crate::os::clock::monotonic().saturating_sub(self.began.monotonic)
    }

    /// Adds it to what is measured of requests. Returns how long it took, where that is measured.
    fn measure(&self) -> Option<u64> {
        let measures = self.listener.generation.measures().filter(|_| self.counted)?;
        let (outcome, took) = (&self.outcome, self.took());
        measures.note(MeasuredRequest {
            route: match self.routing.route {
                _ if self.routing.is_health => MeasuredRoute::Health,
                Some(route) => MeasuredRoute::Route(route),
                None if outcome.status == LIMITED_STATUS => MeasuredRoute::Limited,
                None => MeasuredRoute::None,
            },
            status: (outcome.status != CLIENT_LEFT).then_some(outcome.status),
            took,
            bytes_in: outcome.bytes_in.as_ref().map_or(0, |bytes| bytes.get()),
            bytes_out: outcome.bytes_out,
        });
        Some(took)
    }

    /// Writes its line of the access log, if it gets one. `took`: nanoseconds, where they were measured.
    fn log(&self, took: Option<u64>) {
        let served = self.compiled_route();
        let Some(listener) = self.listener.settings() else { return };
        let is_wanted = listener.access_log && served.is_none_or(|route| route.access_log) && !self.routing.is_health;
        if !is_wanted && self.outcome.refused.is_none() {
            return;
        }
        let took = took.unwrap_or_else(|| self.took());
        let log = &self.snapshot().access_log;
        let route = served.map(|route| &*route.template);
        let would_deny = self.outcome.would_deny();
        let kept = ServedRequest {
            id: self.id,
            status: self.outcome.status,
            duration_us: took / 1_000,
            route,
            is_reported: would_deny.is_some(),
        };
        if self.outcome.refused.is_none() && !log.keeps(&kept) {
            return;
        }
        let (method, version, path) = match &self.request.line {
            Some((method, version, path)) => (Some(method.as_str()), Some(*version), path.as_ref()),
            None => (None, None, None),
        };
        let secured = self.connection.secured.get();
        let (upstream, attempts) = (self.upstream(), &self.outcome.attempts);
        let server = upstream.and_then(|upstream| upstream.servers.get(attempts.server?));
        let detail = self.outcome.detail();
        let line = LogLine {
            unix_millis: self.began.unix_millis,
            id: self.id,
            client: self.client.address,
            source: self.client.source,
            relay: self.client.relay,
            listener: listener.address,
            scheme: self.scheme(),
            protocol: version.map(protocol),
            tls: secured.map(|secured| secured.version),
            ja4: self.connection.ja4(),
            host: self.request.target.as_ref().map(Target::host),
            method,
            path: self.request.target.as_ref().map(Target::path).or(path.map(PathAndQuery::path)),
            query: path.and_then(PathAndQuery::query),
            request_id: self.info.as_ref().and_then(|told| told.id.as_ref()?.to_str().ok()),
            status: self.outcome.status,
            reject: self.outcome.refused.as_ref().map(|(row, _)| row.label),
            limit: self.outcome.policies.first().map(AsRef::as_ref),
            detail: detail.as_deref(),
            would_deny,
            signal: self.outcome.signal().map(Signal::name),
            principal: self.identity.as_ref().map(|identity| identity.principal()),
            rule: self.outcome.rule.as_deref(),
            route,
            upstream: upstream.map(|upstream| upstream.name.as_str()),
            server: server.map(|server| server.address.as_str()),
            retries: attempts.server.map(|_| attempts.retries),
            grpc_status: self.outcome.grpc_status,
            bytes_in: self.outcome.bytes_in.as_ref().map_or(0, |bytes| bytes.get()),
            bytes_out: self.outcome.bytes_out,
            duration_us: kept.duration_us,
            noted: self.noted.as_deref(),
        };
        self.worker.lines.add(|out| log.write(&line, out));
    }
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
