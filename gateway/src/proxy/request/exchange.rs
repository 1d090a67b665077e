//! One exchange, a request and its response: what is known of it, and the one exit that counts, logs and signals.
//!
//! *Invariant:* every request that was read makes one line in the access log, once its response is sent, cut off or given
//! up. Where the access log is off, only refusals are logged: they are evidence. Every [`Reject`] with a Signal is noted
//! before its response goes out.

use std::{borrow::Cow, cell::Cell, rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue, Version, uri::PathAndQuery};

use super::trace::{self, Recorder};
use crate::{
    auth::Identity,
    client::{Client, forwarded::ForwardedInfo},
    clock::Now,
    detect::BanRequest,
    log::{
        access::Served,
        line::{Line, Noted, Timings, pick, trace_id},
        text::hexadecimal,
    },
    message::telemetry::{Step, Trace},
    proxy::{
        body::Incoming,
        connection::Connection,
        generation::ListenerRef,
        service::RequestLine,
        timing::deadline,
        upstream::Attempts,
        worker::{
            Worker,
            measures::{Measured, MeasuredRoute},
        },
    },
    refusal::{Refusal, Reject, Row},
    request_id::RequestId,
    route::target::Target,
    settings::timeouts::Timeouts,
    signal::Signal,
    snapshot::{CompiledRoute, Snapshot},
};

/// What the log says of a client that left before it was answered.
const CLIENT_LEFT: u16 = 499;

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
    pub(in crate::proxy) outcome: Outcome,
    /// `None`: nothing is traced.
    pub(super) trace: Option<Box<Recorder>>,
    /// Whether it is an exchange: what happens on a connection outside of any request is told in the same way.
    counted: bool,
    /// What the access log says besides, where it does.
    noted: Option<Box<Noted>>,
}

/// What has been read of the request.
#[derive(Default)]
pub(in crate::proxy) struct ReceivedRequest {
    /// `None`: nothing of it could be read.
    pub(in crate::proxy) line: Option<RequestLine>,
    pub(in crate::proxy) target: Option<Target>,
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
    /// What pages of other origins may do, where there is no route: an index into [`Snapshot::cors`](crate::snapshot::Snapshot::cors).
    pub(in crate::proxy) cors: Option<usize>,
    /// Whether it asks for `listener.health`.
    pub(in crate::proxy) is_health: bool,
    /// The methods that a 405 names.
    pub(in crate::proxy) allow: Option<HeaderValue>,
}

/// What came of the request.
pub(in crate::proxy) struct Outcome {
    pub(in crate::proxy) status: u16,
    /// Bytes of the request's body so far.
    pub(in crate::proxy) bytes_in: Option<Rc<Cell<u64>>>,
    pub(in crate::proxy) bytes_out: u64,
    /// Why a tunnel ended, if neither side ended it.
    pub(in crate::proxy) ended: Option<&'static str>,
    /// Whether it went to its upstream.
    forwarded: bool,
    refused: Option<(Row, Cow<'static, str>)>,
    /// The rule that asked for a ban because of it.
    rule: Option<Box<str>>,
    /// How it was forwarded, once that is over.
    pub(super) attempts: Attempts,
    /// The status of a gRPC call.
    pub(super) grpc_status: Option<u32>,
}

impl Outcome {
    /// What is logged if the client leaves before it is answered.
    const fn unanswered() -> Self {
        Self {
            status: CLIENT_LEFT,
            bytes_in: None,
            bytes_out: 0,
            ended: None,
            forwarded: false,
            refused: None,
            rule: None,
            attempts: Attempts::none(),
            grpc_status: None,
        }
    }
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
        exchange.observed(signal);
        let row = Row { status: http::StatusCode::BAD_REQUEST, title: "", label: signal.name(), signal: Some(signal) };
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
        let row = Row { status: http::StatusCode::BAD_REQUEST, title: "", label: "failed_handshake", signal: None };
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
            outcome: Outcome::unanswered(),
            noted: None,
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
        self.routing.route.and_then(|route| self.snapshot().served.get(route))
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

    /// The exchange ends with a refusal. Its signal is noted now, before the response leaves.
    pub(in crate::proxy) fn refuse(&mut self, refusal: Refusal) -> Row {
        let row = refusal.row();
        // A response that broke off before it began was counted then.
        if self.outcome.refused.is_none() {
            self.worker.counters.refused(refusal.reject);
        }
        self.outcome.status = row.status.as_u16();
        if let Some(signal) = row.signal {
            self.observed(signal);
        }
        self.outcome.refused = Some((row, refusal.detail));
        row
    }

    /// The response breaks off after its head was sent.
    pub(in crate::proxy) fn broke_off(&mut self, refusal: Refusal) {
        self.worker.counters.refused(refusal.reject);
        self.outcome.refused = Some((refusal.row(), refusal.detail));
    }

    /// Whether the client is banned behind a trusted proxy: the kernel sees that proxy's packets alone. Counts the
    /// refusal on the ban.
    pub(in crate::proxy) fn is_banned(&self) -> bool {
        let client = &self.client;
        client.relay.is_some() && self.worker.shared.bans.refuses(client.address.ip(), deadline::now())
    }

    /// A step of the request has ended.
    pub(super) fn ended(&mut self, step: Step) {
        if let Some(trace) = &mut self.trace {
            trace.ended(step);
        }
    }

    /// Tells the trace of the request, where it is to be told.
    fn tell_trace(&self, mut recorder: Recorder) {
        if !recorder.is_sampled && self.outcome.status < 500 {
            return;
        }
        recorder.ended(Step::Respond);
        let took = recorder.steps.last().map_or(0, |step| step.after.saturating_add(step.took));
        let settings = &self.listener.snapshot().settings;
        let served = self.compiled_route();
        let upstream = served.filter(|_| self.outcome.forwarded).and_then(|route| route.action.upstream());
        let upstream = upstream.and_then(|upstream| settings.upstreams.get(upstream));
        let line = self.request.line.as_ref();
        self.worker.traced(Trace {
            id: recorder.id,
            span: recorder.span,
            parent: recorder.parent,
            began: self.began.unix_millis.saturating_mul(1_000_000),
            took,
            method: line.map_or_else(|| "_OTHER".to_owned(), |(method, ..)| trace::method(method)),
            route: served.map(|route| trace::name(&route.template)),
            status: self.outcome.status,
            scheme: self.scheme().to_owned(),
            version: line.map_or("", |(_, version, _)| protocol(*version)).trim_start_matches("HTTP/").to_owned(),
            refusal: self.outcome.refused.as_ref().map(|(row, _)| row.label.to_owned()),
            upstream: upstream.map(|upstream| trace::name(&upstream.name)),
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
        let timings = log.is_timed.then(|| Timings { tls: self.connection.handshake(), ..Timings::default() });
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
        self.is_timed().then(crate::clock::monotonic)
    }

    /// Notes how long steps took.
    pub(super) fn time(&mut self, set: impl FnOnce(&mut Timings)) {
        if let Some(timings) = self.noted.as_mut().and_then(|noted| noted.timings.as_mut()) {
            set(timings);
        }
    }

    fn observed(&mut self, signal: Signal) {
        // A load balancer is not to blame for what it relays, and is never banned.
        if self.client.is_trusted {
            return;
        }
        self.worker.counters.signalled(signal);
        let (source, address) = (self.client.source, self.client.address.ip());
        let detector = &self.snapshot().detector;
        for ask in detector.note(signal, source, address, self.id, crate::clock::monotonic()) {
            self.outcome.rule = Some(ask.rule.as_str().into());
            self.worker.ask(BanRequest { relay: self.client.relay, ..ask });
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.counted {
            self.connection.end();
            self.worker.counters.answered((self.outcome.status != CLIENT_LEFT).then_some(self.outcome.status));
        }
        let took = || crate::clock::monotonic().saturating_sub(self.began.monotonic);
        let measured = self.listener.generation.measures().filter(|_| self.counted).map(|measures| {
            let (outcome, took) = (&self.outcome, took());
            measures.note(Measured {
                route: match self.routing.route {
                    _ if self.routing.is_health => MeasuredRoute::Health,
                    Some(route) => MeasuredRoute::Route(route),
                    None => MeasuredRoute::None,
                },
                status: (outcome.status != CLIENT_LEFT).then_some(outcome.status),
                took,
                bytes_in: outcome.bytes_in.as_ref().map_or(0, |bytes| bytes.get()),
                bytes_out: outcome.bytes_out,
            });
            took
        });
        if let Some(recorder) = self.trace.take().filter(|_| !self.routing.is_health) {
            self.tell_trace(*recorder);
        }
        if let Some(identity) =
            self.identity.as_ref().filter(|_| self.outcome.forwarded && self.outcome.refused.is_none())
            && (200..400).contains(&self.outcome.status)
        {
            self.worker.good_clients.note(self.client.source, identity.principal());
        }
        let settings = &self.snapshot().settings;
        let served = self.compiled_route();
        let upstream = served.filter(|_| self.outcome.forwarded).and_then(|route| route.action.upstream());
        let upstream = upstream.and_then(|upstream| settings.upstreams.get(upstream));
        let Some(listener) = self.listener.settings() else { return };
        let is_wanted = listener.access_log && served.is_none_or(|route| route.access_log) && !self.routing.is_health;
        if !is_wanted && self.outcome.refused.is_none() {
            return;
        }
        let took = measured.unwrap_or_else(took);
        let log = &self.snapshot().access_log;
        let route = served.map(|route| &*route.template);
        let kept = Served { id: self.id, status: self.outcome.status, duration_us: took / 1_000, route };
        if self.outcome.refused.is_none() && !log.keeps(&kept) {
            return;
        }
        let (method, version, path) = match &self.request.line {
            Some((method, version, path)) => (Some(method.as_str()), Some(*version), path.as_ref()),
            None => (None, None, None),
        };
        let secured = self.connection.secured.get();
        let attempts = &self.outcome.attempts;
        let server = upstream.and_then(|upstream| upstream.servers.get(attempts.server?));
        let line = Line {
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
            detail: self.outcome.refused.as_ref().map(|(_, detail)| &**detail).or(self.outcome.ended),
            signal: self.outcome.refused.as_ref().and_then(|(row, _)| row.signal).map(Signal::name),
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
