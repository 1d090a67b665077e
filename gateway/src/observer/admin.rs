//! The admin listener: who may ask what, and the answers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use tokio::sync::mpsc;

use places::{OpenConnections, PeerAddress};
use responses::{ResponseBody, events, response, text};
pub(super) use server::{AdminSocket, serve};
use stream::Stream;

use super::{
    alert::Alerts, baseline::Baselines, export::Exports, exposition::Format, history::History, relay::Relay,
    store::Store,
};
use crate::{
    message::{
        observer::{ObserverConfig, relay::Relayed},
        telemetry::{Metric, MetricRole, Samples, Series, Telemetry},
    },
    os::{clock::Now, resident::Resident, sandbox},
};

mod access;
mod commands;
mod dashboard;
mod places;
mod responses;
mod server;
mod stream;

/// So old a text may be for whoever asks again: many clients cost as much as one.
const FRESH: Duration = Duration::from_millis(200);

/// What is served, and to whom.
pub(super) struct Admin {
    config: Rc<RefCell<ObserverConfig>>,
    tls: RefCell<Option<Arc<rustls::ServerConfig>>>,
    store: Rc<RefCell<Store>>,
    answers: RefCell<BTreeMap<u16, u64>>,
    written: RefCell<HashMap<Format, (Instant, Bytes)>>,
    connections: Rc<RefCell<OpenConnections>>,
    exports: Rc<Exports>,
    alerts: Rc<Alerts>,
    baselines: Rc<Baselines>,
    relay: Rc<Relay>,
    /// For the dashboard.
    history: Rc<RefCell<History>>,
    own: ObserverState,
    /// The series of its own that were told last.
    told: RefCell<BTreeSet<Series>>,
}

/// What is to become of a request.
enum RequestDecision {
    /// It is answered, without a token or with one that is not good.
    Answered(Response<ResponseBody>),
    /// It has the token that it takes, and is answered.
    Known(Response<ResponseBody>),
    /// The guard answers it.
    Command(Relayed),
    /// The guard answers it, again and again, with what happens meanwhile.
    Stream(Relayed),
}

/// What the observer knows of itself.
pub(super) struct ObserverState {
    /// What is left to it.
    pub(super) sandbox: sandbox::SandboxReport,
    /// `None`: its memory is not known.
    pub(super) resident: Option<Resident>,
}

impl Admin {
    pub(super) fn new(
        config: ObserverConfig,
        store: Rc<RefCell<Store>>,
        (exports, alerts, baselines): (Rc<Exports>, Rc<Alerts>, Rc<Baselines>),
        relay: Rc<Relay>,
        own: ObserverState,
    ) -> anyhow::Result<Self> {
        let admin = Self {
            config: Rc::default(),
            tls: RefCell::default(),
            store,
            answers: RefCell::default(),
            written: RefCell::default(),
            connections: Rc::default(),
            exports,
            alerts,
            baselines,
            relay,
            history: Rc::default(),
            own,
            told: RefCell::default(),
        };
        admin.configure(config)?;
        Ok(admin)
    }

    /// Goes on with another configuration, for whoever connects from now on.
    pub(super) fn configure(&self, config: ObserverConfig) -> anyhow::Result<()> {
        let tls = config.tls.as_ref().map(|tls| tls.compile().map_err(|fault| anyhow::anyhow!("{fault}")));
        *self.tls.borrow_mut() = tls.transpose()?;
        self.exports.traces.configure(config.traces.as_ref());
        self.exports.metrics.configure(config.metrics.as_ref());
        self.exports.logs.configure(config.logs.as_ref());
        self.alerts.configure(&config.alerts, Now::read());
        self.baselines.configure(config.anomalies.as_ref());
        *self.config.borrow_mut() = config;
        Ok(())
    }

    /// Notes what the dashboard shows of the last hour, where there is one.
    pub(super) fn remember(&self, now: Now) {
        let is_on = self.config.borrow().dashboard;
        self.history.borrow_mut().tick(is_on, || self.store.borrow().sums(), now);
    }

    /// Notes what the observer measures of itself.
    pub(super) fn measure(&self) {
        let mut store = self.store.borrow_mut();
        let mut samples = Samples::default();
        samples.level(Metric::ObserverSeries, &[], u64::try_from(store.series()).unwrap_or(u64::MAX));
        samples.count(Metric::ObserverRefused, &[], store.refused());
        self.exports.measure(&mut samples);
        self.alerts.measure(&mut samples, Now::read());
        self.baselines.measure(&mut samples);
        for (role, name) in [(MetricRole::Guard, "guard"), (MetricRole::Proxy, "proxy")] {
            let nanos = u64::try_from(store.silence(role).as_nanos()).unwrap_or(u64::MAX);
            samples.seconds(Metric::Silence, &[name], nanos);
        }
        samples.sandbox("observer", &self.own.sandbox);
        if let Some(bytes) = self.own.resident.as_ref().and_then(|resident| resident.bytes().ok()) {
            samples.level(Metric::Memory, &["observer"], bytes);
        }
        for (code, count) in &*self.answers.borrow() {
            samples.count(Metric::AdminRequests, &[&code.to_string()], *count);
        }
        let changed = samples.into_inner();
        let now: BTreeSet<Series> = changed.iter().map(|(series, _)| series.clone()).collect();
        let before = self.told.replace(now.clone());
        let gone = before.difference(&now).cloned().collect();
        let telemetry = Telemetry { serves: true, changed, gone, traces: Vec::new() };
        store.receive((MetricRole::Observer, 0), telemetry);
    }

    /// Answers one request, which came by the connection that has this place.
    async fn answer<B>(
        &self,
        request: Request<B>,
        (place, peer): (u64, PeerAddress),
        is_tls: bool,
    ) -> Response<ResponseBody>
    where
        B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let answered = match self.judge(&request, peer, is_tls) {
            RequestDecision::Answered(answered) => answered,
            RequestDecision::Known(answered) => match self.connections.borrow_mut().is_known(place) {
                true => answered,
                false => text(StatusCode::SERVICE_UNAVAILABLE, "there are as many clients as there may be\n"),
            },
            RequestDecision::Command(command) => self.command(command, place, request.into_body()).await,
            RequestDecision::Stream(command) => self.stream(command, place).await,
        };
        *self.answers.borrow_mut().entry(answered.status().as_u16()).or_default() += 1;
        answered
    }

    /// Has the guard answer a command. Whoever sends its arguments slowly is a stranger all the while.
    async fn command<B>(&self, command: Relayed, place: u64, body: B) -> Response<ResponseBody>
    where
        B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let arguments = match commands::arguments(body).await {
            Ok(arguments) => arguments,
            Err(refused) => return *refused,
        };
        self.connections.borrow_mut().is_judged(place);
        let answered = commands::answered(self.relay.ask(Relayed { arguments, ..command }).await);
        let mut connections = self.connections.borrow_mut();
        // The guard has not judged the token, or has found it bad.
        let unknown = [StatusCode::UNAUTHORIZED, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        // Where there is no place more, what was done is told all the same.
        if unknown.contains(&answered.status()) || !connections.is_known(place) {
            connections.is_strange(place);
        }
        answered
    }

    /// Tells whoever may see how things are, as they change.
    async fn stream(&self, command: Relayed, place: u64) -> Response<ResponseBody> {
        self.connections.borrow_mut().is_judged(place);
        let first = match self.relay.ask(command.clone()).await {
            Ok((200, first)) => first,
            other => {
                self.connections.borrow_mut().is_strange(place);
                return commands::answered(other);
            }
        };
        if !self.connections.borrow_mut().streams(place, &command.token) {
            // The token is good, and no longer judged.
            let mut connections = self.connections.borrow_mut();
            if !connections.is_known(place) {
                connections.is_strange(place);
            }
            let why = "as many are told what happens as may be, or as many with this token: try again\n";
            return text(StatusCode::SERVICE_UNAVAILABLE, why);
        }
        let (sender, receiver) = mpsc::channel(stream::PENDING);
        let stream = self.stream_of(command, place);
        tokio::task::spawn_local(stream.run(first, sender, stream::EVERY));
        events(receiver)
    }

    fn stream_of(&self, command: Relayed, place: u64) -> Stream {
        Stream {
            config: Rc::clone(&self.config),
            connections: Rc::clone(&self.connections),
            history: Rc::clone(&self.history),
            relay: Rc::clone(&self.relay),
            command,
            place,
        }
    }

    fn judge<B>(&self, request: &Request<B>, peer: PeerAddress, is_tls: bool) -> RequestDecision {
        let config = self.config.borrow();
        if !config.is_unix && !access::is_ours(request, &config.hosts) {
            return RequestDecision::Answered(text(
                StatusCode::FORBIDDEN,
                "this host name is not one of admin.hosts\n",
            ));
        }
        if commands::is_command(request.uri().path()) {
            return commands::read(request, peer, is_tls)
                .map_or_else(|refused| RequestDecision::Answered(*refused), RequestDecision::Command);
        }
        if config.dashboard && request.uri().path() == dashboard::EVENTS {
            return match commands::caller(request, peer, is_tls) {
                Err(refused) => RequestDecision::Answered(*refused),
                Ok(_) if request.method() != Method::GET => {
                    let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET is allowed\n");
                    refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
                    RequestDecision::Answered(refused)
                }
                Ok(token) => RequestDecision::Stream(stream::command(peer, token)),
            };
        }
        self.tell(request, &config)
    }

    fn tell<B>(&self, request: &Request<B>, config: &ObserverConfig) -> RequestDecision {
        let path = request.uri().path();
        // A browser has no token before the page asks for one. The page is the same everywhere.
        if let Some(file) = dashboard::find(path).filter(|_| config.dashboard) {
            let is_asked = matches!(*request.method(), Method::GET | Method::HEAD);
            return RequestDecision::Answered(if is_asked { file.response() } else { only_get() });
        }
        // Whoever asks for health has no token, and is told nothing but that.
        let is_health = matches!(path, "/healthz" | "/readyz");
        if let Some(token) = config.token.as_deref().filter(|_| !is_health)
            && !access::has_token(request.headers(), token)
        {
            let mut refused = text(StatusCode::UNAUTHORIZED, "the token of admin.token_file is needed\n");
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return RequestDecision::Answered(refused);
        }
        let answered = self.look(request, path, is_health);
        if is_health || config.token.is_none() {
            RequestDecision::Answered(answered)
        } else {
            RequestDecision::Known(answered)
        }
    }

    fn look<B>(&self, request: &Request<B>, path: &str, is_health: bool) -> Response<ResponseBody> {
        if !is_health && path != "/metrics" {
            return text(StatusCode::NOT_FOUND, "there are /metrics, /healthz, /readyz and /v1/COMMAND\n");
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return only_get();
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" if self.store.borrow().is_ready() => text(StatusCode::OK, "ok\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "no proxy serves clients\n"),
            _ => self.metrics(request.headers()),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<ResponseBody> {
        let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let format = Format::wanted(&accept.collect::<Vec<_>>().join(","));
        let mut written = self.written.borrow_mut();
        let known = written.get(&format).filter(|(when, _)| when.elapsed() < FRESH);
        let body = match known {
            Some((_, body)) => body.clone(),
            None => {
                let body = Bytes::from(format.write(&self.store.borrow().sums()));
                written.insert(format, (Instant::now(), body.clone()));
                body
            }
        };
        response(StatusCode::OK, format.content_type(), body)
    }
}

fn only_get() -> Response<ResponseBody> {
    let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are allowed\n");
    refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    refused
}

#[cfg(test)]
mod tests;
