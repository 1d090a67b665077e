//! When a limit looks at the requests of a route, and how much each counts.

use crate::settings::{
    limit::{self, KeyPart, Limit, Plan},
    route::Route,
};

/// A moment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The client's address is known, and nothing was read but the head.
    Arrived,
    /// The route is known.
    Routed,
    /// Whoever asks may, and is known where the route asks for it.
    Authorized,
}

/// What one limit counts of the requests of a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    pub(super) limit: usize,
    pub(super) weight: u64,
}

/// The earliest moment at which a limit knows what it looks at.
pub(super) fn moment(limit: &Limit, plans: &[Plan]) -> When {
    let is_in_plan = plans.iter().any(|plan| plan.limits.iter().any(|(name, _)| *name == limit.name));
    if is_in_plan || limit.except.needs_identity() || limit.by.iter().any(KeyPart::needs_identity) {
        When::Authorized
    } else if limit.routes.is_some() || !limit.weights.is_empty() || limit.by.iter().any(KeyPart::needs_route) {
        When::Routed
    } else {
        When::Arrived
    }
}

/// How much a request of `route` counts; `None`: the limit does not look at it.
pub(super) fn weight(limit: &Limit, route: Option<&Route>) -> Option<u64> {
    let Some(route) = route else { return Some(1) };
    if limit.routes.as_ref().is_some_and(|routes| !routes.iter().any(|name| route.is_called(name))) {
        return None;
    }
    weighed(limit, route)
}

/// How much a request of `route` counts where an operation names a limit that does not look at the route; `None`: it does,
/// or the request counts nothing.
fn named(limit: &Limit, route: &Route) -> Option<u64> {
    let is_of_others = limit.routes.as_ref().is_some_and(|routes| !routes.iter().any(|name| route.is_called(name)));
    if is_of_others { weighed(limit, route) } else { None }
}

/// What operations of a route are charged that name a limit, and when.
pub(super) fn charges_by_name(settings: &limit::Settings, route: &Route) -> Box<[(When, Charge)]> {
    let charge = |(at, limit)| {
        let weight = named(limit, route)?;
        Some((moment(limit, &settings.plans), Charge { limit: at, weight }))
    };
    settings.limits.iter().enumerate().filter_map(charge).collect()
}

fn weighed(limit: &Limit, route: &Route) -> Option<u64> {
    // The route's own name says more than a tag.
    let own = limit.weights.iter().find(|(name, _)| route.name.as_ref() == Some(name));
    let weight =
        own.or_else(|| limit.weights.iter().find(|(name, _)| route.is_called(name))).map_or(1, |(_, weight)| *weight);
    (weight > 0).then_some(weight)
}
