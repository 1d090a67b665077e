//! Reads `[quota.NAME]`: how much whoever it counts may use up in a period of the calendar.

use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::limit::{COSTS, LimitReferences, MOST, MOST_UNITS, by, cost, except, routes, weights};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{
            self, closest,
            form::described,
            word::{self, simple_name},
        },
    },
    diagnostic::Diagnostic,
    settings::{
        limit::{
            Allowance, Cost, Limit, MAX_LIMITS,
            quota::{Period, Quota, QuotaHeaders, WhenFull},
        },
        route::Route,
    },
    web::header_names::{HeaderKind, kind},
};

/// The keys of `[quota.NAME]`.
pub(super) const KEYS: Keys = &[
    ("by", "What requests must have in common to share a count. What a request lacks is replaced by its address."),
    ("requests", "The requests in a period. A quota has exactly one of `requests` and `units`."),
    ("units", "The units in a period of a `cost` that is not `requests`: a number, or a size of bytes."),
    ("per", "The period, by the calendar. A week begins on Monday."),
    ("time_zone", "Where periods begin: the name of a time zone (IANA), such as `Europe/Berlin`."),
    ("cost", "What is counted. Other than requests, it is charged once the request is over, and may exceed the quota."),
    ("routes", "The names and tags of the routes that count. Without it: every request."),
    ("weights", "How much one request of a route counts, by name or tag: `{ search = 10, status = 0 }`."),
    ("except", "Who is not counted."),
    ("capacity", "The number of keys that are counted at the same time."),
    ("when_full", "What becomes of further keys: they share one count for each part of the table, or are refused."),
    ("warn_at", "Percents of a quota. A key that has used up so much is told in the log, once a period."),
    ("shared", "`true`: all machines of `[cluster]` count together."),
    ("headers", "Whether answers have `RateLimit` and `RateLimit-Policy`."),
    ("quota_headers", "Headers of answers that tell of this quota, by names of your own. Those left out are not sent."),
    ("shadow", "`true` counts what would be refused and serves it."),
];

/// The keys of `[quota.NAME.quota_headers]`.
const HEADER_KEYS: Keys = &[
    ("limit", "Has the quota."),
    ("remaining", "Has what is left of it."),
    ("reset", "Has the time when it begins anew, in seconds since the Unix epoch."),
];

/// What makes an allowance: here and in the quotas of plans.
const ALLOWANCE: [&str; 2] = ["requests", "units"];

/// The longest `by`, in bytes: reports of what was used up have it in them.
const LONGEST_BY: usize = 1_024;

/// The most thresholds of warnings.
const MOST_WARNINGS: usize = 4;

/// Reads the quotas; `limits` are the limits, whose names are taken.
pub(super) fn read(
    tables: Vec<(String, Table<'_>)>,
    limits: &[Limit],
    known: &LimitReferences<'_>,
    reader: &Reader<'_>,
) -> Vec<Limit> {
    let mut quotas: Vec<Limit> = Vec::new();
    for (name, table) in tables {
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        if limits.iter().any(|limit| limit.name == name) {
            let wrong = Diagnostic::new(table.own_key(), format!("has the name of [limit.{name}]"));
            reader.report(wrong.hint("clients are told of both by their names: give each a name of its own"));
        }
        quotas.extend(one(&table, name, known, reader));
        table.finish();
    }
    let many = limits.len() + quotas.len();
    if limits.len() <= MAX_LIMITS && many > MAX_LIMITS {
        let wrong = Diagnostic::new("quota", format!("there are {many} limits and quotas"));
        reader.report(wrong.hint(format!("at most {MAX_LIMITS} are judged")));
    }
    quotas
}

fn one(table: &Table<'_>, name: String, known: &LimitReferences<'_>, reader: &Reader<'_>) -> Option<Limit> {
    let names = counted_routes(table, known.routes);
    let by = by(table, names.as_deref(), known);
    if by.iter().map(|part| part.to_string().len() + 1).sum::<usize>() > LONGEST_BY {
        let wrong = Diagnostic::bare(format!("has over {LONGEST_BY} letters"));
        table.report("by", wrong.hint("write fewer parts"));
    }
    let form = described(COSTS, cost).written(|cost| format!("{:?}", cost.text()));
    let cost = table.or("cost", Cost::Requests, form);
    let allowance = allowance(table, Some(&cost));
    let weights = weights(table, allowance, known.routes, reader);
    let except = except(table);
    let capacity = table.or("capacity", 100_000, value::count(1..=10_000_000));
    let period = table.required("per", "\"month\"", value::choice(&Period::NAMES));
    let form = described("name of a time zone", zone).written(|(name, _)| format!("{name:?}"));
    let (zone_name, zone) = table.or("time_zone", ("UTC".to_owned(), TimeZone::UTC), form);
    let when_full = table.or("when_full", WhenFull::Share, value::choice(&WhenFull::NAMES));
    let mut warn_at = values(table.list_or("warn_at", vec![80_u8], value::integer(1..=100_u8)));
    warn_at.sort_unstable();
    warn_at.dedup();
    if warn_at.len() > MOST_WARNINGS {
        let wrong = Diagnostic::bare(format!("has {} percents", warn_at.len()));
        table.report("warn_at", wrong.hint(format!("write at most {MOST_WARNINGS}")));
    }
    let own = table.table("quota_headers", HEADER_KEYS);
    let header = |name| own.optional(name, described("name of a header", header));
    let headers = QuotaHeaders { limit: header("limit"), remaining: header("remaining"), reset: header("reset") };
    own.finish();
    let (is_told, shadow) = (table.or("headers", true, value::boolean()), table.or("shadow", false, value::boolean()));
    let shared = shared(table, known);
    let quota = Quota { period: period?, zone_name, zone, warn_at, when_full, headers };
    Some(Limit {
        name,
        by,
        allowance: allowance?,
        cost,
        routes: names,
        weights,
        except,
        capacity,
        delay: std::time::Duration::ZERO,
        headers: is_told,
        shadow,
        shared,
        clamp: None,
        quota: Some(quota),
    })
}

/// Whether the machines of a cluster count together.
fn shared(table: &Table<'_>, known: &LimitReferences<'_>) -> bool {
    let shared = table.or("shared", false, value::boolean());
    if shared && !known.is_in_cluster {
        let wrong = Diagnostic::bare("there is nobody to share it with");
        table.report("shared", wrong.hint("configure [cluster], or leave it out"));
    }
    shared
}

/// The routes that count; `None`: every request does.
fn counted_routes(table: &Table<'_>, known: &[Route]) -> Option<Vec<String>> {
    if table.has("routes") {
        return Some(routes(table, known));
    }
    // For the reference alone.
    table.list("routes", described("name or tag of a route", value::line));
    None
}

/// How much there is of what `cost` says; `None`: nothing says so, or it is wrong.
pub(super) fn allowance(table: &Table<'_>, cost: Option<&Cost>) -> Option<Allowance> {
    let is_needed = !ALLOWANCE.iter().any(|key| table.has(key));
    let requests = if is_needed {
        table.required("requests", "100000", value::integer(1..=MOST))
    } else {
        table.optional("requests", value::integer(1..=MOST))
    };
    let units = table.optional("units", value::size_in(1..=MOST_UNITS));
    let is_plain = cost.is_none_or(|cost| *cost == Cost::Requests);
    if table.has("requests") && table.has("units") {
        table.report("units", Diagnostic::bare("cannot be beside `requests`").hint("make it a quota of its own"));
        return None;
    }
    if let Some(cost) = cost.filter(|_| table.has("requests") && !is_plain) {
        let wrong = Diagnostic::bare(format!("a quota of \"{}\" does not count requests", cost.text()));
        table.report("requests", wrong.hint("write `units` instead"));
    }
    if table.has("units") && is_plain && cost.is_some() {
        let wrong = Diagnostic::bare("a quota of requests has no other units");
        table.report("units", wrong.hint("write `requests` instead, or say by `cost` what is counted"));
    }
    requests.or(units).map(Allowance::Quota)
}

/// A time zone, and its name.
pub(super) fn zone(value: &DeValue<'_>) -> Result<(String, TimeZone), Diagnostic> {
    let name = value::line(value)?;
    TimeZone::get(&name).map(|zone| (name.clone(), zone)).map_err(|_unknown| {
        let wrong = Diagnostic::bare(format!("there is no time zone {name:?}"));
        let known: Vec<String> = jiff::tz::db().available().map(|known| known.as_str().to_owned()).collect();
        match closest(&name, known.iter().map(String::as_str)) {
            Some(near) => wrong.hint(format!("did you mean {near:?}?")),
            None => wrong.hint("write its IANA name: \"UTC\", \"Europe/Berlin\", \"America/New_York\""),
        }
    })
}

/// A header that says nothing else.
fn header(value: &DeValue<'_>) -> Result<http::HeaderName, Diagnostic> {
    let name = word::header(value)?;
    let is_own = ["x-", "quota", "ratelimit-"].iter().any(|start| name.as_str().starts_with(start));
    if is_own && kind(name.as_str()) != HeaderKind::Own {
        return Ok(name);
    }
    let wrong = Diagnostic::bare(format!("\"{name}\" may mean something else"));
    Err(wrong.hint("write a name that begins with \"X-\", \"Quota\" or \"RateLimit-\": \"X-Quota-Remaining\""))
}
