//! Reads `[traces]`: which requests are traced, and where their spans are sent.

use toml::de::DeValue;

use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{self, address, form::described},
    },
    diagnostic::Diagnostic,
    settings::traces::{Accept, Endpoint, Settings},
};

/// The keys of `[traces]`.
pub(super) const KEYS: Keys = &[
    ("endpoint", "Where spans are sent by OTLP, protobuf over plain HTTP: a collector on this host or in its network."),
    ("sample", "The share of requests that are traced, from 0 to 1. Requests that are answered 5xx are always traced."),
    ("accept", "Whose `traceparent` is continued: that of trusted proxies, of everybody, or of nobody."),
    ("service", "The name of the gateway in traces (`service.name`)."),
];

/// `None`: nothing is traced.
pub(super) fn read(table: Table<'_>, has_admin: bool) -> Option<Settings> {
    if !table.is_present() {
        return None;
    }
    let endpoint = table.required("endpoint", "\"http://127.0.0.1:4318/v1/traces\"", described("URL", endpoint));
    let sample = table.or("sample", 0, described("number from 0 to 1", share).written(|_| "0.0".to_owned()));
    let accept = table.or("accept", Accept::Trusted, value::choice(&Accept::NAMES));
    let service = table.or(
        "service",
        "gateway".to_owned(),
        described("string", value::line).written(|service| format!("{service:?}")),
    );
    if !has_admin {
        let wrong = Diagnostic::bare("needs the observer, which sends the spans");
        table.report("endpoint", wrong.hint("add `[admin]` with `address = \"127.0.0.1:9901\"`"));
    }
    table.finish();
    Some(Settings { endpoint: endpoint?, sample, accept, service })
}

/// In millionths.
fn share(value: &DeValue<'_>) -> Result<u32, Diagnostic> {
    const HINT: &str = "write a share from 0.0 to 1.0: 0.01 is one of a hundred";
    let text = match value {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) => integer.as_str(),
        _ => return Err(Diagnostic::bare(format!("expected a number, found {}", value::kind(value))).hint(HINT)),
    };
    let share: f64 = text.replace('_', "").parse().unwrap_or(f64::NAN);
    if !(0.0..=1.0).contains(&share) {
        return Err(Diagnostic::bare(format!("{text} is out of range")).hint(HINT));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to a million")]
    Ok((share * 1e6).round() as u32)
}

fn endpoint(value: &DeValue<'_>) -> Result<Endpoint, Diagnostic> {
    const HINT: &str = "write the collector's URL: \"http://127.0.0.1:4318/v1/traces\"";
    let text = value::line(value)?;
    let wrong = |what: &str| Diagnostic::bare(format!("{text:?} {what}")).hint(HINT);
    if text.starts_with("https://") {
        return Err(wrong("is HTTPS, which is not supported: run a collector on this host, and let it go on by TLS"));
    }
    let Some(rest) = text.strip_prefix("http://") else { return Err(wrong("is not a URL that begins with http://")) };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, "v1/traces"));
    let path = format!("/{path}");
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains('#') {
        return Err(wrong("has a path that is none"));
    }
    let server = if authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']')) {
        authority.to_owned()
    } else {
        format!("{authority}:4318")
    };
    let server = address::server(&server)?;
    let (host, port) = server.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Endpoint { host, port: port.parse().map_err(|_no_port| wrong("has no port"))?, path })
}
