//! What the guard tells the observer: what to serve, and where the numbers of each process come from.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    observer::{anomalies::ContributorsShown, collector::Collector},
    telemetry::Telemetry,
};
use crate::{
    diagnostic::Diagnostic,
    settings::{
        self,
        crowdsec::{self, LocalApi},
        feed::{Feed, FeedSource},
    },
    tls,
};

pub mod alert;
pub mod anomalies;
pub mod collector;
pub mod delivery;
pub mod event;
pub mod fetch;
pub mod relay;

/// What the guard tells the observer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToObserver {
    /// The first message. Carries the [`ObserverConfig`] as a sealed memory file, then the admin listener's socket.
    Start,
    /// Carries another [`ObserverConfig`].
    Configure,
    /// Carries the socket by which a proxy tells what it measures.
    Proxy {
        /// Larger than that of any proxy before.
        generation: u64,
    },
    /// Carries a sealed [`Delivery`](super::observer::delivery::Delivery), and the socket that takes one
    /// [`Delivered`](super::observer::delivery::Delivered).
    Deliver,
    /// Carries a sealed [`Fetch`](fetch::Fetch), the socket that takes one [`Fetched`](fetch::Fetched), and a file in memory
    /// with room for the body.
    Fetch,
    /// Carries the socket by which commands of operators are relayed to the guard: [`Relayed`](super::observer::relay::Relayed)
    /// there, [`Answered`](super::observer::relay::Answered) back.
    Relay,
    /// Carries the socket by which the guard tells its decisions: an [`Event`](super::observer::event::Event) each.
    Events,
    /// Carries the socket by which the observer says what is not usual: [`Deviations`](super::observer::anomalies::Deviations) each.
    Findings,
    /// From whom something comes that it has said is not usual.
    Contributors(Box<ContributorsShown>),
    /// Carries the files in which the observer keeps what outlives it: two for alerts and two for what is usual. One of
    /// two is always whole.
    Files,
    /// Carries a sealed [`AlertQuestion`](alert::AlertQuestion), and the socket that takes one [`Said`](alert::ObserverAnswer).
    Ask,
    /// What the guard measures itself.
    Telemetry(Telemetry),
}

/// Everything that the observer needs of the configuration.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObserverConfig {
    /// `admin.hosts`.
    pub hosts: Vec<String>,
    /// Whether the listener is a Unix socket: then any host may be named.
    pub is_unix: bool,
    /// `None`: plain HTTP.
    pub tls: Option<AdminTls>,
    /// The bearer token that is asked for.
    pub token: Option<Vec<u8>>,
    /// `admin.dashboard`.
    pub dashboard: bool,
    /// Where traces are sent; `None`: nowhere.
    pub traces: Option<Collector>,
    /// Where metrics are sent, and every how many seconds.
    pub metrics: Option<(Collector, u64)>,
    /// Where decisions are sent.
    pub logs: Option<Collector>,
    /// What somebody is told of, and how.
    pub alerts: settings::alert::Settings,
    /// When something is not usual; `None`: nothing is learned.
    pub anomalies: Option<settings::anomalies::Settings>,
    /// The lists that are fetched.
    pub feeds: Vec<FeedSource>,
    /// How CrowdSec is asked.
    pub crowdsec: Option<LocalApi>,
}

/// Without the token and the private key.
impl fmt::Debug for ObserverConfig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hosts, is_unix, tls, token, dashboard, traces, metrics, logs, alerts, anomalies, feeds, crowdsec } =
            self;
        let (tls, token) = (tls.is_some(), token.is_some());
        write!(
            out,
            "ObserverConfig({hosts:?}, {is_unix}, {tls}, {token}, {dashboard}, {traces:?}, {metrics:?}, {logs:?}, \
             {alerts:?}, {anomalies:?}, {feeds:?}, {crowdsec:?})"
        )
    }
}

/// TLS of the admin listener, all of it PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminTls {
    /// The chain, leaf first.
    pub certificate: Vec<u8>,
    /// Its key.
    pub private_key: Vec<u8>,
    /// Whose client certificates are accepted; `None`: none is asked for.
    pub client_ca: Option<Vec<u8>>,
}

/// A token that is shorter could be guessed.
const SHORTEST_TOKEN: usize = 16;

impl ObserverConfig {
    /// What the observer needs, once it is known that it can be used.
    ///
    /// # Errors
    /// Files that are not what they should be.
    pub fn new(
        settings: &settings::admin::Settings,
        traces: Option<&settings::traces::Settings>,
        otlp: &settings::otlp::Settings,
        (alerts, anomalies): (&settings::alert::Settings, Option<&settings::anomalies::Settings>),
        (feeds, crowdsec): (&[Feed], Option<&crowdsec::Settings>),
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let mut collector = |table: &str, settings: Option<&settings::otlp::OtlpCollector>| {
            let made = settings.map(|settings| Collector::new(settings).map_err(|fault| fault.under(table)));
            made.transpose().unwrap_or_else(|fault| {
                faults.push(fault);
                None
            })
        };
        let traces = collector("traces", traces.map(|traces| &traces.collector));
        let metrics = collector("otlp_metrics", otlp.metrics.as_ref().map(|metrics| &metrics.collector));
        let metrics = metrics.zip(otlp.metrics.as_ref().map(|metrics| metrics.interval.as_secs()));
        let logs = collector("otlp_logs", otlp.logs.as_ref());
        let tls = settings.certificate.as_ref().map(|pair| AdminTls {
            certificate: pair.certificate.bytes.to_vec(),
            private_key: pair.private_key.bytes.to_vec(),
            client_ca: settings.client_ca.as_ref().map(|file| file.bytes.to_vec()),
        });
        if let Some(tls) = &tls {
            faults.extend(tls.compile().err().map(|fault| fault.under("admin")));
        }
        let token = settings.token.as_ref().map(|file| {
            let token = file.bytes.trim_ascii();
            let is_token = token.len() >= SHORTEST_TOKEN && token.iter().all(u8::is_ascii_graphic);
            let wrong = || {
                let what = "holds no token: one line of at least 16 printable characters without spaces";
                let hint = format!("openssl rand -base64 32 > {}", file.path.display());
                Diagnostic::new("admin.token_file", what).hint(hint)
            };
            is_token.then(|| token.to_vec()).ok_or_else(wrong)
        });
        let is_unix = settings.listen.socket().is_some();
        let token = token.transpose().unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let alerts = alert::complete(alerts, &mut faults);
        let feeds = feeds.iter().enumerate().filter_map(|(index, feed)| Some((index, feed.fetched()?.source.clone())));
        let feeds = fetch::complete(feeds.collect(), &mut faults);
        let crowdsec = crowdsec.map(|settings| settings.api.clone());
        crowdsec.iter().for_each(|api| fetch::complete_crowdsec(api, &mut faults));
        if !faults.is_empty() {
            return Err(faults);
        }
        let (hosts, anomalies, dashboard) = (settings.hosts.clone(), anomalies.cloned(), settings.dashboard);
        Ok(Self { hosts, is_unix, tls, token, dashboard, traces, metrics, logs, alerts, anomalies, feeds, crowdsec })
    }
}

impl AdminTls {
    /// How TLS is spoken.
    ///
    /// # Errors
    /// Something is not what it should be.
    pub fn compile(&self) -> Result<std::sync::Arc<rustls::ServerConfig>, Diagnostic> {
        tls::admin(&self.certificate, &self.private_key, self.client_ca.as_deref())
    }
}
