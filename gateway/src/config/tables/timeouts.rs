//! Reads `[timeouts]`, and `[route.timeouts]`, which knows some of them, too.

use std::time::Duration;

use crate::{
    config::{reader::Keys, table::Table, value},
    settings::timeouts::Timeouts,
};

/// The keys of `[timeouts]`.
pub(super) const KEYS: Keys = &[
    ("handshake", "The time from accepting a connection to the end of its TLS handshake."),
    ("headers", "The time from a request's first byte to the end of its head."),
    ("idle", "How long a connection may wait without a request."),
    ("body", "The time between two pieces of a request's body."),
    (
        "least_rate",
        "The lowest rate per second of a body, or of a response while the client is waited for. `0` turns this off.",
    ),
    ("connect", "The time to connect to an upstream."),
    ("response", "The time from the end of the request to the head of the upstream's response."),
    ("tunnel_idle", "How long a WebSocket or another tunnel may be idle."),
    ("tunnel", "How long a tunnel may last, however busy."),
];

/// The keys of `[route.timeouts]`.
pub(super) const ROUTE_KEYS: Keys = &[
    ("body", "The time between two pieces of a request's body."),
    (
        "least_rate",
        "The lowest rate per second of a body, or of a response while the client is waited for. `0` turns this off.",
    ),
    ("connect", "The time to connect to an upstream."),
    ("response", "The time from the end of the request to the head of the upstream's response."),
    ("tunnel_idle", "How long a WebSocket or another tunnel may be idle."),
    ("tunnel", "How long a tunnel may last, however busy."),
];

const SECOND: Duration = Duration::from_secs(1);

const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn read(table: Table<'_>) -> Timeouts {
    let seconds =
        |name, default: u32| table.or(name, default * SECOND, value::duration_in(Duration::from_millis(10)..=HOUR));
    let defaults = Timeouts {
        handshake: seconds("handshake", 10),
        headers: seconds("headers", 10),
        idle: seconds("idle", 75),
        body: 30 * SECOND,
        least_rate: 240,
        connect: 5 * SECOND,
        response: 60 * SECOND,
        tunnel_idle: 300 * SECOND,
        tunnel: 24 * HOUR,
    };
    let timeouts = request_timeouts(&table, defaults);
    table.finish();
    timeouts
}

/// Those of a request, which a route can have of its own.
pub(super) fn request_timeouts(table: &Table<'_>, defaults: Timeouts) -> Timeouts {
    let least_rate = table.or("least_rate", defaults.least_rate, value::size_in(0..=(1 << 20)));
    let one = |name, default| table.or(name, default, value::duration_in(Duration::from_millis(10)..=HOUR));
    Timeouts {
        body: one("body", defaults.body),
        least_rate,
        connect: one("connect", defaults.connect),
        response: one("response", defaults.response),
        tunnel_idle: one("tunnel_idle", defaults.tunnel_idle),
        tunnel: table.or("tunnel", defaults.tunnel, value::duration_in(SECOND..=168 * HOUR)),
        ..defaults
    }
}
