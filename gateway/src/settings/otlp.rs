//! Where telemetry is sent by OTLP over HTTP: `[traces]`, `[otlp_metrics]` and `[otlp_logs]`.

use std::time::Duration;

use super::audit::AnchorUrl;
use crate::os::file::NamedFile;

/// A collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpCollector {
    /// `endpoint`.
    pub endpoint: AnchorUrl,
    /// `ca`: who vouches for its certificate, where it is spoken to by TLS.
    pub ca: Option<NamedFile>,
    /// `headers_file`: headers of every request, as the file has them. It may hold secrets.
    pub headers: Option<NamedFile>,
    /// `service`: how the gateway calls itself.
    pub service: String,
}

/// `[otlp_metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where.
    pub collector: OtlpCollector,
    /// `interval`: how often.
    pub interval: Duration,
}

/// What is sent besides traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `None`: no metrics are sent.
    pub metrics: Option<Metrics>,
    /// `[otlp_logs]`; `None`: no records are sent.
    pub logs: Option<OtlpCollector>,
}
