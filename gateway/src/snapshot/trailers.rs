//! Which trailers of requests no upstream gets: they come too late to be judged.

use std::sync::Arc;

use http::HeaderName;

use crate::{
    policy::validate::{openapi::Contract, route_rules::RouteRules},
    settings::{proxy, route::Route, validate::Api, waf::WafMode},
};

/// The names of headers that the gateway sets or changes by its configuration, or judges. `None`: no trailer passes, as one
/// of another name would be a header that is refused, or that a firewall inspects.
pub(super) fn withheld(
    route: &Route,
    rules: Option<&RouteRules>,
    api: Option<(&Api, &Contract)>,
    settings: &proxy::Settings,
) -> Option<Arc<[HeaderName]>> {
    let api = api.filter(|(api, _)| !api.report_only);
    let waf = route.waf.and_then(|of| settings.wafs.get(of.index));
    if route.refuses_unknown.headers
        || api.is_some_and(|(api, _)| api.refuses_unknown.headers)
        || waf.is_some_and(|waf| waf.mode == WafMode::Enforce)
    {
        return None;
    }
    let mut names = settings.own_headers();
    names.extend(rules.into_iter().flat_map(RouteRules::judged_headers));
    names.extend(api.into_iter().flat_map(|(_, contract)| contract.judged_headers()));
    if let Some(edits) = &route.request_headers {
        names.extend(edits.remove.iter().chain(edits.set.iter().chain(&edits.add).map(|(name, _)| name)).cloned());
    }
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    Some(names.into())
}
