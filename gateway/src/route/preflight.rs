//! Finds which routes may take a request of which only its method and the names of its headers are known: what a browser
//! asks before it lets a page make it.

use http::{HeaderMap, HeaderName, Method};

use super::{Routes, condition::Met};
use crate::{
    route::target::Target,
    settings::route::{RouteCondition, Subject},
};

impl Routes {
    /// The routes that a request by `method` may be served by, the one that is asked first at first. `may_have`: whether
    /// it may have a header.
    pub(crate) fn candidates(
        &self,
        target: &Target,
        method: &Method,
        may_have: impl Fn(&HeaderName) -> bool,
    ) -> Vec<usize> {
        let found = self.tables(target.host()).find_map(|table| table.at(target.matched()).ok());
        let query = target.origin().query().unwrap_or_default();
        let mut candidates = Vec::new();
        for served in found.iter().flat_map(|found| found.value).filter(|served| served.takes(method)) {
            let may_be_met = |condition: &RouteCondition| match &condition.subject {
                Subject::Header(name) => may_have(name),
                Subject::Query(_) => condition.is_met(query, &HeaderMap::new()) != Met::No,
            };
            if !served.when.iter().all(may_be_met) {
                continue;
            }
            candidates.push(served.route);
            // Nothing is asked after one that takes the request for sure.
            if !served.when.iter().any(|condition| matches!(condition.subject, Subject::Header(_))) {
                break;
            }
        }
        candidates
    }

    /// A route of the path, whatever else it asks for.
    pub(crate) fn first_of_path(&self, target: &Target) -> Option<usize> {
        let found = self.tables(target.host()).find_map(|table| table.at(target.matched()).ok())?;
        found.value.first().map(|served| served.route)
    }
}
