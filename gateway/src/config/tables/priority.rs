//! Reads `[priority.NAME]`: which requests are served first when something runs short.

use super::{limit::no_route, roles::no_such};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, closest, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::{
        authz,
        limit::Plan,
        priority::{MAX_CONFIGURED, PriorityClass},
        route::Route,
    },
};

/// The keys of `[priority.NAME]`.
pub(super) const KEYS: Keys = &[
    (
        "rank",
        "Higher ranks are served first. A request that fits several classes is of the highest. In no class, clients that \
         proved who they are have 0, and others -1.",
    ),
    ("plans", "Clients with one of these plans."),
    ("roles", "Clients with one of these roles."),
    ("principals", "These principals, those of API keys (`key:NAME`) too."),
    ("routes", "Only requests of the routes with these names and tags. Without it: of all routes."),
];

/// What classes refer to.
pub(super) struct PriorityReferences<'a> {
    pub(super) plans: &'a [Plan],
    pub(super) roles: &'a authz::Settings,
    pub(super) routes: &'a [Route],
}

pub(super) fn read(
    tables: Vec<(String, Table<'_>)>,
    known: &PriorityReferences<'_>,
    reader: &Reader<'_>,
) -> Vec<PriorityClass> {
    let mut classes: Vec<PriorityClass> = Vec::new();
    for (name, table) in tables {
        let key = table.own_key().to_owned();
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(&key));
        }
        if matches!(&*name, "authenticated" | "unknown") {
            let wrong = Diagnostic::new(&key, "is the class of requests that are in no other");
            reader.report(wrong.hint("choose another name"));
        }
        let rank = table.or("rank", 1, value::integer(-1_000_000_i64..=1_000_000));
        let plans = table.list("plans", described("name of a plan", value::line));
        for (key, plan) in &plans {
            if !known.plans.iter().any(|known| known.name == *plan) {
                let wrong = Diagnostic::new(key, format!("there is no plan {plan:?}"));
                reader.report(match closest(plan, known.plans.iter().map(|known| known.name.as_str())) {
                    Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                    None => wrong.hint(format!("add [plan.{plan}]: who has it")),
                });
            }
        }
        let roles = table.list("roles", described("role", value::line));
        for (key, role) in roles.iter().filter(|(_, role)| !known.roles.contains_key(role)) {
            reader.report(no_such(role, known.roles).at(key));
        }
        let principals = values(table.list("principals", described("principal", value::line)));
        let routes = table.list("routes", described("name or tag of a route", value::line));
        for (key, name) in &routes {
            if let Some(wrong) = no_route(name, known.routes) {
                reader.report(wrong.at(key));
            }
        }
        let class = PriorityClass {
            name,
            rank,
            plans: values(plans),
            roles: values(roles),
            principals,
            routes: values(routes),
        };
        if !reader.is_reference() && !class.needs_identity() && class.routes.is_empty() {
            let wrong = Diagnostic::new(&key, "has no requests");
            reader.report(wrong.hint("say which: `plans`, `roles`, `principals` or `routes`"));
        }
        table.finish();
        classes.push(class);
    }
    if classes.len() > MAX_CONFIGURED {
        let wrong = Diagnostic::new("priority", format!("there are {} classes", classes.len()));
        reader.report(wrong.hint(format!("there can be {MAX_CONFIGURED}, besides `authenticated` and `unknown`")));
    }
    // Names are in order already: among equals, the first of them counts.
    classes.sort_by_key(|class| std::cmp::Reverse(class.rank));
    classes
}
