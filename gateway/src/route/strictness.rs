//! Whether one route asks for no less of its clients than another.

use std::fmt::Debug;

use crate::settings::{authz::Requirement, route::Route, validate::RefusesUnknown};

/// Whether whoever `route` lets through would be let through by `other`, too, as far as their settings alone tell. Where that
/// is not clear, it is said not to be so. Who may enter comes first: what is inspected counts between routes that ask for the
/// same.
pub(super) fn asks_as_much(route: &Route, other: &Route) -> bool {
    enters_as_hard(route, other) && (!enters_as_hard(other, route) || inspects_as_much(route, other))
}

fn enters_as_hard(route: &Route, other: &Route) -> bool {
    let is_open = other.require == Requirement::Public && !other.follows_document;
    let proves = is_open
        || route.accepted == other.accepted
            && !other.follows_document
            && proves_as_much(&route.require, &other.require);
    let sources = other.sources.is_none() || route.sources == other.sources;
    proves
        && sources
        && has_all(&other.shadow, &route.shadow)
        && has_all(&route.scopes, &other.scopes)
        && has_all(&route.claims, &other.claims)
        && has_all(&route.allow_if, &other.allow_if)
}

fn inspects_as_much(route: &Route, other: &Route) -> bool {
    let same = |one: String, other: String| other == "None" || one == other;
    same(format!("{:?}", route.waf), format!("{:?}", other.waf))
        && same(format!("{:?}", route.api), format!("{:?}", other.api))
        && same(format!("{:?}", route.form), format!("{:?}", other.form))
        && same(format!("{:?}", route.graphql), format!("{:?}", other.graphql))
        && same(format!("{:?}", route.schema), format!("{:?}", other.schema))
        && same(format!("{:?}", route.max_body), format!("{:?}", other.max_body))
        && refuses_as_much(route.refuses_unknown, other.refuses_unknown)
        && (other.content_types.is_empty() || route.content_types == other.content_types)
        && has_all(&route.parameters, &other.parameters)
}

fn refuses_as_much(refuses: RefusesUnknown, other: RefusesUnknown) -> bool {
    (refuses.query || !other.query) && (refuses.headers || !other.headers) && (refuses.cookies || !other.cookies)
}

fn proves_as_much(require: &Requirement, other: &Requirement) -> bool {
    match (require, other) {
        (Requirement::Nobody, _) | (_, Requirement::Public) => true,
        (Requirement::Public, _) | (_, Requirement::Nobody) => false,
        (_, Requirement::Authenticated) | (Requirement::Certificate, Requirement::Certificate) => true,
        (Requirement::Permissions(all), Requirement::Permissions(others)) => has_all(all, others),
        _ => false,
    }
}

/// Whether `all` has each of `some`, as the configuration writes them.
fn has_all<T: Debug>(all: &[T], some: &[T]) -> bool {
    let written: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
    some.iter().all(|one| written.contains(&format!("{one:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_as_much_as_what() {
        use Requirement::{Authenticated, Certificate, Nobody, Permissions, Public};
        let permissions = |names: &[&str]| Permissions(names.iter().map(|&name| name.to_owned()).collect());
        for (require, other, expect) in [
            (permissions(&["items:write"]), Public, true),
            (permissions(&["items:write"]), Authenticated, true),
            (permissions(&["items:write", "a:b"]), permissions(&["a:b"]), true),
            (permissions(&["items:write"]), permissions(&["a:b"]), false),
            (Authenticated, permissions(&["a:b"]), false),
            (Authenticated, Certificate, false),
            (Certificate, Certificate, true),
            (Public, Public, true),
            (Public, Authenticated, false),
            (Nobody, Authenticated, true),
            (Public, Nobody, false),
        ] {
            assert_eq!(proves_as_much(&require, &other), expect, "{require:?} {other:?}");
        }
    }
}
