//! Which trailers of requests no upstream gets: they come too late to be judged.

use std::sync::Arc;

use http::HeaderName;

use crate::{
    policy::validate::{openapi::Contract, route_rules::RouteRules},
    settings::{proxy, route::Route, validate::Api},
};

/// The names of headers that the gateway sets by its configuration, or judges. `None`: no trailer passes, as one of another
/// name would be a header that is refused.
pub(super) fn withheld(
    route: &Route,
    rules: Option<&RouteRules>,
    api: Option<(&Api, &Contract)>,
    settings: &proxy::Settings,
) -> Option<Arc<[HeaderName]>> {
    let api = api.filter(|(api, _)| !api.report_only);
    if route.refuses_unknown.headers || api.is_some_and(|(api, _)| api.refuses_unknown.headers) {
        return None;
    }
    let mut names = settings.own_headers();
    names.extend(rules.into_iter().flat_map(RouteRules::judged_headers));
    names.extend(api.into_iter().flat_map(|(_, contract)| contract.judged_headers()));
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    Some(names.into())
}
