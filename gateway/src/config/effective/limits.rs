//! Shows `[limit.NAME]`, `[quota.NAME]` and `[plan.NAME]`.

use serde_json::{Map, Value, json};

use super::tokens::claims;
use crate::{
    config::value::{show_duration, show_size},
    settings::{
        bandwidth, connection_limit,
        limit::{self, Allowance, Cost, Limit, Rate, Speed, quota::WhenFull},
    },
};

/// Those of one table: `limit` or `quota`. `None`: there is none.
pub(super) fn limits(settings: &limit::Settings, table: &str) -> Option<Map<String, Value>> {
    let all = settings.limits.iter().filter(|it| it.table() == table);
    let all: Map<_, _> = all.map(|it| (it.name.clone(), limit(it))).collect();
    (!all.is_empty()).then_some(all)
}

pub(super) fn plans(settings: &limit::Settings) -> Map<String, Value> {
    let plans = settings.plans.iter().map(|plan| {
        let cost = |name: &String| {
            settings.limits.iter().find(|limit| limit.name == *name).map_or(&Cost::Requests, |limit| &limit.cost)
        };
        let of = |is_quota: bool| {
            let all = plan.limits.iter().filter(move |(_, it)| matches!(it, Allowance::Quota(_)) == is_quota);
            let all: Map<_, _> =
                all.map(|(name, it)| (name.clone(), Value::Object(allowance(it, cost(name))))).collect();
            all
        };
        let quotas = of(true);
        let members = json!({
            "claims": claims(&plan.claims),
            "roles": plan.roles,
            "principals": plan.principals,
            "rank": plan.rank,
            "packets": plan.packets.map(|(packets, _)| packets),
            "packet_burst": plan.packets.map(|(_, burst)| burst),
            "bandwidth": (!plan.bandwidth.is_empty())
                .then(|| plan.bandwidth.iter().map(|(name, it)| (name.clone(), speed(it))).collect::<Map<_, _>>()),
            "limits": of(false),
            "quotas": (!quotas.is_empty()).then_some(quotas),
        });
        (plan.name.clone(), members)
    });
    plans.collect()
}

fn allowance(allowance: &Allowance, cost: &Cost) -> Map<String, Value> {
    let members = match allowance {
        Allowance::Concurrent(most) => vec![("concurrent", json!(most))],
        Allowance::Quota(most) => vec![(if *cost == Cost::Requests { "requests" } else { "units" }, json!(most))],
        Allowance::Rate(rate) => vec![
            (if *cost == Cost::Requests { "requests" } else { "units" }, json!(rate.units)),
            ("per", json!(show_duration(rate.per))),
            ("burst", json!(rate.burst)),
        ],
    };
    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(super) fn bandwidths(settings: &bandwidth::Settings) -> Map<String, Value> {
    let mut all: Map<String, Value> = Map::new();
    for (direction, limits) in [("upload", &settings.upload), ("download", &settings.download)] {
        for limit in &limits.limits {
            let Allowance::Rate(rate) = limit.allowance else { continue };
            let known = all.entry(limit.name.clone()).or_insert_with(|| {
                let sources: Vec<String> = limit.except.sources.iter().map(ToString::to_string).collect();
                json!({
                    "by": limit.by.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "routes": limit.routes,
                    "except": (limit.except != Default::default()).then(|| json!({
                        "sources": sources,
                        "principals": limit.except.principals,
                        "roles": limit.except.roles,
                    })),
                    "capacity": limit.capacity,
                })
            });
            if let Value::Object(known) = known {
                known.insert(direction.to_owned(), json!(show_size(rate.units)));
                if rate.burst != rate.units {
                    known.insert("burst".to_owned(), json!(show_size(rate.burst)));
                }
            }
        }
    }
    all
}

fn speed(speed: &Speed) -> Value {
    let rate = |rate: Option<Rate>| rate.map(|rate| show_size(rate.units));
    let both = [speed.upload, speed.download].into_iter().flatten();
    let burst = both.filter(|rate| rate.burst != rate.units).map(|rate| show_size(rate.burst)).next();
    json!({ "upload": rate(speed.upload), "download": rate(speed.download), "burst": burst })
}

pub(super) fn connection_limits(settings: &connection_limit::Settings) -> Map<String, Value> {
    let of = |settings: &limit::Settings, what: &'static str| {
        let limits = settings.limits.iter().map(move |limit| (limit.name.clone(), connection_limit(limit, what)));
        limits.collect::<Vec<_>>()
    };
    let accepted = of(&settings.accepted, "connections");
    accepted.into_iter().chain(of(&settings.handshake, "handshakes")).collect()
}

fn connection_limit(limit: &Limit, what: &str) -> Value {
    let sources: Vec<String> = limit.except.sources.iter().map(ToString::to_string).collect();
    let mut members = allowance(&limit.allowance, &limit.cost);
    if let Some(units) = members.remove("requests") {
        members.insert(what.to_owned(), units);
    }
    members.insert("by".to_owned(), json!(limit.by.first().map(ToString::to_string)));
    members.insert("except".to_owned(), json!(sources));
    members.insert("capacity".to_owned(), json!(limit.capacity));
    members.insert("shadow".to_owned(), json!(limit.shadow));
    Value::Object(members)
}

fn limit(limit: &Limit) -> Value {
    let mut members = allowance(&limit.allowance, &limit.cost);
    let except = &limit.except;
    let sources: Vec<String> = except.sources.iter().map(ToString::to_string).collect();
    let rest = json!({
        "by": limit.by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cost": limit.cost.text(),
        "routes": limit.routes,
        "weights": (!limit.weights.is_empty())
            .then(|| limit.weights.iter().map(|(name, weight)| (name.clone(), json!(weight))).collect::<Map<_, _>>()),
        "except": (*except != Default::default())
            .then(|| json!({ "sources": sources, "principals": except.principals, "roles": except.roles })),
        "capacity": limit.capacity,
        "delay": (!limit.delay.is_zero()).then(|| show_duration(limit.delay)),
        "clamp": limit.clamp.map(|clamp| json!({
            "after": clamp.after,
            "within": show_duration(clamp.within),
            "divide": clamp.divide,
            "for": show_duration(clamp.lasts),
            "shadow": clamp.shadow,
        })),
        "headers": limit.headers,
        "shadow": limit.shadow,
        "shared": limit.shared.then_some(true),
        "per": limit.quota.as_ref().map(|quota| quota.period.to_string()),
        "time_zone": limit.quota.as_ref().map(|quota| &quota.zone_name),
        "warn_at": limit.quota.as_ref().map(|quota| &quota.warn_at),
        "when_full": limit.quota.as_ref().map(|quota| {
            WhenFull::NAMES.iter().find(|(_, when)| *when == quota.when_full).map(|(name, _)| name)
        }),
        "quota_headers": limit.quota.as_ref().filter(|quota| quota.headers.is_sent()).map(|quota| {
            let name = |name: &Option<http::HeaderName>| name.as_ref().map(ToString::to_string);
            let headers = &quota.headers;
            json!({
                "limit": name(&headers.limit),
                "remaining": name(&headers.remaining),
                "reset": name(&headers.reset),
            })
        }),
    });
    if let Value::Object(rest) = rest {
        // A limit says by itself what it is counted per.
        members.extend(rest.into_iter().filter(|(_, value)| !value.is_null()));
    }
    Value::Object(members)
}
