//! Reads `[plan.NAME]`: which principals limits allow something else than everybody.

use super::{
    bandwidth::{PLAN_KEYS, speed},
    issuer::{CLAIMS, conditions},
    limit::allowance,
    quota,
    roles::no_such,
};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, closest, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::{
        authz, bandwidth,
        guard::SourceLimit,
        limit::{Allowance, Limit, Plan, PlanBudget},
    },
};

/// What plans refer to.
pub(super) struct PlanReferences<'a> {
    pub(super) limits: &'a [Limit],
    pub(super) bandwidth: &'a bandwidth::Settings,
    pub(super) roles: &'a authz::Settings,
    pub(super) packet_limit: Option<SourceLimit>,
    /// There are API keys, which may have plans of their own.
    pub(super) with_keys: bool,
}

/// The keys of `[plan.NAME]`.
pub(super) const KEYS: Keys = &[
    ("claims", "Members: clients whose token says all of this, by path: `{ plan = \"gold\" }`."),
    ("roles", "Members: clients with one of these roles."),
    ("principals", "Members: these principals, those of API keys (`key:NAME`) too."),
    ("rank", "Of several plans that a client is a member of, the one with the highest rank counts."),
    (
        "packets",
        "The packets per second that the kernel lets a source send where a member has a connection, in the place of \
         `guard.packet_limit`. At most 1000000.",
    ),
    ("packet_burst", "With `packets`: how many may come at once. Without it: as many as `packets`."),
    ("limits", "What limits allow members, each for itself: `[plan.gold.limits.per-client]`."),
    ("bandwidth", "How many bytes pass for members: `[plan.gold.bandwidth.per-client]`."),
    ("quotas", "The quotas of members, each for itself: `[plan.gold.quotas.monthly]`."),
];

/// The keys of `[plan.NAME.limits.LIMIT]`.
const LIMIT_KEYS: Keys = &[
    (
        "requests",
        "The requests per `per`. Exactly one of `requests`, `units` and `concurrent`, as the limit itself has.",
    ),
    ("units", "The units per `per`."),
    ("concurrent", "The requests in flight at once."),
    ("per", "The period of `requests` or `units`."),
    ("burst", "How much may come at once. Without it: as much as in `per`."),
];

/// The keys of `[plan.NAME.quotas.QUOTA]`.
const QUOTA_KEYS: Keys = &[
    ("requests", "The requests in a period of the quota. Either `requests` or `units`, as the quota itself has."),
    ("units", "The units in a period of the quota."),
];

/// Warns where limits that everybody would meet at once are judged only once a client is known: refused requests of
/// strangers are counted by nobody then.
fn warn_of_late_limits(limits: &[Limit], plans: &[Plan], reader: &Reader<'_>) {
    let is_early = |limit: &&Limit| {
        limit.routes.is_none()
            && limit.weights.is_empty()
            && !limit.by.iter().any(|part| part.needs_identity() || part.needs_route())
            && !limit.shadow
    };
    let is_moved = |limit: &&Limit| {
        limit.except.needs_identity()
            || plans.iter().any(|plan| plan.limits.iter().any(|(name, _)| *name == limit.name))
    };
    let (moved, early): (Vec<_>, Vec<_>) = limits.iter().filter(is_early).partition(is_moved);
    if let Some(limit) = moved.first().filter(|_| early.is_empty()) {
        let warning = Diagnostic::new(
            format!("limit.{}", limit.name),
            "has a plan or excepts principals, so it counts a request only once its client is known: what is answered 401, \
             403 or 404 is counted by no limit",
        );
        reader.warn(warning.hint("add a limit by = [\"address\"] without plans beside it"));
    }
}

/// What the kernel lets a source of a member send.
fn packets(table: &Table<'_>, limit: Option<SourceLimit>, reader: &Reader<'_>) -> Option<(u64, u64)> {
    let packets = table.optional("packets", value::integer(1..=PlanBudget::MOST));
    let burst = table.optional("packet_burst", value::integer(1..=PlanBudget::MOST));
    if table.has("packet_burst") && !table.has("packets") {
        let wrong = Diagnostic::bare("has no effect without `packets`");
        table.report("packet_burst", wrong.hint("write `packets`, too"));
    }
    let packets = packets?;
    if limit.is_none() && !reader.is_reference() {
        let wrong = Diagnostic::bare("takes the place of a budget that there is not");
        table.report("packets", wrong.hint("add [guard.packet_limit]: what the kernel lets everybody send"));
    }
    Some((packets, burst.unwrap_or(packets)))
}

pub(super) fn read(tables: Vec<(String, Table<'_>)>, known: &PlanReferences<'_>, reader: &Reader<'_>) -> Vec<Plan> {
    let PlanReferences { limits, bandwidth: bandwidths, roles, packet_limit, with_keys } = *known;
    let mut plans = Vec::new();
    for (name, table) in tables {
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        let claims = conditions(table.table("claims", CLAIMS), reader);
        let named = table.list("roles", described("role", value::line));
        for (key, role) in named.iter().filter(|(_, role)| !roles.contains_key(role)) {
            reader.report(no_such(role, roles).at(key));
        }
        let principals = values(table.list("principals", described("principal", value::line)));
        let packets = packets(&table, packet_limit, reader);
        let rank = table.or("rank", 0, value::integer(-1_000_000_i64..=1_000_000));
        // With API keys it may be a plan of theirs alone: `gateway key new --plan`.
        if !reader.is_reference() && !with_keys && claims.is_empty() && named.is_empty() && principals.is_empty() {
            let wrong = Diagnostic::new(table.own_key(), "has no members");
            reader.report(wrong.hint("say who has it: `claims = { plan = \"gold\" }`, `roles` or `principals`"));
        }
        let mut own = Vec::new();
        for (limit, table) in table.named_tables("limits", LIMIT_KEYS) {
            let Some(known) = limits.iter().find(|known| known.name == limit && known.quota.is_none()) else {
                // Reads it for the reference, too.
                allowance(&table, None);
                if !reader.is_reference() {
                    let wrong = Diagnostic::new(table.own_key(), format!("there is no limit {limit:?}"));
                    reader.report(match closest(&limit, names(limits, "limit")) {
                        Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                        None => wrong.hint(format!("add [limit.{limit}]: what everybody may do")),
                    });
                }
                continue;
            };
            if let Some(allowance) = allowance(&table, Some(&known.cost)) {
                if std::mem::discriminant(&allowance) != std::mem::discriminant(&known.allowance) {
                    let wrong = Diagnostic::new(table.own_key(), format!("is of another kind than [limit.{limit}]"));
                    reader.report(wrong.hint("a rate stays a rate, a number of requests at once stays one"));
                }
                let most = allowance.most();
                if let Some((route, weight)) = known.weights.iter().find(|(_, weight)| *weight > most) {
                    let what = format!("never lets a request of {route:?} through, which counts {weight}");
                    let wrong = Diagnostic::new(table.own_key(), what);
                    reader.report(
                        wrong.hint(format!("allow at least {weight} at once, or lower [limit.{limit}.weights]")),
                    );
                }
                own.push((limit, allowance));
            }
            table.finish();
        }
        let mut speeds = Vec::new();
        for (name, table) in table.named_tables("bandwidth", PLAN_KEYS) {
            let speed = speed(&table);
            if !bandwidths.has(&name) && !reader.is_reference() {
                let wrong = Diagnostic::new(table.own_key(), format!("there is no bandwidth {name:?}"));
                reader.report(wrong.hint(format!("add [bandwidth.{name}]: what everybody has")));
            }
            table.finish();
            speeds.push((name, speed));
        }
        own.extend(quotas(&table, limits, reader));
        let roles = values(named);
        table.finish();
        plans.push(Plan { name, rank, claims, roles, principals, packets, limits: own, bandwidth: speeds });
    }
    warn_of_late_limits(limits, &plans, reader);
    // Names are in order already: among equals, the first of them counts.
    plans.sort_by_key(|plan| std::cmp::Reverse(plan.rank));
    plans
}

/// What quotas are for the members of a plan.
fn quotas(table: &Table<'_>, limits: &[Limit], reader: &Reader<'_>) -> Vec<(String, Allowance)> {
    let mut own = Vec::new();
    for (name, table) in table.named_tables("quotas", QUOTA_KEYS) {
        let known = limits.iter().find(|known| known.name == name && known.quota.is_some());
        let allowance = quota::allowance(&table, known.map(|known| &known.cost));
        if known.is_none() && !reader.is_reference() {
            let wrong = Diagnostic::new(table.own_key(), format!("there is no quota {name:?}"));
            reader.report(match closest(&name, names(limits, "quota")) {
                Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                None => wrong.hint(format!("add [quota.{name}]: what everybody has")),
            });
        }
        let most = allowance.map_or(u64::MAX, Allowance::most);
        if let Some((route, weight)) = known.iter().flat_map(|known| &known.weights).find(|(_, weight)| *weight > most)
        {
            let what = format!("never lets a request of {route:?} through, which counts {weight}");
            let wrong = Diagnostic::new(table.own_key(), what);
            reader.report(wrong.hint(format!("give at least {weight}, or lower [quota.{name}.weights]")));
        }
        table.finish();
        own.extend(known.and(allowance).map(|allowance| (name, allowance)));
    }
    own
}

/// The names of limits, or of quotas.
fn names<'a>(limits: &'a [Limit], table: &'a str) -> impl Iterator<Item = &'a str> {
    limits.iter().filter(move |limit| limit.table() == table).map(|limit| limit.name.as_str())
}
