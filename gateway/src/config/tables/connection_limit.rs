//! Reads `[connection_limit.NAME]`: how many connections and TLS handshakes a source may make.

use std::time::Duration;

use gateway_common::source::Source;
use toml::de::DeValue;

use super::limit::{address_part, is_one_allowance};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::{
        connection_limit,
        limit::{Allowance, Except, KeyPart, Limit, MAX_LIMITS, Rate},
    },
};

/// The keys of `[connection_limit.NAME]`.
pub(super) const KEYS: Keys = &[
    ("by", "Who shares a counter: an address, or an IPv6 prefix of other than `guard.ipv6_prefix` bits."),
    ("concurrent", "The connections at once. A limit has exactly one of `concurrent`, `connections` and `handshakes`."),
    ("connections", "The new connections per `per`. More are reset."),
    ("handshakes", "The TLS handshakes per `per`. More connections are reset before any of it."),
    ("per", "The period of `connections` or `handshakes`."),
    ("burst", "How many may come at once. Without it: as many as in `per`."),
    ("except", "Addresses and prefixes that are not counted. Trusted proxies and allowlisted sources never are."),
    ("capacity", "The number of counters that are kept at once."),
    ("shadow", "`true` counts what would be refused and serves it."),
];

/// What makes a limit.
const COUNTED: [&str; 3] = ["concurrent", "connections", "handshakes"];

/// The most connections at once, and per `per`.
const MOST: u64 = 1_000_000_000;

pub(super) fn read(tables: Vec<(String, Table<'_>)>, reader: &Reader<'_>) -> connection_limit::Settings {
    let mut settings = connection_limit::Settings::default();
    for (name, table) in tables {
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        let by = table.or(
            "by",
            KeyPart::Address(None),
            described("`\"address\"` or `\"address/48\"`", by)
                .written(|part: &KeyPart| format!("{:?}", part.to_string())),
        );
        let allowance = allowance(&table);
        let source = value::parsed::<Source>("write an address or a prefix: \"192.0.2.7\", \"2001:db8::/32\"");
        let sources = values(table.list("except", described("address or prefix", source)));
        let capacity = table.or("capacity", 100_000, value::count(1..=10_000_000));
        let shadow = table.or("shadow", false, value::boolean());
        let is_handshake = table.has("handshakes");
        table.finish();
        let Some(allowance) = allowance else { continue };
        let kind = if is_handshake { &mut settings.handshake } else { &mut settings.accepted };
        kind.limits.push(Limit {
            by: vec![by],
            except: Except { sources, ..Except::default() },
            shadow,
            ..Limit::plain(name, allowance, capacity)
        });
    }
    for kind in [&settings.accepted, &settings.handshake] {
        if kind.limits.len() > MAX_LIMITS {
            let wrong = Diagnostic::new("connection_limit", format!("there are {} limits", kind.limits.len()));
            reader.report(wrong.hint(format!("at most {MAX_LIMITS} are judged")));
        }
    }
    settings
}

fn by(value: &DeValue<'_>) -> Result<KeyPart, Diagnostic> {
    let text = value::text(value)?;
    address_part(text).ok_or_else(|| {
        Diagnostic::bare(format!("{text:?} is nothing that connections are counted by"))
            .hint("write \"address\", or how many bits of an IPv6 address count, from 16 to 128: \"address/48\"")
    })
}

fn allowance(table: &Table<'_>) -> Option<Allowance> {
    let is_needed = !COUNTED.iter().any(|key| table.has(key));
    let concurrent = if is_needed {
        table.required("concurrent", "100", value::integer(1..=MOST))
    } else {
        table.optional("concurrent", value::integer(1..=MOST))
    };
    let connections = table.optional("connections", value::integer(1..=MOST));
    let handshakes = table.optional("handshakes", value::integer(1..=MOST));
    let day = Duration::from_secs(86_400);
    let per = table.or("per", Duration::from_secs(1), value::duration_in(Duration::from_millis(1)..=day));
    let burst = table.optional("burst", value::integer(1..=MOST));
    is_one_allowance(table, &COUNTED)?;
    if let Some(most) = concurrent {
        return Some(Allowance::Concurrent(most));
    }
    let units = connections.or(handshakes)?;
    let rate = Rate { units, per, burst: burst.unwrap_or(units) };
    if u128::from(units) > per.as_nanos() || rate.pace().is_none() {
        let key = if table.has("connections") { "connections" } else { "handshakes" };
        let wrong = Diagnostic::bare("cannot be counted: more than one per nanosecond, or a burst of over a year");
        table.report(key, wrong.hint("write less, or another `per` or `burst`"));
        return None;
    }
    Some(Allowance::Rate(rate))
}
