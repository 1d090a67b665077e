//! Shows where telemetry is sent: `[traces]`, `[otlp_metrics]` and `[otlp_logs]`.

use serde_json::{Value, json};

use super::tls::file;
use crate::{
    config::value::show_duration,
    settings::{
        otlp::{Metrics, OtlpCollector},
        traces::{Accept, Settings as Traces},
    },
};

pub(super) fn traces(traces: &Traces) -> Value {
    let mut shown = logs(&traces.collector);
    let accept = Accept::NAMES.into_iter().find(|(_, accept)| *accept == traces.accept);
    if let Some(members) = shown.as_object_mut() {
        members.insert("sample".to_owned(), (f64::from(traces.sample) / 1e6).into());
        members.insert("accept".to_owned(), accept.map(|(name, _)| name).into());
    }
    shown
}

pub(super) fn metrics(metrics: &Metrics) -> Value {
    let mut shown = logs(&metrics.collector);
    if let Some(members) = shown.as_object_mut() {
        members.insert("interval".to_owned(), show_duration(metrics.interval).into());
    }
    shown
}

pub(super) fn logs(collector: &OtlpCollector) -> Value {
    let endpoint = &collector.endpoint;
    let scheme = if endpoint.is_tls { "https" } else { "http" };
    json!({
        "endpoint": format!("{scheme}://{}{}", endpoint.authority, endpoint.path),
        "ca": collector.ca.as_ref().map(file),
        "headers_file": collector.headers.as_ref().map(file),
        "service": collector.service,
    })
}
