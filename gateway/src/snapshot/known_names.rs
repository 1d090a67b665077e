//! The headers and cookies that a route knows without a rule of its own for them.

use http::HeaderName;

use crate::settings::{
    proxy,
    route::{Route, Subject, TokenSource},
};

/// Headers and cookies of requests that a route knows without a rule for them: its other settings name them, or those of
/// all routes.
pub(super) fn known_names(route: &Route, settings: &proxy::Settings) -> (Vec<HeaderName>, Vec<String>) {
    let of_conditions = route.when.iter().filter_map(|condition| match &condition.subject {
        Subject::Header(name) => Some(name.clone()),
        Subject::Query(_) => None,
    });
    let edited = route
        .request_headers
        .iter()
        .flat_map(|edits| edits.remove.iter().chain(edits.set.iter().map(|(name, _)| name)).cloned());
    // No upstream sees what a client says by these.
    let own = settings.own_headers();
    let credentials = settings.auth.api_keys.iter().map(|keys| keys.header.clone());
    let headers = of_conditions.chain(edited).chain(own).chain(credentials).chain(route.pass_headers.iter().cloned());
    let cookies = route.upgrade.iter().flat_map(|upgrade| &upgrade.tokens).filter_map(|token| match token {
        TokenSource::Cookie(name) => Some(name.clone()),
        TokenSource::Protocol => None,
    });
    (headers.collect(), cookies.collect())
}
