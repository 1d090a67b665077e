//! Reads `[traces]`: which requests are traced, and where their spans are sent.

use super::otlp;
use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, form::described},
    },
    settings::traces::{self, Accept},
};

/// The keys of `[traces]`.
pub(super) const KEYS: Keys = &[
    (
        "endpoint",
        "Where spans are sent by OTLP, protobuf over HTTP: `https://HOST/v1/traces`, or a collector on this host.",
    ),
    ("ca", "The authorities that vouch for the collector's certificate, in PEM. Required for `https`."),
    ("headers_file", "A file with headers of each request, a line each: `Authorization: Bearer TOKEN`."),
    ("sample", "The share of requests that are traced, from 0 to 1. Requests that are answered 5xx are always traced."),
    ("accept", "Whose `traceparent` is continued: that of trusted proxies, of everybody, or of nobody."),
    ("service", "The name of the gateway in traces (`service.name`)."),
];

/// `None`: nothing is traced.
pub(super) fn read(table: Table<'_>, has_admin: bool, reader: &Reader<'_>) -> Option<traces::Settings> {
    let sample = table.or("sample", 0, described("number from 0 to 1", value::share).written(|_| "0.0".to_owned()));
    let accept = table.or("accept", Accept::Trusted, value::choice(&Accept::NAMES));
    let collector = otlp::collector(&table, "traces", has_admin, reader);
    table.finish();
    Some(traces::Settings { collector: collector?, sample, accept })
}
