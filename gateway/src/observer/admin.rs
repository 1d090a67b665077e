//! The admin listener: who may ask what, and the answers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use places::Places;
pub(super) use server::{Socket, serve};

use super::{exposition::Format, store::Store, traces::Exporter};
use crate::{
    message::{
        observer::ObserverConfig,
        telemetry::{Metric, Role, Samples, Telemetry},
    },
    resident::Resident,
    sandbox,
};

mod access;
mod places;
mod server;

/// So old a text may be for whoever asks again: many clients cost as much as one.
const FRESH: Duration = Duration::from_millis(200);

/// What is served, and to whom.
pub(super) struct Admin {
    config: RefCell<ObserverConfig>,
    tls: RefCell<Option<Arc<rustls::ServerConfig>>>,
    store: Rc<RefCell<Store>>,
    answers: RefCell<BTreeMap<u16, u64>>,
    written: RefCell<HashMap<Format, (Instant, Bytes)>>,
    connections: RefCell<Places>,
    exporter: Rc<Exporter>,
    own: Own,
}

/// What the observer knows of itself.
pub(super) struct Own {
    /// What is left to it.
    pub(super) sandbox: sandbox::Report,
    /// `None`: its memory is not known.
    pub(super) resident: Option<Resident>,
}

impl Admin {
    pub(super) fn new(
        config: ObserverConfig,
        store: Rc<RefCell<Store>>,
        exporter: Rc<Exporter>,
        own: Own,
    ) -> anyhow::Result<Self> {
        let admin = Self {
            config: RefCell::default(),
            tls: RefCell::default(),
            store,
            answers: RefCell::default(),
            written: RefCell::default(),
            connections: RefCell::default(),
            exporter,
            own,
        };
        admin.configure(config)?;
        Ok(admin)
    }

    /// Goes on with another configuration, for whoever connects from now on.
    pub(super) fn configure(&self, config: ObserverConfig) -> anyhow::Result<()> {
        let tls = config.tls.as_ref().map(|tls| tls.compile().map_err(|fault| anyhow::anyhow!("{fault}")));
        *self.tls.borrow_mut() = tls.transpose()?;
        self.exporter.configure(config.traces.clone());
        *self.config.borrow_mut() = config;
        Ok(())
    }

    /// Notes what the observer measures of itself.
    pub(super) fn measure(&self) {
        let mut store = self.store.borrow_mut();
        let mut samples = Samples::default();
        samples.level(Metric::ObserverSeries, &[], u64::try_from(store.series()).unwrap_or(u64::MAX));
        samples.count(Metric::ObserverRefused, &[], store.refused());
        samples.count(Metric::Lost, &["traces_exported"], self.exporter.lost());
        samples.sandbox("observer", &self.own.sandbox);
        if let Some(bytes) = self.own.resident.as_ref().and_then(|resident| resident.bytes().ok()) {
            samples.level(Metric::Memory, &["observer"], bytes);
        }
        for (code, count) in &*self.answers.borrow() {
            samples.count(Metric::AdminRequests, &[&code.to_string()], *count);
        }
        let telemetry = Telemetry { serves: true, changed: samples.into_inner(), gone: Vec::new(), traces: Vec::new() };
        store.hear((Role::Observer, 0), telemetry);
    }

    /// Answers one request.
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let answered = self.judge(request);
        *self.answers.borrow_mut().entry(answered.status().as_u16()).or_default() += 1;
        answered
    }

    fn judge<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let config = self.config.borrow();
        if !config.is_unix && !access::is_ours(request, &config.hosts) {
            return text(StatusCode::FORBIDDEN, "this host name is not one of admin.hosts\n");
        }
        let path = request.uri().path();
        // Whoever asks for health has no token, and is told nothing but that.
        let is_health = matches!(path, "/healthz" | "/readyz");
        if let Some(token) = config.token.as_deref().filter(|_| !is_health)
            && !access::has_token(request.headers(), token)
        {
            let mut refused = text(StatusCode::UNAUTHORIZED, "the token of admin.token_file is needed\n");
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return refused;
        }
        if !is_health && path != "/metrics" {
            return text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n");
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are allowed\n");
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" if self.store.borrow().is_ready() => text(StatusCode::OK, "ok\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "no proxy serves clients\n"),
            _ => self.metrics(request.headers()),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
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

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", Bytes::from_static(body.as_bytes()))
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(token: Option<&str>) -> ObserverConfig {
        ObserverConfig {
            hosts: vec!["gate.internal".to_owned()],
            token: token.map(|token| token.as_bytes().to_vec()),
            ..ObserverConfig::default()
        }
    }

    fn own() -> Own {
        let sandbox = sandbox::Report { capabilities: Vec::new(), landlock: String::new(), seccomp: 0 };
        Own { sandbox, resident: None }
    }

    #[track_caller]
    fn check(token: Option<&str>, request: &[(&str, &str)], path: &str, expect: u16) {
        let mut store = Store::default();
        store.hear((Role::Proxy, 1), Telemetry { serves: true, ..Telemetry::default() });
        let admin = Admin::new(config(token), Rc::new(RefCell::new(store)), Rc::default(), own()).unwrap();
        let mut built = Request::builder().uri(path);
        for (name, value) in request {
            built = if *name == "method" { built.method(*value) } else { built.header(*name, *value) };
        }
        let answered = admin.answer(&built.body(()).unwrap());
        assert_eq!(answered.status().as_u16(), expect, "{token:?} {request:?} {path}");
        admin.measure();
        let told = Format::Text.write(&admin.store.borrow().sums());
        let row = format!("gateway_admin_requests_total{{code=\"{expect}\"}} 1\n");
        assert!(String::from_utf8(told).unwrap().contains(&row), "{row}");
    }

    #[test]
    fn who_may_ask_what() {
        let host = ("host", "127.0.0.1:9901");
        check(None, &[host], "/metrics", 200);
        check(None, &[("host", "localhost")], "/metrics?x=1", 200);
        check(None, &[("host", "[::1]:9901")], "/metrics", 200);
        check(None, &[("host", "GATE.internal:9901")], "/metrics", 200);
        check(None, &[("host", "evil.example")], "/metrics", 403);
        check(None, &[("host", "evil.example")], "/healthz", 403);
        check(None, &[], "/metrics", 403);
        check(None, &[host, ("host", "localhost")], "/metrics", 403);
        check(None, &[host], "/", 404);
        check(None, &[host], "/metrics/", 404);
        check(None, &[host, ("method", "HEAD")], "/metrics", 200);
        check(None, &[host, ("method", "POST")], "/metrics", 405);
        check(None, &[host, ("method", "DELETE")], "/readyz", 405);
        check(None, &[host], "/readyz", 200);
        let secret = Some("0123456789abcdef");
        check(secret, &[host], "/metrics", 401);
        check(secret, &[host], "/unknown", 401);
        check(secret, &[host, ("authorization", "Bearer 0123456789abcdeF")], "/metrics", 401);
        check(secret, &[host, ("authorization", "Basic 0123456789abcdef")], "/metrics", 401);
        check(secret, &[host, ("authorization", "bearer 0123456789abcdef")], "/metrics", 200);
        check(secret, &[host], "/healthz", 200);
    }

    #[test]
    fn nobody_serves_at_first() {
        let admin = Admin::new(config(None), Rc::default(), Rc::default(), own()).unwrap();
        let request = Request::builder().uri("/readyz").header("host", "localhost").body(()).unwrap();
        assert_eq!(admin.answer(&request).status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
