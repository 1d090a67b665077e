//! Explains why each of the other routes does not take a request.

use http::{HeaderMap, Method};

use super::{Routes, condition::Met};
use crate::{route::target::Target, settings::route::Route};

/// What is in a route's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Another of its host and path has more conditions, and is asked first.
    AskedLater,
    /// Its condition of this number is not met.
    Condition(usize),
    /// It is for other hosts.
    Host,
    /// A more exact host has the path.
    LessExact,
    /// A more literal path of the same host decides.
    LessLiteral,
    /// It has the path, for other methods.
    Method,
    /// It is for other paths.
    Path,
}

impl Routes {
    /// What is in the way of each of `routes`, of which these were made; `None`: nothing, it takes the request.
    #[must_use]
    pub fn explain(&self, routes: &[Route], target: &Target, method: &Method, headers: &HeaderMap) -> Vec<Option<Way>> {
        let taken = self.find(target, method, headers).ok();
        let found = self.tables(target.host()).find_map(|table| table.at(target.matched()).ok());
        let deciding: Vec<usize> =
            found.into_iter().flat_map(|found| found.value.iter().map(|served| served.route)).collect();
        let exactness = |route: &Route| match &route.host {
            Some(host) if host.starts_with("*.") => 1,
            Some(_) => 2,
            None => 0,
        };
        let best = deciding.first().and_then(|&index| routes.get(index)).map_or(0, exactness);
        let way = |(index, route): (usize, &Route)| {
            if taken == Some(index) {
                return None;
            }
            // By itself it would be found: what is in its way are the others.
            let alone = Self::new(std::slice::from_ref(route)).unwrap_or_default();
            let query = target.origin().query().unwrap_or_default();
            Some(match alone.tables(target.host()).next().map(|table| table.at(target.matched())) {
                None => Way::Host,
                Some(Err(_)) => Way::Path,
                Some(Ok(_)) if !deciding.contains(&index) && exactness(route) < best => Way::LessExact,
                Some(Ok(_)) if !deciding.contains(&index) => Way::LessLiteral,
                Some(Ok(_)) if !route.methods.is_empty() && !route.methods.contains(method) => Way::Method,
                Some(Ok(_)) => {
                    match route.when.iter().position(|condition| condition.is_met(query, headers) != Met::Yes) {
                        Some(unmet) => Way::Condition(unmet),
                        None => Way::AskedLater,
                    }
                }
            })
        };
        routes.iter().enumerate().map(way).collect()
    }
}
