//! Reads `[upstream.NAME.health]`: how servers are asked whether they are well.

use std::time::Duration;

use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{self, address, form::described},
    },
    diagnostic::Diagnostic,
    settings::upstream::HealthCheck,
};

/// The keys of `[upstream.NAME.health]`.
pub(super) const KEYS: Keys = &[
    ("path", "The path that is requested with GET."),
    ("host", "The `Host` of the request. Without it: the server's own address."),
    ("expect", "The statuses of a healthy server. Empty: 200 to 299."),
    ("interval", "The time between two checks. They are made once per process, not per worker."),
    ("timeout", "How long a check may take."),
    ("healthy", "This many good checks in a row bring a server back."),
    ("unhealthy", "This many failed checks in a row take a server out."),
];

pub(super) fn read(table: Table<'_>) -> Option<HealthCheck> {
    if !table.is_present() {
        return None;
    }
    let path = table.required(
        "path",
        "\"/health\"",
        described("path of a URL", |value| {
            let path = value::line(value)?;
            if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Ok(path);
            }
            Err(Diagnostic::bare(format!("{path:?} is not a path")).hint("write it as it is requested: \"/health\""))
        }),
    );
    let host = table.optional("host", described("host name or address", |value| address::host(value::text(value)?)));
    let expect = table.list("expect", value::integer(100..=599));
    let hour = Duration::from_secs(3_600);
    let interval = table.or("interval", Duration::from_secs(5), value::duration_in(Duration::from_millis(100)..=hour));
    let timeout = table.or("timeout", Duration::from_secs(2), value::duration_in(Duration::from_millis(10)..=hour));
    let healthy = table.or("healthy", 2, value::integer(1..=100));
    let unhealthy = table.or("unhealthy", 3, value::integer(1..=100));
    table.finish();
    let expect = expect.into_iter().map(|(_, status)| status).collect();
    Some(HealthCheck { path: path?, host, expect, interval, timeout, healthy, unhealthy })
}
