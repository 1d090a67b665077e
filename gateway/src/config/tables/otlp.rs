//! Reads `[otlp_metrics]` and `[otlp_logs]`, and what they share with `[traces]`: a collector that is spoken to by OTLP.

use std::time::Duration;

use toml::de::DeValue;

use super::certificate;
use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, address, form::described},
    },
    diagnostic::Diagnostic,
    settings::{
        audit::AnchorUrl,
        otlp::{self, Metrics, OtlpCollector},
    },
};

/// The keys of `[otlp_metrics]`.
pub(super) const METRICS_KEYS: Keys = &[
    ("endpoint", "Where metrics are sent by OTLP, protobuf over HTTP: `https://HOST/v1/metrics`."),
    ("ca", "The authorities that vouch for the collector's certificate, in PEM. Required for `https`."),
    ("headers_file", "A file with headers of each request, a line each: `Authorization: Bearer TOKEN`."),
    ("service", "The name of the gateway in metrics (`service.name`)."),
    ("interval", "How often all metrics are sent. They are cumulative: what gets lost is in the next ones."),
];

/// The keys of `[otlp_logs]`.
pub(super) const LOGS_KEYS: Keys = &[
    ("endpoint", "Where decisions of the guard are sent by OTLP as log records: `https://HOST/v1/logs`."),
    ("ca", "The authorities that vouch for the collector's certificate, in PEM. Required for `https`."),
    ("headers_file", "A file with headers of each request, a line each: `Authorization: Bearer TOKEN`."),
    ("service", "The name of the gateway in log records (`service.name`)."),
];

const SECOND: Duration = Duration::from_secs(1);

/// `has_admin`: there is an observer, which sends them.
pub(super) fn read(metrics: Table<'_>, logs: Table<'_>, has_admin: bool, reader: &Reader<'_>) -> otlp::Settings {
    let interval = metrics.or("interval", 60 * SECOND, value::duration_in(SECOND..=3_600 * SECOND));
    let collector = collector(&metrics, "metrics", has_admin, reader);
    metrics.finish();
    let metrics = collector.map(|collector| Metrics { collector, interval });
    let collector = self::collector(&logs, "logs", has_admin, reader);
    logs.finish();
    otlp::Settings { metrics, logs: collector }
}

/// The collector of `signal` that a table names; `None`: there is no table, or it is wrong.
pub(super) fn collector(
    table: &Table<'_>,
    signal: &'static str,
    has_admin: bool,
    reader: &Reader<'_>,
) -> Option<OtlpCollector> {
    let text = |what: &DeValue<'_>| endpoint(value::line(what)?.as_str(), signal);
    let service = described("string", value::line).written(|service: &String| format!("{service:?}"));
    let service = table.or("service", "gateway".to_owned(), service);
    let (ca, headers) = (table.file("ca"), table.file("headers_file"));
    if !table.is_present() {
        return None;
    }
    let endpoint =
        table.required("endpoint", &format!("\"http://127.0.0.1:4318/v1/{signal}\""), described("URL", text));
    if let Some(headers) = &headers {
        certificate::warn_of_mode(headers, table.key("headers_file"), reader);
    }
    if !has_admin {
        let wrong = Diagnostic::bare(format!("needs the observer, which sends the {signal}"));
        table.report("endpoint", wrong.hint("add `[admin]` with `address = \"127.0.0.1:9901\"`"));
    }
    let endpoint = endpoint?;
    match (endpoint.is_tls, &ca) {
        (true, None) if !table.has("ca") => {
            let wrong = Diagnostic::bare("is missing: nobody vouches for the collector");
            table.report("ca", wrong.hint("write, for example, `ca = \"/etc/ssl/certs/ca-certificates.crt\"`"));
        }
        (false, Some(_)) => {
            let wrong = Diagnostic::bare("has no effect without TLS");
            table.report("ca", wrong.hint("leave it out, or write `https://`"));
        }
        _ => {}
    }
    let is_here = endpoint.host == "localhost"
        || endpoint.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    if headers.is_some() && !endpoint.is_tls && !is_here {
        let wrong = Diagnostic::bare("would go over the network as it is: the collector is spoken to without TLS");
        table.report("headers_file", wrong.hint("write `https://`, or run a collector on this host"));
    }
    Some(OtlpCollector { endpoint, ca, headers, service })
}

/// A collector's URL. Without a port it is OTLP's, or that of HTTPS; without a path it is that of the signal.
fn endpoint(text: &str, signal: &str) -> Result<AnchorUrl, Diagnostic> {
    let hint = format!("write the collector's URL: \"http://127.0.0.1:4318/v1/{signal}\"");
    let wrong = |what: &str| Diagnostic::bare(format!("{text:?} {what}")).hint(hint.clone());
    let (is_tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(wrong("is not a URL that begins with http:// or https://")),
    };
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, format!("/v1/{signal}")),
    };
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains('#') {
        return Err(wrong("has a path that is none"));
    }
    if authority.contains('@') {
        return Err(wrong("holds a user name, which is not sent: use `headers_file`"));
    }
    let server = if authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']')) {
        authority.to_owned()
    } else {
        format!("{authority}:{}", if is_tls { 443 } else { 4_318 })
    };
    let server = address::server(&server)?;
    let (host, port) = server.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().map_err(|_no_port| wrong("has no port"))?;
    Ok(AnchorUrl { is_tls, host, port, authority: server, path })
}
